"""What is particular to a family of models is in its file, and nothing else names a model."""

import re
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from peft import LoraConfig

from alignguard_data.contracts.errors import EngineError
from alignguard_data.costs.flops import architecture
from alignguard_data.engines.diffusion.conditions import encode_texts
from alignguard_data.engines.families.registry import (
    FAMILIES,
    denoiser_of,
    family_of,
    pipe_classes,
)
from benchmarks.tiny.diffusion import tiny_lcm, tiny_pipe, tiny_xl
from benchmarks.tiny.flow import tiny_flux, tiny_sd35

ROOT = Path(__file__).parents[4]
ENCODERS = ("text_encoder", "text_encoder_2")


def published(name):
    """A pipe with a published checkpoint's shapes and without its weights."""
    shapes = architecture(name)
    encoders = dict.fromkeys(ENCODERS[: len(shapes["text_encoders"])], object())
    unet = SimpleNamespace(config=SimpleNamespace(**shapes["unet"]))
    return SimpleNamespace(unet=unet, vae_scale_factor=8, **encoders)


@pytest.mark.parametrize(("name", "size"), [("sd15", 512), ("sd21", 768), ("sdxl", 1024)])
def test_a_published_checkpoint_is_of_its_family_and_size(name, size):
    pipe = published(name)
    family = family_of(pipe)
    assert (family.name, family.native_size(pipe)) == (name, size)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (tiny_pipe, "sd15"),
        (tiny_lcm, "sd15"),
        (tiny_xl, "sdxl"),
        (tiny_sd35, "sd35"),
        (tiny_flux, "flux"),
    ],
)
def test_a_pipe_of_the_real_class_is_of_the_family_of_its_class(make, name):
    pipe = make()
    family = family_of(pipe)
    assert family.name == name
    assert pipe_classes()[type(pipe).__name__].pipe_class == family.pipe_class
    assert hasattr(diffusers, family.pipe_class)


@pytest.mark.parametrize(
    "pipe",
    [
        SimpleNamespace(transformer=object(), text_encoder=object()),
        SimpleNamespace(),
        SimpleNamespace(unet=object()),
        SimpleNamespace(unet=object(), text_encoder_2=object()),
        SimpleNamespace(unet=object(), **dict.fromkeys((*ENCODERS, "text_encoder_3"), object())),
    ],
)
def test_a_pipe_of_no_family_is_refused_with_those_there_are(pipe):
    with pytest.raises(
        EngineError, match=r"SimpleNamespace is of no known .* sdxl, sd21, sd15, sd35, flux"
    ):
        encode_texts(pipe, ["a"])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_decoding_undoes_the_scaling_of_encoding(family):
    shift = 0.0609 if family.flow else None
    vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=0.18215, shift_factor=shift))
    encoded = torch.linspace(-3, 3, 8).reshape(1, 2, 2, 2)
    scaled = family.latents(vae, encoded)
    assert torch.equal(scaled, (encoded - (shift or 0.0)) * 0.18215)
    assert torch.allclose(family.encoded(vae, scaled), encoded)


@pytest.mark.parametrize("make", [tiny_pipe, tiny_xl])
def test_targets_are_attention_of_the_families_blocks(make):
    pipe = make()
    family = family_of(pipe)
    denoiser = getattr(pipe, family.denoiser)
    named = {}
    for kind in ("lora_targets", "self_attention_targets"):
        denoiser.add_adapter(LoraConfig(r=1, target_modules=list(getattr(family, kind))), kind)
        found = {n.split(".lora_A")[0] for n, _ in denoiser.named_parameters() if f"A.{kind}" in n}
        named[kind] = found
        denoiser.delete_adapters(kind)
    every, own = named["lora_targets"], named["self_attention_targets"]
    assert len(every) == 2 * len(own) > 0, "as many layers look at the text as at the image"
    assert own == {name for name in every if ".attn1." in name}
    assert all(name.split(".")[0] in family.blocks for name in every)
    assert denoiser_of(every) == family.denoiser


@pytest.mark.parametrize(
    ("make", "last"),
    [
        (lambda: tiny_sd35(dual=True), {"attn2.to_out.0", "attn.to_add_out"}),
        (tiny_flux, {"ff.net.2", "ff_context.net.0.proj", "attn.to_add_out"}),
    ],
    ids=["sd35", "flux"],
)
def test_a_transformers_targets_are_its_joint_attention_and_what_the_family_adds(make, last):
    pipe = make()
    family = family_of(pipe)
    pipe.transformer.add_adapter(LoraConfig(r=1, target_modules=list(family.lora_targets)), "a")
    found = {n.split(".lora_A")[0] for n, _ in pipe.transformer.named_parameters() if "A.a" in n}
    kinds = {name.split(".", 2)[2] for name in found}
    assert last <= kinds
    assert kinds - {"attn.to_q"} <= set(family.lora_targets), "nothing else, by a shared suffix"
    assert {name.split(".")[0] for name in found} == set(family.blocks)
    assert denoiser_of(found) == family.denoiser
    assert not family.self_attention_targets


NEUTRAL = [
    *(ROOT / "alignguard_data" / "engines" / "diffusion").glob("*.py"),
    *(
        file
        for room in ("adapters", "encodings", "evaluation", "experts", "merge")
        for file in (ROOT / "alignguard_train" / room).rglob("*.py")
    ),
    ROOT / "alignguard_train" / "base.py",
]


def test_rooms_name_no_denoiser_and_no_pipe_of_a_family():
    """A new family is one more file: `pipe.unet` in a room would refuse its pipes."""
    assert len(NEUTRAL) > 40
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in NEUTRAL
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(r"\.unet\b|StableDiffusion\w*Pipeline|text_encoder_2|scaling_factor", line)
    ]
    assert not found
