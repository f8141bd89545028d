"""Error of an expert's gradient relative to float32, by precision, on a real-size SD 1.5.

Random weights that resemble a trained network where it matters: predictions of unit size with a
mean square error of 0.1, and an adapter moved until the DPO logit is about 1. TF32 and bfloat16 on
a GPU are emulated: inputs and outputs of matrix products, and outputs of blocks, are rounded
forward and backward; the rest is float32.

    python -m benchmarks.training_precision real | tiny <side of the latents> <pairs>

prints a JSON line per variant. ``tiny`` is a network of 0.4 % of the size; it also uses this
machine's native bfloat16.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_data.engines.families.sd15 import StableDiffusion15
from alignguard_train.adapters.live import LiveAdapter, live_adapter
from alignguard_train.contracts.recipes import ExpertRecipe, sd15_expert
from alignguard_train.experts.batches import PairRows
from alignguard_train.experts.objective import objective
from benchmarks import real_size

BETAS = (5000.0, 5.0)
MISSED = 0.1
"""Mean square of prediction minus target; a trained network's is 0.01 to 0.3 by the timestep."""
LOGIT = 1.0
LAST = ("up_blocks.3", "conv_norm_out", "conv_out")
_PRODUCTS = (nn.Linear, nn.Conv2d)
_BLOCKS = (ResnetBlock2D, BasicTransformerBlock, Transformer2DModel, Downsample2D, Upsample2D)


def bfloat16(x: Tensor) -> Tensor:
    """Round to 8 bits of mantissa, as in bfloat16."""
    return x.bfloat16().float()


def tf32(x: Tensor) -> Tensor:
    """Round to 11 bits of mantissa, as in TensorFloat-32 products (nearest, ties to even)."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, to: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.to = to
        return to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.to(grads[0]), None


def round_frozen(unet: nn.Module, to: Callable[[Tensor], Tensor], keep: Sequence[str]) -> None:
    """Round the frozen weights of matrix products in place, except those under ``keep``."""
    for name, module in unet.named_modules():
        if isinstance(module, _PRODUCTS) and not name.startswith(tuple(keep)):
            module.weight.data.copy_(to(module.weight.data))


@contextmanager
def computed_in(
    unet: nn.Module, to: Callable[[Tensor], Tensor], *, blocks: bool, keep: Sequence[str] = ()
) -> Iterator[None]:
    """Round inputs and outputs of products, and with ``blocks`` the outputs of blocks."""
    hooks = []

    def before(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_Rounded.apply(given[0], to), *given[1:])

    def after(module: nn.Module, given: Any, made: Any) -> Any:
        return (
            (_Rounded.apply(made[0], to),) if isinstance(made, tuple) else _Rounded.apply(made, to)
        )

    for name, module in unet.named_modules():
        if keep and name.startswith(tuple(keep)):
            continue
        if isinstance(module, _PRODUCTS):
            hooks.append(module.register_forward_pre_hook(before))
            if blocks:
                hooks.append(module.register_forward_hook(after))
        elif blocks and isinstance(module, _BLOCKS):
            hooks.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Shifted(nn.Module):
    """A UNet with its prediction shifted by a float32 constant, like a trained network's error."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet, self.shift = unet, torch.zeros(())

    def forward(self, *given: Any, **named: Any) -> tuple[Tensor]:
        """The UNet's prediction, shifted."""
        return (self.unet(*given, **named)[0].float() + self.shift,)


