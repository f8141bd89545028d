"""The personal adapter: turns a user's vector into tokens, and every cross-attention reads them.

Two user tokens and a learned null token: with a single token the softmax over one key is always 1,
so the keys K_u would never get a gradient. K_u and V_u start at zero, so a new adapter is the base
model bit for bit.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_train.adapters.lora import read_tensors, write_tensors
from alignguard_train.contracts.noise import seeded
from alignguard_train.personal.attention import PersonalAttention, Switch

WEIGHTS = "personal_adapter.safetensors"
KIND = "alignguard personal adapter 1"
USER_TOKENS = 2
_HEADER = "personal"
_OLD_UNCONDITIONAL = "nobody"  # in the headers of older files

Unconditional = Literal["base", "zero-profile"]
"""What the unconditional branch of guidance gets: no user tokens' effect (``base``), or the tokens
of a vector of zeros, as published (``zero-profile``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterFacts:
    """What a file says besides the weights.

    Attributes:
        user_width: of a user's vector.
        context: of the UNet's text states.
        encoder: name of the profile encoder.
        encoder_version: its version.
        categories: that a ban may have, in the encoder's order.
        unconditional: see :data:`Unconditional`.
        base_model: name and revision of the model that it was trained on.
    """

    user_width: int
    context: int
    encoder: str = "multihot"
    encoder_version: str = ""
    categories: tuple[str, ...] = ()
    unconditional: Unconditional = "base"
    base_model: str = ""


class PersonalAdapter(nn.Module):
    """Projection of a vector to tokens, and K_u, V_u of every ``attn2`` layer.

    Args:
        facts: widths, and what a file says.
        layers: width of each ``attn2`` layer by its name in the UNet.
        seed: of the projection and the null token; the rest starts at zero.
    """

    user_mean: Tensor
    user_deviation: Tensor

    def __init__(self, facts: AdapterFacts, layers: Mapping[str, int], *, seed: int = 0) -> None:
        super().__init__()
        self.facts, self.layers = facts, dict(layers)
        width, context = facts.user_width, facts.context
        self.project = nn.Linear(width, USER_TOKENS * context)
        self.norm = nn.LayerNorm(context)
        self.null = nn.Parameter(torch.empty(1, context))
        self.keys = nn.ModuleDict(_zeros(context, self.layers))
        self.values = nn.ModuleDict(_zeros(context, self.layers))
        self.register_buffer("user_mean", torch.zeros(width))
        self.register_buffer("user_deviation", torch.ones(width))
        self.switch = Switch(tokens=USER_TOKENS + 1)
        drawn = seeded("personal", seed, 0)
        with torch.no_grad():
            self.project.weight.normal_(std=width**-0.5, generator=drawn)
            self.project.bias.zero_()
            self.null.normal_(generator=drawn)

    def tokens(self, vectors: Tensor) -> Tensor:
        """A user's tokens and the null token.

        Args:
            vectors: of users, as the profile encoder gives them, (rows, width).

        Returns:
            (rows, 3, context).

        Raises:
            EngineError: the vectors have another width.
        """
        if vectors.shape[-1] != self.facts.user_width:
            raise EngineError(
                f"a user's vector must have width {self.facts.user_width} ({self.facts.encoder} of "
                f"{len(self.facts.categories)} categories), got {vectors.shape[-1]}"
            )
        given = vectors.to(self.null.device, self.null.dtype)
        return self._tokens((given - self.user_mean) / self.user_deviation)

    def _tokens(self, standard: Tensor) -> Tensor:
        rows = len(standard)
        users = self.norm(self.project(standard).view(rows, USER_TOKENS, self.facts.context))
        return torch.cat([users, self.null.expand(rows, 1, -1)], dim=1)

    def with_user(self, states: Tensor, vectors: Tensor) -> Tensor:
        """Text states followed by the user's tokens.

        Args:
            states: of prompts, (rows, tokens, context).
            vectors: one user for all rows, (width,), or one for each, (rows, width).

        Returns:
            (rows, tokens + 3, context), in the states' type.
        """
        found = self.tokens(vectors.reshape(-1, vectors.shape[-1])).to(states)
        return torch.cat([states, found.expand(len(states), -1, -1)], dim=1)

    def without_user(self, states: Tensor) -> Tensor:
        """Text states of the unconditional branch, as many tokens as with a user.

        Args:
            states: of the negative prompt, (rows, tokens, context).

        Returns:
            (rows, tokens + 3, context), in the states' type.
        """
        if self.facts.unconditional == "base":  # K_u 0 = V_u 0 = 0: exactly no effect
            found = states.new_zeros(1, self.switch.tokens, self.facts.context)
        else:
            found = self._tokens(self.null.new_zeros(1, self.facts.user_width)).to(states)
        return torch.cat([states, found.expand(len(states), -1, -1)], dim=1)

    def attach(self, pipe: Any) -> "PersonalAdapter":
        """Put the adapter on a diffusers pipe's UNet; texts without a user render as before.

        Args:
            pipe: a Stable Diffusion (XL) pipe.

        Returns:
            This adapter, on the UNet's device and in its type.

        Raises:
            EngineError: it was made for another UNet.
        """
        wanted = cross_attention(pipe.unet)
        if wanted != self.layers or pipe.unet.config.cross_attention_dim != self.facts.context:
            odd = sorted(set(wanted.items()) ^ set(self.layers.items()))[:2]
            raise EngineError(
                f"the personal adapter is of another UNet: context {self.facts.context} against "
                f"{pipe.unet.config.cross_attention_dim}, layers {odd or 'alike'}"
            )
        self.switch.text_length = pipe.tokenizer.model_max_length
        for name in self.layers:
            layer = pipe.unet.get_submodule(name)
            layer.set_processor(self._processor(name))
        return self.to(pipe.unet.device, pipe.unet.dtype)

    @contextmanager
    def attached(self, pipe: Any) -> Iterator[None]:
        """:meth:`attach` within the block; then the layers have their own processors again.

        Args:
            pipe: a Stable Diffusion (XL) pipe.

        Yields:
            Nothing.
        """
        layers = [pipe.unet.get_submodule(name) for name in cross_attention(pipe.unet)]
        before = [layer.processor for layer in layers]
        try:
            self.attach(pipe)
            yield
        finally:
            for layer, processor in zip(layers, before, strict=True):
                layer.set_processor(processor)

    def _processor(self, name: str) -> PersonalAttention:
        key, value = self.keys[_key(name)], self.values[_key(name)]
        assert isinstance(key, nn.Linear)
        assert isinstance(value, nn.Linear)
        return PersonalAttention(key, value, self.switch)


def check_has_unet(pipe: Any, name: str) -> None:
    """Refuse a model without UNet, whose attention is joint.

    Args:
        pipe: the model's.
        name: the model's.

    Raises:
        EngineError: the pipe has no UNet.
    """
    if getattr(pipe, "unet", None) is None:
        raise EngineError(
            f"personal: {name} ({type(pipe).__name__}) has no UNet, and the personal adapter needs "
            "a UNet's cross-attention: Stable Diffusion 1.5, 2.1 or XL"
        )


def cross_attention(unet: Any) -> dict[str, int]:
    """Width of every ``attn2`` layer by its name."""
    return {
        name: module.to_q.out_features
        for name, module in unet.named_modules()
        if name.endswith(".attn2")
    }


def _key(name: str) -> str:
    return name.replace(".", "/")  # torch allows no dot in a module's name


def _zeros(context: int, layers: Mapping[str, int]) -> dict[str, nn.Linear]:
    made = {_key(name): nn.Linear(context, width, bias=False) for name, width in layers.items()}
    for layer in made.values():
        nn.init.zeros_(layer.weight)
    return made


def save_personal(adapter: PersonalAdapter, path: Path) -> None:
    """Write an adapter as safetensors; equal weights and facts give equal bytes.

    Args:
        adapter: to write.
        path: the file.
    """
    tensors = {
        name: tensor.detach().float().cpu().contiguous()
        for name, tensor in sorted(adapter.state_dict().items())
    }
    facts = {"kind": KIND, "layers": adapter.layers, **asdict(adapter.facts)}
    write_tensors(tensors, path, {_HEADER: json.dumps(facts, sort_keys=True)})


def load_personal(path: Path) -> PersonalAdapter:
    """Read an adapter, float32 on the CPU.

    Args:
        path: a file of :func:`save_personal`.

    Returns:
        The adapter, attached to nothing.

    Raises:
        IntegrityError: the file cannot be read or is not a personal adapter.
    """
    tensors = read_tensors(path)
    with safe_open(path, "pt") as file:
        header = (file.metadata() or {}).get(_HEADER, "{}")
    facts = json.loads(header)
    if facts.pop("kind", None) != KIND:
        raise IntegrityError(f"{path} is not a personal adapter (its header has no {KIND!r})")
    layers = facts.pop("layers")
    facts["categories"] = tuple(facts["categories"])
    if _OLD_UNCONDITIONAL in facts:
        facts["unconditional"] = facts.pop(_OLD_UNCONDITIONAL)
    adapter = PersonalAdapter(AdapterFacts(**facts), layers)
    try:
        adapter.load_state_dict(tensors)
    except RuntimeError as error:
        raise IntegrityError(f"{path} does not hold its own layers: {error}") from error
    return adapter.requires_grad_(False).eval()
