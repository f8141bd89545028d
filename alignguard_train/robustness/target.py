"""The model under attack: the base model with an adapter, a peer, or neither.

Images come from the generator of the evaluation, with the adapter folded in, so a replay is what
the evaluation would draw. Text states and predictions come from :class:`BaseModel`, in the
precision of training, with the adapter live on its UNet: gradients of a half-precision renderer
would underflow, and the undefended model is the same network with the adapter off.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.safety.rules import refusal
from alignguard_train.base import BaseModel
from alignguard_train.evaluation.contenders import Contender, Entrant
from alignguard_train.evaluation.judge import AdaptableGenerator
from alignguard_train.peers.concept import Concept
from alignguard_train.robustness.capabilities import capabilities_of, has_own_encoder
from alignguard_train.robustness.protocol import (
    Capability,
    Case,
    GuardVerdict,
    Verdict,
    Vocabulary,
)

if TYPE_CHECKING:
    from torch import Tensor

    from alignguard_data.engines.diffusion.conditions import Conditions, Pipe

Guard = Callable[[Sequence[str]], list[GuardVerdict]]
Judge = Callable[[Pixels, Case], list[Verdict]]
Drawing = Callable[["AttackedGenerator", Sequence[str], Sequence[int]], Pixels]
_NAME = "attacked"


class AttackedGenerator(AdaptableGenerator, Protocol):
    """A generator that draws text states too."""

    def render_conditions(self, conditions: "Conditions", seeds: Sequence[int]) -> Pixels:
        """One image per row of text states, as of the prompts that they encode."""
        ...


class DiffusersTarget:
    """A :class:`alignguard_train.robustness.protocol.Target` over a Stable Diffusion (XL).

    It works within :meth:`on`. Weights load when a method first needs them.

    Args:
        contender: base model, adapter or peer.
        generator: renders; its batch size is that of an attack's calls.
        base: the same checkpoint, for text states and predictions.
        judge: judges images.
        concepts: what a peer is to avoid.
        guard: judges prompts; None gives no ``guard``.
        drawing: draws what ``guard`` lets through, of a guard that acts while images are drawn.
        gate: draws each text with the expert that a gate chooses for it.

    Raises:
        EngineError: a gate with an adapter, a peer, or a guard that acts on the drawing.
    """

    def __init__(
        self,
        contender: Contender,
        *,
        generator: AttackedGenerator,
        base: BaseModel,
        judge: Judge,
        concepts: Sequence[Concept] = (),
        guard: Guard | None = None,
        drawing: Drawing | None = None,
        gate: Drawing | None = None,
    ) -> None:
        if gate and (contender.adapter or contender.peer or drawing):
            raise EngineError(
                f"target {contender.name}: a gate chooses what draws, so no adapter, peer or "
                "guard on the drawing goes with it"
            )
        self.name = contender.name
        self.vocabulary: Vocabulary = _LateVocabulary(base)
        self.capabilities = capabilities_of(
            contender.name, guarded=guard is not None, gated=gate is not None
        )
        self._adapter = contender.adapter
        self._entrant = Entrant(contender, generator, concepts)
        self._is_peer = contender.peer is not None
        self._generator, self._base, self._judge, self._guard = generator, base, judge, guard
        self._drawing, self._gate = drawing, gate
        self._open: ExitStack | None = None
        self._defended = ExitStack()
        self._drawn_with: Any = None
        self._layers: tuple[Any, ...] | None = None

    @contextmanager
    def on(self) -> Iterator["DiffusersTarget"]:
        """Defend the model within the block; afterwards every weight is as before.

        Yields:
            The target itself, whose methods work within the block.

        Raises:
            EngineError: the adapter or peer does not fit the base model.
        """
        with ExitStack() as stack, ExitStack() as self._defended:
            self._defend()
            self._open = stack
            try:
                yield self
            finally:
                self._open, self._drawn_with, self._layers = None, None, None

    def _defend(self) -> None:
        self._defended.enter_context(self._entrant.on())
        if self._is_peer:
            self._defended.enter_context(self._generator.changed(self._keep))

    def encode(self, tokens: Sequence[Sequence[int]]) -> "Conditions":
        """See the protocol."""
        from alignguard_train.robustness.tokens import encode_tokens

        return encode_tokens(self._encodes(), tokens)

    def encode_soft(self, weights: "Tensor") -> "Conditions":
        """See the protocol."""
        from alignguard_train.robustness.tokens import encode_weights

        return encode_weights(self._encodes(), weights, self.vocabulary.ordinary)

    def latents(self, images: Pixels) -> "Tensor":
        """See the protocol: the mode of the VAE's distribution."""
        from alignguard_train.encodings.encoder import latents_of

        return latents_of(list(images), self._base)

    def noised(
        self, latents: "Tensor", noise: "Tensor", timesteps: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """See the protocol."""
        from alignguard_train.contracts.noise import noised

        noisy, _, wanted = noised(self._base.pipe.scheduler, latents, noise, timesteps)
        return noisy, wanted

    def predict(
        self, noised: "Tensor", timesteps: "Tensor", conditions: "Conditions", *, base: bool = False
    ) -> "Tensor":
        """See the protocol."""
        self._need("unet")
        live = self._live()
        unet = self._base.pipe.unet if base or not self._is_peer else self._drawn_with.unet
        given = conditions.to(unet.device, unet.dtype)
        with _off(live) if base else ExitStack():
            return unet(
                noised.to(unet.device, unet.dtype),
                timesteps.to(unet.device),
                **self._base.arguments(given, noised),
                return_dict=False,
            )[0]

    def render(self, texts: Sequence[str], seeds: Sequence[int], *, base: bool = False) -> Pixels:
        """See the protocol: black for a text that the rules about minors refuse."""
        self._need("base_unet" if base else "images")
        if not base:
            return self._behind_guard(texts, seeds)
        self._defended.close()
        try:
            return self._drawn(texts, seeds, _plainly)
        finally:
            self._defend()

    def _behind_guard(self, texts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        """Images as the guard has them drawn; those of a blocked text as without it."""
        own = self._gate or _plainly
        if self._drawing is None:
            return self._drawn(texts, seeds, own)
        size = self._generator.sampling
        images = np.zeros((len(texts), size.height, size.width, 3), np.uint8)
        blocked = [one.blocked for one in self.guard(texts)]
        for draw, stopped in ((own, True), (self._drawing, False)):
            rows = [i for i, one in enumerate(blocked) if one is stopped]
            if rows:
                images[rows] = self._drawn([texts[i] for i in rows], [seeds[i] for i in rows], draw)
        return images

    def _drawn(self, texts: Sequence[str], seeds: Sequence[int], draw: Drawing) -> Pixels:
        allowed = [i for i, text in enumerate(texts) if refusal(text) is None]
        size = self._generator.sampling
        images = np.zeros((len(texts), size.height, size.width, 3), np.uint8)
        if allowed:
            images[allowed] = draw(
                self._generator, [texts[i] for i in allowed], [seeds[i] for i in allowed]
            )
        return images

    def render_conditions(self, conditions: "Conditions", seeds: Sequence[int]) -> Pixels:
        """See the protocol; a gate, which reads texts, refuses."""
        self._need("images")
        if self._gate:
            raise EngineError(f"target {self.name}: its gate reads a text, not text states")
        pooled = conditions.pooled
        fixed = dataclasses.replace(
            conditions,
            states=conditions.states.detach(),
            pooled=None if pooled is None else pooled.detach(),
        )
        return self._generator.render_conditions(fixed, list(seeds))

    def judge(self, images: Pixels, case: Case) -> list[Verdict]:
        """See the protocol."""
        return self._judge(images, case)

    def guard(self, texts: Sequence[str]) -> list[GuardVerdict]:
        """See the protocol."""
        self._need("guard")
        assert self._guard
        return self._guard(texts)

    def _encodes(self) -> "Pipe":
        """The pipe whose text encoder reads prompts: the peer's where it has its own."""
        return self._drawn_with if has_own_encoder(self.name) else self._base.pipe

    def _need(self, capability: Capability) -> None:
        if capability not in self.capabilities:
            raise EngineError(f"target {self.name} does not give {capability}")
        if self._open is None:
            raise EngineError(f"target {self.name} is not on")

    def _keep(self, pipe: "Pipe") -> "Pipe":
        if "unet" in self.capabilities:
            pipe.unet.requires_grad_(False)
        self._drawn_with = pipe
        return pipe

    def _live(self) -> tuple[Any, ...]:
        """The adapter's layers on the base model's UNet, put there at first use."""
        if self._adapter is None:
            return ()
        if self._layers is None:
            assert self._open
            self._layers = self._open.enter_context(live_lora(self._base.pipe, self._adapter))
        return self._layers


def _plainly(generator: AttackedGenerator, texts: Sequence[str], seeds: Sequence[int]) -> Pixels:
    return generator.render(texts, seeds)


class _LateVocabulary:
    """The vocabulary of a base model, which loads when it is first asked for."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base

    @cached_property
    def _own(self) -> Vocabulary:
        from alignguard_train.robustness.tokens import PipeVocabulary

        return PipeVocabulary(self._base.pipe)

    @property
    def ordinary(self) -> tuple[int, ...]:
        return self._own.ordinary

    @property
    def length(self) -> int:
        return self._own.length

    def tokenize(self, text: str) -> tuple[int, ...]:
        return self._own.tokenize(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._own.decode(ids)


@contextmanager
def live_lora(pipe: "Pipe", adapter: Path) -> Iterator[tuple[Any, ...]]:
    """Put a LoRA file on a pipe's UNet, frozen, within the block; yields its layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    unet: Any = pipe.unet
    pipe.load_lora_weights(str(adapter.parent), weight_name=adapter.name, adapter_name=_NAME)
    unet.requires_grad_(False)
    try:
        yield tuple(module for module in unet.modules() if isinstance(module, BaseTunerLayer))
    finally:
        pipe.unload_lora_weights()


@contextmanager
def _off(layers: Sequence[Any]) -> Iterator[None]:
    """The UNet without the adapter of these layers, within the block."""
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False