def rows_of(pairs: int, side: int) -> list[PairRows]:
    """One pair each, at timesteps from early to late."""
    draw = torch.Generator().manual_seed(1)
    found = []
    for i in range(pairs):

        def latents() -> Tensor:
            return torch.randn(1, 4, side, side, generator=draw)

        states = Conditions(
            states=torch.randn(1, real_size.TOKENS, real_size.WIDTH, generator=draw)
        )
        found.append(
            PairRows(
                chosen=latents(), rejected=latents(), unsafe=states, kept=latents(),
                kept_caption=states, t=torch.tensor([(2 * i + 1) * 500 // pairs]), noise=latents(),
            )
        )  # fmt: skip
    return found


class _Base:
    """What the objective asks of a base model, over a UNet that needs no size."""

    family = StableDiffusion15()

    def __init__(self, unet: nn.Module, scheduler: Any) -> None:
        self.denoiser: Any = unet
        self.pipe = SimpleNamespace(scheduler=scheduler)

    def arguments(self, conditions: Conditions, latents: Tensor) -> dict[str, Any]:
        del latents
        return self.family.arguments(self.denoiser, conditions, height=0, width=0)

    def predict(self, latents: Tensor, t: Tensor, arguments: dict[str, Any]) -> Tensor:
        return self.family.predict(self.denoiser, latents, t, arguments)


class Bench:
    """The UNet with a moved adapter, and each pair's gradient."""

    def __init__(self, unet: nn.Module, side: int, pairs: int, recipe: ExpertRecipe) -> None:
        self.recipe, self.rows = recipe, rows_of(pairs, side)
        self.unet: Any = unet
        scheduler = real_size.scheduler()
        self.whole = Shifted(self.unet)
        self.base: Any = _Base(self.unet, scheduler)
        self.shifts: list[Tensor] = []

    @contextmanager
    def adapted(self) -> Iterator[LiveAdapter]:
        """Use an adapter whose logit at beta 5000 is about 1 on the first pair."""
        with live_adapter(self.base, self.recipe, seed=0) as adapter:
            self.base.denoiser = self.whole
            self._like_trained(adapter)
            scale = 1e-3
            for _ in range(2):  # the margin is about linear in the up matrices
                self._set_up(adapter, scale)
                found = abs(self.margin(adapter, 0)) * BETAS[0] / 2
                scale *= LOGIT / found
            self._set_up(adapter, scale)
            yield adapter
            self.base.denoiser = self.unet

    def _like_trained(self, adapter: LiveAdapter) -> None:
        draw = torch.Generator().manual_seed(2)
        for number, rows in enumerate(self.rows):
            self.shifts.append(torch.zeros(()))
            with torch.no_grad(), adapter.off():
                predicted = self._reference(number)
            if not number:
                out: Any = self.unet.conv_out
                factor = 1 / float(predicted.std())
                out.weight.data *= factor
                out.bias.data *= factor
                predicted = predicted * factor
            missed = MISSED**0.5 * torch.randn(predicted.shape, generator=draw)
            self.shifts[-1] = rows.noise.repeat(2, 1, 1, 1) + missed - predicted

    def _reference(self, number: int) -> Tensor:
        from alignguard_train.experts.objective import _branches

        self.whole.shift = self.shifts[number]
        noisy, t, conditions, _ = _branches(self.base, self.rows[number], self.recipe)
        return self.whole(noisy, t, **self.base.arguments(conditions, noisy))[0]

    def _set_up(self, adapter: LiveAdapter, scale: float) -> None:
        draw = torch.Generator().manual_seed(3)
        for name, parameter in adapter.parameters.items():
            if "lora_B" in name:
                parameter.data.copy_(torch.randn(parameter.shape, generator=draw) * scale)
            # The same adapter for every precision.
            parameter.data.copy_(bfloat16(parameter.data))

    def margin(self, adapter: LiveAdapter, number: int) -> float:
        """The pair's DPO margin."""
        self.whole.shift = self.shifts[number]
        with torch.no_grad():
            return float(objective(self.base, self.rows[number], self.recipe, adapter)[1]["margin"])

    def gradient(self, adapter: LiveAdapter, number: int) -> tuple[float, Tensor]:
        """The pair's margin, and the margin's gradient with respect to all adapter weights."""
        self.whole.shift = self.shifts[number]
        parameters = list(adapter.parameters.values())
        for parameter in parameters:
            parameter.grad = None
        loss, measured = objective(self.base, self.rows[number], self.recipe, adapter)
        loss.backward()
        margin = measured["margin"].double()
        pull = self.recipe.beta / 2 * torch.sigmoid(-self.recipe.beta / 2 * margin)
        whole = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).double()
        return float(margin), whole / -pull


def compared(
    wanted: Sequence[tuple[float, Tensor]], found: Sequence[tuple[float, Tensor]]
) -> dict[str, float]:
    """Relative error and cosine of the batch's gradient at each beta, and the logits' error."""
    figures: dict[str, float] = {}
    for beta in BETAS:
        one, other = _batch(wanted, beta), _batch(found, beta)
        figures[f"error_at_beta_{beta:g}"] = float((other - one).norm() / one.norm())
        figures[f"cosine_at_beta_{beta:g}"] = float(one @ other / (one.norm() * other.norm()))
    off = [(a[0] - b[0]) * BETAS[0] / 2 for a, b in zip(wanted, found, strict=True)]
    figures["logit_error"] = float(torch.tensor(off).pow(2).mean().sqrt())
    pairs = zip(wanted, found, strict=True)
    figures["error_of_a_pairs_direction"] = sum(
        float((b[1] - a[1]).norm() / a[1].norm()) for a, b in pairs
    ) / len(wanted)
    return figures


def _batch(pairs: Sequence[tuple[float, Tensor]], beta: float) -> Tensor:
    margins = torch.tensor([margin for margin, _ in pairs], dtype=torch.float64)
    pull = beta / 2 * torch.sigmoid(-beta / 2 * margins)
    return sum(
        (p * gradient for p, (_, gradient) in zip(pull, pairs, strict=True)), torch.zeros(())
    )


SIDE, PAIRS = 32, 4


def measure(runs: int) -> dict[str, float]:
    """Every variant's figures; measured once, as they are deterministic."""
    torch.set_num_threads(real_size.THREADS)
    return {
        f"{line['variant']} {name}".replace(",", ""): value
        for line in variants("real", SIDE, PAIRS)
        for name, value in line.items()
        if isinstance(value, float)
    }


def tiny_unet() -> UNet2DConditionModel:
    """The same kind of network, small."""
    torch.manual_seed(0)
    made = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=real_size.WIDTH,
        attention_head_dim=8,
        block_out_channels=(32, 32, 64, 64),
        norm_num_groups=8,
    )
    return made.eval().requires_grad_(False)


