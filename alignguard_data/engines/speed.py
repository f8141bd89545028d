"""How a device does the same rendering faster: the choices, and what ``auto`` means on each device.

Free of torch, so that profiles can be read at once. `python -m benchmarks --only speed_fields`
measures every choice on the device that is there.
"""

from dataclasses import dataclass
from typing import Literal

Attention = Literal["auto", "native", "flash", "efficient", "cudnn", "math"]
Quantization = Literal["none", "float8"]
Switch = bool | Literal["auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Choices for the device; ``auto`` takes the device's line of :data:`DEFAULTS`.

    ``compile`` compiles the UNet once (batches have one size, so nothing is compiled again);
    ``attention`` picks PyTorch's kernel (``native`` leaves it to PyTorch); ``channels_last`` lays
    convolutions' weights out so; slicing lowers the VAE's peak memory. These change last bits at
    the most. Two change the image, and so the model's revision, and are never taken by ``auto``:
    ``vae_tiling`` decodes in tiles whose seams are blended, which saves memory on large images;
    ``quantization`` ``float8`` keeps the UNet's weights in 8 bits and computes in the model's
    precision. The attention projections, which adapters change, and the norms stay as they are.
    """

    compile: Switch = "auto"
    attention: Attention = "auto"
    channels_last: Switch = "auto"
    vae_slicing: Switch = "auto"
    vae_tiling: bool = False
    quantization: Quantization = "none"

    def __post_init__(self) -> None:
        if self.compile is True and self.quantization != "none":
            raise ValueError(
                f"quantization {self.quantization} does not go together with compile true: the "
                "weights are cast around each layer's forward"
            )

    @property
    def changes_images(self) -> tuple[str, ...]:
        """What a revision must say of these choices."""
        quantized = () if self.quantization == "none" else (self.quantization,)
        return (*quantized, *(("tiled",) if self.vae_tiling else ()))


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceDefaults:
    """What ``auto`` takes on one kind of device, and why."""

    compile: bool
    attention: Attention
    channels_last: bool
    vae_slicing: bool
    reason: str


DEFAULTS = {
    "cpu": DeviceDefaults(
        compile=False,
        attention="native",
        channels_last=True,
        vae_slicing=False,
        reason="measured on 2 CPU cores, a tiny SD1.5 at 64x64, over the plain way: channels_last "
        "1.04, flash 1.01 (native takes it by itself), math 0.24, slicing 0.96. Compiling gives "
        "1.07 after 54 seconds of waiting: it pays off after some 11,000 such images, and only "
        "where there is a compiler",
    ),
    "cuda": DeviceDefaults(
        compile=False,
        attention="native",
        channels_last=True,
        vae_slicing=False,
        reason="from diffusers' documentation, not measured here: SDPA is its default and picks "
        "the fastest kernel for the shapes; channels_last made SD1.5 faster; slicing only saves "
        "memory, and decoding is split already. Compiling gains on long runs, but waits a minute "
        "or more before the first image and needs a compiler: worth measuring there",
    ),
    "mps": DeviceDefaults(
        compile=False,
        attention="native",
        channels_last=False,
        vae_slicing=False,
        reason="what diffusers does by itself on Apple's GPUs, not measured here",
    ),
}


def on_device(speed: Speed, device: str) -> Speed:
    """The same choices with every ``auto`` replaced; an unknown device type takes a CPU's."""
    line = DEFAULTS.get(device, DEFAULTS["cpu"])
    # Eight-bit weights are cast around each forward, which is not to be compiled.
    compiled = line.compile and speed.quantization == "none"
    return Speed(
        compile=compiled if speed.compile == "auto" else speed.compile,
        attention=line.attention if speed.attention == "auto" else speed.attention,
        channels_last=line.channels_last if speed.channels_last == "auto" else speed.channels_last,
        vae_slicing=line.vae_slicing if speed.vae_slicing == "auto" else speed.vae_slicing,
        vae_tiling=speed.vae_tiling,
        quantization=speed.quantization,
    )
