"""AdvUnlearn (Zhang et al., NeurIPS 2024, arXiv 2405.15234): a text encoder under attack.

Every step first attacks: a soft prefix before the prompt, chosen against the encoder as it is, that
brings the removed concept back. Then the encoder is trained so that the attacked prompt is
predicted as ESD's negative guidance, and benign prompts as before. Denoiser and tokenizer stay as
they are, so the result is a text encoder that any pipe of its class loads.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import (
    Conditions,
    Pipe,
    encode_texts,
    encode_unconditional,
)
from alignguard_train.peers.concept import Concept, Texts, check, examples_of, filled
from alignguard_train.peers.esd import erased_target
from alignguard_train.peers.partly_denoised import partly_denoised, unet_arguments
from alignguard_train.peers.pipes import epsilon_scale


@dataclass(frozen=True, kw_only=True, slots=True)
class AdvUnlearn:
    """Trains the text encoder against soft prefixes; Adam, as published.

    Noisy latents come from the model under training, as in :class:`alignguard_train.peers.esd.ESD`.
    A pipe with several text encoders is refused: the paper trains one.

    Attributes:
        eta: negative guidance of the erased prediction.
        steps: of training; 0 changes nothing.
        batch_size: texts of a step, drawn among the concepts, and benign prompts beside them.
        lr: of Adam.
        retain_weight: of the benign prompts' loss.
        attack_steps: of the inner attack by signed gradients; 1 is the paper's fast variant, which
            publishes 30; 0 trains without attack.
        attack_lr: size of a signed step, in units of the token embeddings' mean absolute value.
        prefix: tokens of the soft prefix.
        sampling_steps: of denoising.
        guidance_scale: of denoising.
        seed: of every random choice.
        texts: ``name`` erases each name; ``examples`` erases it from prompts that contain it.
        template: ``{}`` in it becomes a concept's name.
        retain: benign prompts; empty: the concepts' safe prompts.
    """

    eta: float = 1.0
    steps: int = 1000
    batch_size: int = 1
    lr: float = 1e-5
    retain_weight: float = 0.3
    attack_steps: int = 30
    attack_lr: float = 0.1
    prefix: int = 1
    sampling_steps: int = 50
    guidance_scale: float = 3.0
    seed: int = 0
    texts: Texts = "name"
    template: str = "{}"
    retain: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch_size", "lr", "attack_lr", "prefix", "sampling_steps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("steps", "attack_steps", "retain_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def apply(self, pipe: Pipe, concepts: Sequence[Concept]) -> Pipe:
        """See :class:`alignguard_train.peers.concept.Peer`; deterministic for a seed."""
        check(concepts, self.template)
        epsilon_scale(pipe.scheduler, 0)
        encoder = copy.deepcopy(_only_encoder(pipe))
        trained: Any = copy.copy(pipe)
        trained.text_encoder = encoder
        if not self.steps:
            return trained
        run = _Run(self, pipe, trained, concepts)
        with _trainable(encoder) as parameters:
            optimizer = torch.optim.Adam(parameters, lr=self.lr)
            for _ in range(self.steps):
                loss = run.loss()
                for parameter, own in zip(
                    parameters,
                    torch.autograd.grad(loss, parameters, allow_unused=True),
                    strict=True,
                ):
                    parameter.grad = own
                optimizer.step()
        return trained


class _Run:
    """The losses of one training.

    Args:
        peer: its settings.
        frozen: the pipe as it was.
        trained: the same with the encoder under training.
        concepts: what to erase.
    """

    def __init__(
        self, peer: AdvUnlearn, frozen: Pipe, trained: Pipe, concepts: Sequence[Concept]
    ) -> None:
        self._peer, self._frozen, self._trained = peer, frozen, trained
        names = filled(peer.template, concepts)
        self._prompts = names
        if peer.texts == "examples":
            self._prompts = [unsafe for _, unsafe, _ in examples_of(concepts)]
            names = filled(peer.template, [concept for concept, _, _ in examples_of(concepts)])
        self._names = encode_texts(frozen, names)
        self._plain = encode_texts(frozen, self._prompts)
        self._benign = list(peer.retain) or [safe for one in concepts for _, safe in one.examples]
        if peer.retain_weight and not self._benign:
            raise ValueError("retain is empty and no concept has examples: retain needs prompts")
        self._nothing = encode_unconditional(frozen)
        self._generator = torch.Generator().manual_seed(peer.seed)

    def loss(self) -> Tensor:
        """One step's loss, after its attack: erasing, and what benign prompts lose."""
        erased = self._erasing()
        kept = self._retaining() if self._peer.retain_weight else erased.new_zeros(())
        return erased + self._peer.retain_weight * kept

    def _erasing(self) -> Tensor:
        drawn = self._draw(len(self._prompts))
        prompts = [self._prompts[i] for i in drawn]
        device = self._plain.states.device
        name, plain = (text[drawn.to(device)] for text in (self._names, self._plain))
        latents, t = self._latents(self._trained, prompts)
        with torch.no_grad():
            without = self._nothing.repeat(len(prompts))
            found = [self._predicted(one, latents, t) for one in (without, name, plain)]
        start = found[0] if self._peer.texts == "name" else found[2]
        target = erased_target(start, found[0], found[1], eta=self._peer.eta)
        prefix = self.attacked(prompts, latents, t, found[2])
        states = encode_behind(self._trained, prompts, prefix)
        return self._error(self._predicted(states, latents, t), target, t)

    def attacked(self, prompts: Sequence[str], latents: Tensor, t: Tensor, wanted: Tensor) -> Any:
        """The soft prefix that brings the frozen model's prediction back; None without attack.

        Args:
            prompts: a row each.
            latents: the UNet's input.
            t: timestep.
            wanted: the frozen model's prediction for the prompts.

        Returns:
            Embeddings (rows, prefix, width).
        """
        peer = self._peer
        if not peer.attack_steps:
            return None
        table = _only_encoder(self._trained).get_input_embeddings().weight
        scale = table.detach().abs().mean()
        shape = (len(prompts), peer.prefix, table.shape[1])
        prefix = torch.randn(shape, generator=self._generator).to(table) * table.detach().std()
        for _ in range(peer.attack_steps):
            prefix.requires_grad_(True)
            states = encode_behind(self._trained, prompts, prefix)
            loss = self._error(self._predicted(states, latents, t), wanted, t)
            (gradient,) = torch.autograd.grad(loss, prefix)
            prefix = (prefix - peer.attack_lr * scale * gradient.sign()).detach()
        return prefix

    def _retaining(self) -> Tensor:
        prompts = [self._benign[i] for i in self._draw(len(self._benign))]
        latents, t = self._latents(self._frozen, prompts)
        with torch.no_grad():
            wanted = self._predicted(encode_texts(self._frozen, prompts), latents, t)
        own = encode_behind(self._trained, prompts, None)
        return self._error(self._predicted(own, latents, t), wanted, t)

    def _draw(self, number: int) -> Tensor:
        return torch.randint(number, (self._peer.batch_size,), generator=self._generator)

    def _latents(self, pipe: Pipe, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        return partly_denoised(
            pipe, self._nothing.repeat(len(prompts)), encode_texts(pipe, list(prompts)),
            self._generator, steps=self._peer.sampling_steps,
            guidance_scale=self._peer.guidance_scale,
        )  # fmt: skip

    def _predicted(self, conditions: Conditions, latents: Tensor, t: Tensor) -> Tensor:
        unet: Any = self._frozen.unet
        given = unet_arguments(self._frozen, conditions, latents)
        return unet(latents, t, **given, return_dict=False)[0]

    def _error(self, found: Tensor, wanted: Tensor, t: Tensor) -> Tensor:
        return (epsilon_scale(self._frozen.scheduler, t) * (found - wanted)).pow(2).mean()


def encode_behind(pipe: Pipe, prompts: Sequence[str], prefix: Tensor | None) -> Conditions:
    """Encode prompts behind soft tokens, with gradient.

    The prefix takes the places after the begin token; the last place stays what it is.

    Args:
        pipe: its one text encoder.
        prompts: the end of one that is too long is cut off.
        prefix: embeddings (rows, tokens, width); None: the plain prompts.

    Returns:
        Text states, a row a prompt.

    Raises:
        EngineError: the pipe has no text encoder of its own, or several.
    """
    encoder, tokenizer = _only_encoder(pipe), pipe.tokenizer
    read = tokenizer(
        list(prompts), padding="max_length", max_length=tokenizer.model_max_length,
        truncation=True, return_tensors="pt",
    )  # fmt: skip
    given: dict[str, Any] = {}
    if getattr(encoder.config, "use_attention_mask", False):
        mask = read.attention_mask
        if prefix is not None:
            more = torch.ones(len(mask), prefix.shape[1], dtype=mask.dtype)
            mask = torch.cat([more, mask], dim=1)[:, : mask.shape[1]]
        given["attention_mask"] = mask.to(encoder.device)
    with _behind(encoder.get_input_embeddings(), prefix):
        return Conditions(states=encoder(read.input_ids.to(encoder.device), **given)[0])


@contextmanager
def _behind(table: Any, prefix: Tensor | None) -> Iterator[None]:
    """Put a prefix after the first embedding, within the block."""
    if prefix is None:
        yield
        return

    def hook(_: Any, __: Any, output: Tensor) -> Tensor:
        kept = output[:, 1 : output.shape[1] - prefix.shape[1] - 1]
        return torch.cat([output[:, :1], prefix.to(output), kept, output[:, -1:]], dim=1)

    handle = table.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _only_encoder(pipe: Any) -> Any:
    encoder = getattr(pipe, "text_encoder", None)
    if encoder is None or getattr(pipe, "text_encoder_2", None) is not None:
        raise EngineError("adv_unlearn trains a pipe's one text encoder; this has none or several")
    return encoder


@contextmanager
def _trainable(encoder: Any) -> Iterator[list[Any]]:
    """Every weight of the encoder, as the paper trains it whole."""
    encoder.requires_grad_(True)
    parameters = list(encoder.parameters())
    try:
        yield parameters
    finally:
        encoder.requires_grad_(False)
        for parameter in parameters:
            parameter.grad = None