def variants(size: str, side: int, pairs: int) -> Iterator[dict[str, Any]]:
    """Figures of every variant, float32's own logits first."""
    recipe = ExpertRecipe(
        rank=sd15_expert().rank, beta=BETAS[0], preservation=0.0, gradient_checkpointing=True
    )
    bench = Bench(real_size.unet() if size == "real" else tiny_unet(), side, pairs, recipe)
    with bench.adapted() as adapter:

        def gradients() -> list[tuple[float, Tensor]]:
            return [bench.gradient(adapter, i) for i in range(pairs)]

        wanted = gradients()
        yield {"variant": "float32", "logits": [m * BETAS[0] / 2 for m, _ in wanted]}
        # Each rounds the frozen weights further than the previous one.
        round_frozen(bench.unet, tf32, ())
        with computed_in(bench.unet, tf32, blocks=False):
            yield {"variant": "tf32", **compared(wanted, gradients())}
        round_frozen(bench.unet, bfloat16, LAST)
        with computed_in(bench.unet, bfloat16, blocks=True, keep=LAST):
            yield {"variant": "bfloat16, last blocks float32", **compared(wanted, gradients())}
        round_frozen(bench.unet, bfloat16, ())
        with computed_in(bench.unet, bfloat16, blocks=True):
            yield {"variant": "bfloat16", **compared(wanted, gradients())}
        yield {"variant": "bfloat16 weights, float32 maths", **compared(wanted, gradients())}
        if size == "tiny":
            bench.unet.to(torch.bfloat16)
            for parameter in adapter.parameters.values():
                parameter.data = parameter.data.float()
            bench.rows = [_as_the_model(rows, states_alone=True) for rows in bench.rows]
            yield {"variant": "bfloat16 of this CPU", **compared(wanted, gradients())}
            bench.rows = [_as_the_model(rows, states_alone=False) for rows in bench.rows]
            name = "bfloat16 of this CPU, noise and latents too"
            yield {"variant": name, **compared(wanted, gradients())}


def _as_the_model(rows: PairRows, *, states_alone: bool) -> PairRows:
    low = (torch.device("cpu"), torch.bfloat16)
    names = () if states_alone else ("chosen", "rejected", "kept", "noise")
    return dataclasses.replace(
        rows,
        unsafe=rows.unsafe.to(*low),
        kept_caption=rows.kept_caption.to(*low),
        **{name: getattr(rows, name).to(*low) for name in names},
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in variants(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])):
        print(json.dumps(line), flush=True)
