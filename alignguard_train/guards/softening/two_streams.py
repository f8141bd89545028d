"""Two streams of latents from one noise, mixed after every step of diffusers' own call.

    z_u <- (1 - w) z_u + w z_s;  z_s goes on by itself

Until the share ``context`` of the steps, z_s is z_u. The safe stream does not depend on the other,
so it is drawn first and its latents are kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError

Counterparts = Callable[[Sequence[str]], tuple[list[str], Tensor]]
STEP_END = "callback_on_step_end"


class TwoStreams:
    """A pipe's call with the safe counterparts mixed in.

    Args:
        pipe: any diffusers pipe with ``callback_on_step_end``.
        counterparts: safe texts and weights (prompts,) of prompts.
        context: share of the steps before the streams part.
    """

    def __init__(self, pipe: Any, counterparts: Counterparts, context: float) -> None:
        self._pipe, self._counterparts, self._context = pipe, counterparts, context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def __call__(self, prompt: str | Sequence[str], **named: Any) -> Any:
        """Draw the prompts; see the pipe's own call.

        Args:
            prompt: one or several.
            **named: of the pipe's call.

        Returns:
            The pipe's output.

        Raises:
            EngineError: the caller gives ``callback_on_step_end``, which the mixing needs.
        """
        if named.get(STEP_END) is not None:
            raise EngineError(f"mix: latent needs {STEP_END} itself")
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        safe, weights = self._counterparts(texts)
        generators = _generators(named)
        states = [(one, one.get_state()) for one in generators]

        def draw(which: list[str], change: Callable[[int, Tensor], Tensor], **more: Any) -> Any:
            for generator, state in states:
                generator.set_state(state)

            def after(pipe: Any, step: int, t: Any, found: dict[str, Tensor]) -> dict[str, Tensor]:
                return {"latents": change(step, found["latents"])}

            return self._pipe(prompt=which, **{**named, **more, STEP_END: after})

        early: list[Tensor] = []
        late: list[Tensor] = []
        shared = int(self._context * named.get("num_inference_steps", 50))
        if shared:
            draw(texts, lambda step, z: _kept(early, z), output_type="latent")
        draw(
            safe,
            lambda step, z: _kept(late, early[step] if step < shared else z),
            output_type="latent",
        )
        w = weights.repeat_interleave(int(named.get("num_images_per_prompt") or 1))

        def mixed(step: int, z: Tensor) -> Tensor:
            own = w.to(z).view(-1, *[1] * (z.dim() - 1))
            return z if step < shared else (1 - own) * z + own * late[step]

        return draw(texts, mixed)


def _kept(where: list[Tensor], z: Tensor) -> Tensor:
    where.append(z)
    return z


def _generators(named: dict[str, Any]) -> list[torch.Generator]:
    """The call's generators; a new one where it has none, as both streams need the same noise."""
    given = named.get("generator")
    if given is None:
        given = torch.Generator().manual_seed(int(torch.randint(2**62, ()).item()))
        named["generator"] = given
    return given if isinstance(given, list) else [given]
