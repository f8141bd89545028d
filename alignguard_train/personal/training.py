"""Trains the personal adapter through the one trainer: rows of pairs and users, flipped by bans."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import ConditionRows, EncodedPreferences, LatentRows
from alignguard_train.experts.trainer import TrainedModule, train_module
from alignguard_train.personal.adapter import AdapterFacts, PersonalAdapter, cross_attention
from alignguard_train.personal.profile_encoders import Vectors
from alignguard_train.personal.records import SageRow


class PickedRows:
    """Rows of one of two tensors: the second where a row is flipped; read when asked for."""

    def __init__(self, plain: LatentRows, other: LatentRows, pairs: Tensor, flip: Tensor) -> None:
        self._plain, self._other, self._pairs, self._flip = plain, other, pairs, flip

    @property
    def shape(self) -> torch.Size:
        """Shape of all rows together."""
        return torch.Size((len(self._pairs), *self._plain.shape[1:]))

    def __getitem__(self, rows: Any) -> Tensor:
        pairs, flip = self._pairs[rows], self._flip[rows]
        return torch.where(flip[:, None, None, None], self._other[pairs], self._plain[pairs])


class PickedConditions:
    """Conditions of the pair of each row."""

    def __init__(self, conditions: ConditionRows, pairs: Tensor) -> None:
        self._conditions, self._pairs = conditions, pairs

    def __getitem__(self, rows: Any) -> Conditions:
        return self._conditions[self._pairs[rows]]


def personal_preferences(
    encoded: EncodedPreferences,
    pair_ids: Sequence[str],
    rows: Sequence[SageRow],
    vectors: Mapping[str, Tensor],
) -> EncodedPreferences:
    """Encoded pairs as encoded rows of pairs and users.

    Args:
        encoded: the release's train pairs: chosen is the safe side.
        pair_ids: their ids, in order.
        rows: the rows to train on.
        vectors: vector of each user, (width,).

    Returns:
        One row for each of ``rows``; both images and both captions of its pair, swapped where the
        user may see the category.

    Raises:
        IntegrityError: a row's pair is not among the encoded ones.
    """
    places = {pair_id: place for place, pair_id in enumerate(pair_ids)}
    if lost := [row.pair_id for row in rows if row.pair_id not in places]:
        raise IntegrityError(f"the release's encodings lack pair {lost[0]} ({len(lost)} in all)")
    pairs = torch.tensor([places[row.pair_id] for row in rows], dtype=torch.long)
    flip = torch.tensor([not row.banned for row in rows], dtype=torch.bool)

    def sides(one: LatentRows | None, other: LatentRows | None) -> list[PickedRows] | list[None]:
        if one is None or other is None:
            return [None, None]
        return [PickedRows(one, other, pairs, flip), PickedRows(other, one, pairs, flip)]

    chosen, rejected = sides(encoded.chosen, encoded.rejected)
    mirrored = sides(encoded.chosen_flipped, encoded.rejected_flipped)
    assert chosen is not None
    assert rejected is not None
    return EncodedPreferences(
        concepts=[row.concept for row in rows],
        categories=[row.category for row in rows],
        chosen=chosen,
        rejected=rejected,
        unsafe=PickedConditions(encoded.unsafe, pairs),
        safe=PickedConditions(encoded.safe, pairs),
        empty=encoded.empty,
        chosen_flipped=mirrored[0],
        rejected_flipped=mirrored[1],
        about=torch.stack([vectors[row.user_id] for row in rows]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LivePersonal:
    """The adapter in training."""

    adapter: PersonalAdapter

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Every weight by its name."""
        return dict(self.adapter.named_parameters())

    @contextmanager
    def off(self) -> Iterator[None]:
        """The base model within the block; the user's tokens are split off and not read."""
        self.adapter.switch.on = False
        try:
            yield
        finally:
            self.adapter.switch.on = True

    def conditioned(self, conditions: Conditions, about: Tensor | None) -> Conditions:
        """Text states followed by each row's user, in every branch."""
        assert about is not None
        vectors = about.repeat(len(conditions) // len(about), 1)
        states = self.adapter.with_user(conditions.states, vectors)
        return Conditions(states=states, pooled=conditions.pooled)

    def weights(self) -> PersonalAdapter:
        """Copy of the adapter, attached to nothing."""
        copied = PersonalAdapter(self.adapter.facts, self.adapter.layers)
        copied.load_state_dict(self.adapter.state_dict())
        return copied.requires_grad_(False).eval()


def train_personal(
    base: BaseModel,
    encoded: EncodedPreferences,
    recipe: ExpertRecipe,
    facts: AdapterFacts,
    standard: tuple[Vectors, Vectors],
    *,
    seed: int,
    checkpoint: Path,
    progress: Progress | None = None,
    tensorboard: Path | None = None,
) -> TrainedModule[PersonalAdapter]:
    """Train one adapter on rows of pairs and users; resumes from ``checkpoint``.

    Args:
        base: the base model.
        encoded: rows of :func:`personal_preferences`.
        recipe: an expert's recipe; rank and layers do not matter.
        facts: widths, and what the file shall say.
        standard: mean and deviation of the seen users' vectors, (width,) each.
        seed: of the start and of every step.
        checkpoint: file that holds the state of a killed training.
        progress: counts steps.
        tensorboard: folder of every step's scalars.

    Returns:
        The adapter and its history.

    Raises:
        EngineError: see :func:`alignguard_train.experts.trainer.train_module`.
    """

    @contextmanager
    def attach(base: BaseModel, recipe: ExpertRecipe, seed: int) -> Iterator[LivePersonal]:
        unet = base.pipe.unet
        adapter = PersonalAdapter(facts, cross_attention(unet), seed=seed)
        for name, values in zip(("user_mean", "user_deviation"), standard, strict=True):
            adapter.get_buffer(name).copy_(torch.from_numpy(values))
        if recipe.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        try:
            with adapter.attached(base.pipe):
                yield LivePersonal(adapter=adapter.float())  # whatever the base model's precision
        finally:
            unet.disable_gradient_checkpointing()

    return train_module(
        base,
        encoded,
        recipe,
        attach,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
        tensorboard=tensorboard,
    )
