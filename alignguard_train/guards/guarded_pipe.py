"""A diffusers pipe behind a guard: the guard decides on every prompt before anything is drawn."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

from PIL import Image

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_train.guards.protocol import Decision, Guard

TEXTS = ("prompt", "prompt_2", "prompt_3")
"""Arguments that hold a text to draw: of SDXL and SD3 the encoders may read different ones."""
EMBEDDINGS = ("prompt_embeds", "prompt_embeds_2", "pooled_prompt_embeds")
STEP_END = "callback_on_step_end"
RANK = {"allow": 0, "soften": 1, "rewrite": 2, "block": 3}


def guarded(pipe: Pipe, guard: Guard) -> "GuardedPipe":
    """Wrap a pipe: it is called as before, and its output says what was decided.

    The pipe itself is unchanged. Attributes and methods other than the call are the pipe's own.

    Args:
        pipe: any diffusers pipe that takes ``prompt``.
        guard: a guard of :func:`alignguard_train.guards.registry.load_guard`, or another.

    Returns:
        A callable in the pipe's place.

    Raises:
        EngineError: the pipe's text encoder is not the one that the guard was made for.
    """
    guard.check(pipe)
    return GuardedPipe(pipe, guard)


class GuardedPipe:
    """Draws what its guard allows; see :func:`guarded`.

    A prompt that is blocked is not drawn: its images are black, as those of diffusers' own safety
    checker, ``nsfw_content_detected`` is true, and ``decisions`` has the reason. The other images
    of the batch are those that the pipe draws without a guard. Embeddings instead of a text are
    refused, as the guard cannot read them.
    """

    def __init__(self, pipe: Pipe, guard: Guard) -> None:
        self._pipe: Any = pipe
        self._guard = guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def __call__(self, prompt: str | Sequence[str] | None = None, **named: Any) -> Any:
        """Decide on every prompt, then draw the batch.

        Args:
            prompt: one prompt or several.
            **named: the pipe's other arguments.

        Returns:
            The pipe's output, with ``decisions`` (one per prompt) and ``nsfw_content_detected``.

        Raises:
            EngineError: embeddings instead of a text, a positional output, or no prompt.
        """
        if given := [name for name in EMBEDDINGS if named.get(name) is not None]:
            raise EngineError(f"the guard reads texts: give prompt, not {', '.join(given)}")
        if prompt is None or named.get("return_dict") is False:
            raise EngineError("a guarded pipe needs prompt, and answers with the pipe's output")
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        decisions, drawn = self._decide(texts, named)
        if all(one.action == "block" for one in decisions):
            return self._nothing(decisions, named)
        softened = [one.action == "soften" for one in decisions]
        arguments = {**named, **drawn}
        if not any(softened):
            return self._watched(arguments, decisions)
        soft: Any = self._guard.soften(self._pipe)
        if all(softened):
            return _marked(soft(**arguments), decisions)
        noise = _states(named.get("generator"))
        plain = self._pipe(**arguments)
        for generator, state in noise:
            generator.set_state(state)  # both draw from the same noise
        return _marked(_merged(plain, soft(**arguments), softened), decisions)

    def _decide(
        self, texts: list[str], named: dict[str, Any]
    ) -> tuple[list[Decision], dict[str, list[str]]]:
        """The strictest decision on each row's texts, and the texts to draw.

        A blocked row is drawn as an empty text and thrown away, so that every other row keeps its
        place, its noise and its arguments.
        """
        given = {"prompt": texts}
        for name in TEXTS[1:]:
            if named.get(name) is not None:
                value = named[name]
                given[name] = [value] * len(texts) if isinstance(value, str) else list(value)
        decided = {name: self._guard.decide(rows) for name, rows in given.items()}
        strictest = [
            max(row, key=lambda one: RANK[one.action])
            for row in zip(*decided.values(), strict=True)
        ]
        drawn = {
            name: [
                "" if row.action == "block" else text if one.prompt is None else one.prompt
                for text, one, row in zip(given[name], decided[name], strictest, strict=True)
            ]
            for name in given
        }
        return strictest, drawn

    def _watched(self, arguments: dict[str, Any], decisions: list[Decision]) -> Any:
        """Draw, with the guard looking at the images if it does."""
        watching = getattr(self._guard, "watching", None)
        each = int(arguments.get("num_images_per_prompt") or 1)
        steps = int(arguments.get("num_inference_steps") or 50)
        texts = [one.prompt or "" for one in decisions for _ in range(each)]
        watch = watching(self._pipe, len(texts), steps, texts) if watching else None
        if watch is None:
            return _marked(self._pipe(**arguments), decisions)
        if arguments.get(STEP_END) is not None:
            raise EngineError(f"this guard looks at images on the way and needs {STEP_END} itself")
        output = self._pipe(**{**arguments, STEP_END: watch.after_step})
        found = watch.look_at(output)
        seen = []
        for i, one in enumerate(decisions):
            reasons = [reason for reason in found[i * each : (i + 1) * each] if reason]
            blocks = bool(reasons) and one.action != "block"
            seen.append(
                dataclasses.replace(one, action="block", prompt=None, reason=reasons[0])
                if blocks
                else one
            )
        return _marked(output, seen)

    def _nothing(self, decisions: list[Decision], named: dict[str, Any]) -> Any:
        each = int(named.get("num_images_per_prompt") or 1)
        images: list[Any] = [self._black(named) for _ in range(each * len(decisions))]
        frames = self._frames(named)
        if frames:
            images = [[one] * frames for one in images]
        return GuardedOutput(
            images=images,
            frames=images if frames else None,
            nsfw_content_detected=[True] * (each * len(decisions)),
            decisions=decisions,
        )

    def _frames(self, named: dict[str, Any]) -> int:
        """Frames of a video pipe's call; 0 for a pipe of images."""
        call = type(self._pipe).__call__
        known = inspect.signature(call).parameters if callable(call) else {}
        if "num_frames" not in known:
            return 0
        return int(named.get("num_frames") or known["num_frames"].default)

    def _black(self, named: dict[str, Any]) -> Image.Image:
        side = int(self._pipe.unet.config.sample_size * self._pipe.vae_scale_factor)
        return Image.new("RGB", (named.get("width") or side, named.get("height") or side))


