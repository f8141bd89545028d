"""Erased Stable Diffusion, variant u (Gandikota et al., ICCV 2023, arXiv 2303.07345).

Trains everything outside cross-attention until the prediction for a concept's text equals negative
guidance. Needs no images: x_t comes from the model itself.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alignguard_data.engines.diffusion.conditions import (
    Conditions,
    Pipe,
    concatenated,
    encode_texts,
    encode_unconditional,
)
from alignguard_train.peers.concept import Concept, Texts, check, examples_of, filled
from alignguard_train.peers.partly_denoised import partly_denoised, unet_arguments
from alignguard_train.peers.pipes import epsilon_scale, with_unet


def erased_target(start: Tensor, without: Tensor, given: Tensor, *, eta: float) -> Tensor:
    """The target ``start`` - eta (e*(x_t, c) - e*(x_t)), predictions of the frozen model.

    The paper's objective, with start e*(x_t). The authors' later code also starts from the
    prediction for a prompt that contains the concept.

    The weights add up to 1, so it also holds for v.
    """
    return start - eta * (given - without)


@dataclass(frozen=True, kw_only=True, slots=True)
class ESD:
    """Trains the network to predict away from concepts; Adam, as published.

    x_t comes from the model under training, denoised up to a random one of ``sampling_steps`` with
    ``guidance_scale``.

    Attributes:
        eta: negative guidance.
        steps: of training.
        batch_size: texts of a step, drawn among the concepts.
        lr: of Adam.
        sampling_steps: of denoising.
        guidance_scale: of denoising.
        seed: of every random choice.
        texts: ``name`` erases each name; ``examples`` erases it from prompts that contain it.
        template: ``{}`` in it becomes a concept's name.
    """

    eta: float = 1.0
    steps: int = 1000
    batch_size: int = 1
    lr: float = 1e-5
    sampling_steps: int = 50
    guidance_scale: float = 3.0
    seed: int = 0
    texts: Texts = "name"
    template: str = "{}"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "sampling_steps", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def apply(self, pipe: Pipe, concepts: Sequence[Concept]) -> Pipe:
        """See :class:`alignguard_train.peers.concept.Peer`; deterministic for a seed."""
        check(concepts, self.template)
        epsilon_scale(pipe.scheduler, 0)
        names = filled(self.template, concepts)
        prompts = names
        if self.texts == "examples":
            prompts = [unsafe for _, unsafe, _ in examples_of(concepts)]
            names = filled(self.template, [concept for concept, _, _ in examples_of(concepts)])
        texts = encode_texts(pipe, names), encode_texts(pipe, prompts)
        erased = with_unet(pipe, copy.deepcopy(pipe.unet))
        generator = torch.Generator().manual_seed(self.seed)
        with _trainable(erased.unet) as parameters:
            optimizer = torch.optim.Adam(parameters, lr=self.lr)
            for _ in range(self.steps):
                optimizer.zero_grad(set_to_none=True)
                self._loss(pipe, erased, texts, generator).backward()
                optimizer.step()
        return erased

    def _loss(
        self,
        frozen: Pipe,
        erased: Pipe,
        texts: tuple[Conditions, Conditions],
        generator: torch.Generator,
    ) -> Tensor:
        drawn = torch.randint(len(texts[0]), (self.batch_size,), generator=generator)
        name, prompt = (text[drawn.to(text.states.device)] for text in texts)
        without = encode_unconditional(frozen).repeat(self.batch_size)
        latents, t = partly_denoised(
            erased, without, prompt, generator,
            steps=self.sampling_steps, guidance_scale=self.guidance_scale,
        )  # fmt: skip
        unet: Any = frozen.unet
        asked = unet_arguments(frozen, concatenated([without, name, prompt]), latents)
        with torch.no_grad():
            found = unet(latents.repeat(3, 1, 1, 1), t, **asked, return_dict=False)[0].chunk(3)
        start = found[0] if self.texts == "name" else found[2]
        target = erased_target(start, found[0], found[1], eta=self.eta)
        trained: Any = erased.unet
        own = unet_arguments(erased, prompt, latents)
        predicted = trained(latents, t, **own, return_dict=False)[0]
        k = epsilon_scale(frozen.scheduler, t)
        return (k * (predicted - target)).pow(2).mean()


def outside_cross_attention(unet: nn.Module) -> list[nn.Parameter]:
    """The parameters that variant u trains.

    Those of linear and convolution layers that are not in cross-attention (`attn2`).
    """
    return [
        parameter
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and "attn2" not in name
        for parameter in module.parameters(recurse=False)
    ]


@contextmanager
def _trainable(unet: nn.Module) -> Iterator[list[nn.Parameter]]:
    unet.requires_grad_(False)  # the rest gets no gradient
    parameters = outside_cross_attention(unet)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield parameters
    finally:
        unet.requires_grad_(False)
        for parameter in parameters:
            parameter.grad = None
