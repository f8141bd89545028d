"""Speed options for rendering, and what ``auto`` means on each device.

Does not import torch, so profiles load at once. `python -m benchmarks --only speed_fields` measures
each option on the present device.
"""

from dataclasses import dataclass
from typing import Literal

Attention = Literal["auto", "native", "flash", "efficient", "cudnn", "math"]
Quantization = Literal["none", "float8"]
Switch = bool | Literal["auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Speed options; ``auto`` takes the device's entry of :data:`DEFAULTS`.

    Options that change the image enter the model's revision, and ``auto`` never picks them; the
    others change the last bits at most.

    Raises:
        ValueError: quantized weights cannot be compiled.
    """

    compile: Switch = "auto"
    """Compile the UNet, once since batches have one size."""
    attention: Attention = "auto"
    """PyTorch's attention kernel; ``native`` leaves the choice to PyTorch."""
    channels_last: Switch = "auto"
    """Memory layout of convolution weights."""
    vae_slicing: Switch = "auto"
    """Decode image by image, which lowers the VAE's peak memory."""
    vae_tiling: bool = False
    """Decode in tiles with blended seams, for large images; changes the image."""
    quantization: Quantization = "none"
    """``float8`` stores the UNet's weights in 8 bits and computes in the model's precision.

    Norms and the attention projections, which adapters change, are not quantized. This changes the
    image.
    """

    def __post_init__(self) -> None:
        if self.compile is True and self.quantization != "none":
            raise ValueError(
                f"quantization {self.quantization} cannot be combined with compile true: the "
                "weights are cast around each layer's forward"
            )

    @property
    def changes_images(self) -> tuple[str, ...]:
        """The options that a revision must include."""
        quantized = () if self.quantization == "none" else (self.quantization,)
        return (*quantized, *(("tiled",) if self.vae_tiling else ()))


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceDefaults:
    """The setting that ``auto`` selects on a kind of device, and why."""

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
        "1.04, flash 1.01 (native selects it), math 0.24, slicing 0.96. Compiling gives "
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
        reason="the default of diffusers on Apple's GPUs, not measured here",
    ),
}


def on_device(speed: Speed, device: str) -> Speed:
    """These options with every ``auto`` resolved.

    Args:
        speed: the profile's options.
        device: type of a torch device; an unknown one gets the CPU's defaults.

    Returns:
        Options without ``auto``; quantized weights are not compiled.
    """
    line = DEFAULTS.get(device, DEFAULTS["cpu"])
    # 8-bit weights are cast around each forward, which cannot be compiled.
    compiled = line.compile and speed.quantization == "none"
    return Speed(
        compile=compiled if speed.compile == "auto" else speed.compile,
        attention=line.attention if speed.attention == "auto" else speed.attention,
        channels_last=line.channels_last if speed.channels_last == "auto" else speed.channels_last,
        vae_slicing=line.vae_slicing if speed.vae_slicing == "auto" else speed.vae_slicing,
        vae_tiling=speed.vae_tiling,
        quantization=speed.quantization,
    )