class GuardedOutput:
    """The output where nothing was drawn: black images and the decisions."""

    def __init__(
        self,
        images: list[Any],
        nsfw_content_detected: list[bool],
        decisions: list[Decision],
        frames: list[Any] | None = None,
    ) -> None:
        self.frames = frames
        self.images, self.nsfw_content_detected = images, nsfw_content_detected
        self.decisions = decisions


def _states(generators: Any) -> list[tuple[Any, Any]]:
    """The generators of a call with their states."""
    each = generators if isinstance(generators, list) else [generators]
    return [(one, one.get_state()) for one in each if one is not None]


def _field(output: Any) -> str:
    for name in ("images", "frames"):
        if getattr(output, name, None) is not None:
            return name
    raise EngineError(f"{type(output).__name__} has neither images nor frames")


def _merged(plain: Any, soft: Any, softened: list[bool]) -> Any:
    """The plain output with the softened rows of the other one."""
    name = _field(plain)
    rows, others = getattr(plain, name), getattr(soft, name)
    each = len(rows) // len(softened)
    for i in range(len(rows)):
        if softened[i // each]:
            rows[i] = others[i]
    return plain


def _marked(output: Any, decisions: list[Decision]) -> Any:
    """The output with blocked rows emptied, and the decisions."""
    name = _field(output)
    rows = getattr(output, name)
    each = len(rows) // len(decisions)
    blocked = [decisions[i // each].action == "block" for i in range(len(rows))]
    for i, empty in enumerate(blocked):
        if empty:
            rows[i] = _emptied(rows[i])
    output.nsfw_content_detected = blocked
    output.decisions = decisions
    return output


def _emptied(row: Any) -> Any:
    """Black in the row's own form: an image, a list of frames, an array or a tensor."""
    if isinstance(row, Image.Image):
        return Image.new(row.mode, row.size)
    return [_emptied(frame) for frame in row] if isinstance(row, list) else row * 0
