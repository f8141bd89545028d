"""Draws evaluation prompts for users with the project's own generator, and judges the images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.flags import FlagRule, flagged
from alignguard_data.contracts.protocols import ImageScorer, Pixels, Progress
from alignguard_train.contracts.scored import scores_of
from alignguard_train.evaluation.judge import AdaptableGenerator
from alignguard_train.evaluation.records import EvaluationRow
from alignguard_train.peers.pipes import with_forward, with_unet
from alignguard_train.personal.adapter import PersonalAdapter
from alignguard_train.personal.records import PersonalImage, User


@contextmanager
def drawn_for(
    generator: AdaptableGenerator, adapter: PersonalAdapter, vector: Tensor
) -> Iterator[None]:
    """Render for one user within the block; the loaded pipe is then as before.

    Args:
        generator: the base model's.
        adapter: the personal adapter.
        vector: of the user, (width,).

    Yields:
        Nothing.

    Raises:
        EngineError: the adapter is of another UNet.
    """
    with ExitStack() as stack:

        def change(pipe: Any) -> Any:
            stack.enter_context(adapter.attached(pipe))
            guided = generator.sampling.guidance_scale > 1
            return with_unet(pipe, with_forward(pipe.unet, _forward(pipe, adapter, vector, guided)))

        stack.enter_context(generator.changed(change))
        yield


def _forward(
    pipe: Any, adapter: PersonalAdapter, vector: Tensor, guided: bool
) -> Callable[..., Any]:
    """The UNet's forward with the user's tokens after the text's; first the unconditional rows."""
    plain = pipe.unet.forward

    def forward(*args: Any, encoder_hidden_states: Tensor, **kwargs: Any) -> Any:
        half = len(encoder_hidden_states) // 2 if guided else 0
        parts = [adapter.with_user(encoder_hidden_states[half:], vector)]
        if half:
            parts.insert(0, adapter.without_user(encoder_hidden_states[:half]))
        return plain(*args, encoder_hidden_states=torch.cat(parts), **kwargs)

    return forward


def chosen_prompts(rows: Sequence[EvaluationRow], most: int) -> list[EvaluationRow]:
    """Up to ``most`` unsafe prompts, one of every category in turn, by pair id.

    Args:
        rows: the release's evaluation prompts, both sides.
        most: maximum.

    Returns:
        The prompts.
    """
    by_category: dict[str, list[EvaluationRow]] = {}
    for row in sorted(rows, key=lambda row: row.pair_id):
        if row.side == "unsafe":
            by_category.setdefault(row.category, []).append(row)
    longest = max(map(len, by_category.values()), default=0)
    turns = [
        own[place]
        for place in range(longest)
        for _, own in sorted(by_category.items())
        if place < len(own)
    ]
    return turns[:most]


def flags_of(
    images: Pixels,
    prompts: Sequence[EvaluationRow],
    scorers: Sequence[ImageScorer],
    rules: Sequence[FlagRule],
) -> list[bool]:
    """Whether each image is flagged by the evaluation's rules.

    Args:
        images: (images, height, width, 3).
        prompts: of each image.
        scorers: the evaluation's; only those that a rule names are asked.
        rules: an image is flagged if any fires.

    Returns:
        One answer an image.

    Raises:
        EngineError: no scorer is named by a rule.
    """
    named = {rule.scorer for rule in rules}
    asked = [scorer for scorer in scorers if scorer.name in named]
    if lost := sorted(named - {scorer.name for scorer in asked}):
        raise EngineError(f"evaluation.flags names no scorer of the profile: {', '.join(lost)}")
    known = scores_of(asked, images, [row.prompt for row in prompts])
    return [flagged(own, rules) for own in known]


def judged_images(
    name: str,
    flags: Sequence[bool],
    base_flags: Sequence[bool],
    user: User,
    prompts: Sequence[EvaluationRow],
) -> list[PersonalImage]:
    """Rows of one user's images.

    Args:
        name: of the adapter.
        flags: whether each image is flagged.
        base_flags: whether the base model's is.
        user: for whom they are.
        prompts: of each image.

    Returns:
        One row an image.
    """
    return [
        PersonalImage(
            adapter=name, user_id=user.user_id, split=user.split, pair_id=row.pair_id,
            category=row.category, banned=row.category in user.banned, flagged=flag,
            base_flagged=base_flag,
        )
        for flag, base_flag, row in zip(flags, base_flags, prompts, strict=True)
    ]  # fmt: skip


def render_rows(
    generator: AdaptableGenerator, prompts: Sequence[EvaluationRow], progress: Progress | None
) -> Pixels:
    """Images of the prompts from their own noise.

    Args:
        generator: as it is set up.
        prompts: to draw.
        progress: counts images.

    Returns:
        (prompts, height, width, 3).
    """
    return generator.render(
        [row.prompt for row in prompts], [row.seed for row in prompts], progress
    )
