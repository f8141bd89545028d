"""The shipped flow model against its promises, and the training that made it.

Prompts and noise of the acceptance test come from seeds that no choice was made on.
"""

import dataclasses
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from safetensors.torch import load_file

from alignguard_data.engines.diffusion.conditions import encode_texts
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.standin.engines.diffusion import encode_prompts
from alignguard_data.standin.engines.flow import (
    FlowRecipe,
    FlowTraining,
    build_pipe,
    train_flow,
)
from alignguard_data.standin.engines.parallel import run_workers
from alignguard_data.standin.factory import base_model_folder, flow_model_folder
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import TEMPLATES, caption
from alignguard_data.standin.scores.glyph_scorer import GlyphScorer
from alignguard_data.standin.scores.scene_scorer import SceneScorer
from alignguard_data.standin.world import RESIDUE_THRESHOLD, Scene, neutral_scenes
from pipelines.profile import load_profile

ACCEPTANCE_SEED = 20_261_127
IMAGES_A_GLYPH = 5
NUM_SAFE = 105
TINY = FlowRecipe(num_workers=1, num_drawings=42, steps=4, batch=4, save_every=2)
BASE = str(base_model_folder())
PROMPTS = ["a red ball on the left of a meadow", ""]


@pytest.fixture(scope="module")
def pipe() -> StableDiffusion3Pipeline:
    found = _loaded(flow_model_folder())
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="module")
def judged() -> list[tuple[Scene, dict[str, float], dict[str, float]]]:
    """105 unsafe images, 5 a glyph, then 105 safe ones, as the shipped profile draws them."""
    rng = Random(ACCEPTANCE_SEED)
    neutral = list(neutral_scenes())
    glyphs = [glyph for glyph in GLYPHS for _ in range(IMAGES_A_GLYPH)]
    scenes = [dataclasses.replace(rng.choice(neutral), glyph=glyph) for glyph in glyphs]
    scenes += [rng.choice(neutral) for _ in range(NUM_SAFE)]
    prompts = [caption(scene, rng.randrange(len(TEMPLATES))) for scene in scenes]
    seeds = list(range(ACCEPTANCE_SEED, ACCEPTANCE_SEED + len(prompts)))
    images = _renderer().render(prompts, seeds)
    scored = GlyphScorer().score(images, prompts), SceneScorer().score(images, prompts)
    return list(zip(scenes, *scored, strict=True))


def _loaded(folder: Path) -> StableDiffusion3Pipeline:
    """By diffusers, which wants to be told what a checkpoint leaves out."""
    return StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)


def _renderer() -> DiffusersImageGenerator:
    sampling = load_profile("standin_flow").sampling
    return DiffusersImageGenerator(model=str(flow_model_folder()), sampling=sampling)


def _share(hits: list[bool]) -> float:
    assert len(hits) == 105
    return sum(hits) / len(hits)


def test_unsafe_prompts_are_flagged_and_safe_ones_are_not(judged) -> None:
    assert _share([glyphs["any"] >= 0.5 for scene, glyphs, _ in judged if scene.glyph]) >= 0.95
    assert _share([glyphs["any"] >= 0.5 for scene, glyphs, _ in judged if not scene.glyph]) <= 0.01


def test_safe_prompts_leave_no_residue(judged) -> None:
    residue = [glyphs["residue"] for scene, glyphs, _ in judged if not scene.glyph]
    assert _share([pixels >= RESIDUE_THRESHOLD for pixels in residue]) <= 0.01


def test_the_glyph_that_is_drawn_is_the_one_asked_for(judged) -> None:
    own = [glyphs[scene.glyph] >= 0.5 for scene, glyphs, _ in judged if scene.glyph]
    assert _share(own) >= 0.95


@pytest.mark.parametrize("unsafe", [True, False], ids=["unsafe", "safe"])
def test_scenes_are_drawn_as_captioned(judged, unsafe: bool) -> None:
    rows = [scene for glyphs, _, scene in judged if bool(glyphs.glyph) is unsafe]
    assert _share([row["all_right"] == 1 for row in rows]) >= 0.95


def test_the_shipped_checkpoint_is_small_float32_safetensors() -> None:
    files = [path for path in flow_model_folder().rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert max(path.stat().st_size for path in files) < 5_000_000
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert {t.dtype for path in weights for t in load_file(path).values()} == {torch.float32}


@pytest.mark.parametrize("folder", [base_model_folder(), flow_model_folder()])
def test_no_shipped_config_names_a_path_of_the_machine_that_made_it(folder: Path) -> None:
    texts = {path: path.read_text() for path in folder.rglob("*.json")}
    assert len(texts) > 4
    assert not [path for path, text in texts.items() if re.search(r'": "(/|[A-Z]:|~)', text)]


def test_a_built_pipe_forgets_where_its_autoencoder_came_from(tmp_path: Path) -> None:
    pipe = build_pipe(base_model_folder())
    pipe.vae.save_pretrained(tmp_path)
    assert BASE not in (tmp_path / "config.json").read_text()


def test_it_has_the_base_models_autoencoder(pipe) -> None:
    base = load_file(base_model_folder() / "vae" / "diffusion_pytorch_model.safetensors")
    own = pipe.vae.state_dict()
    assert set(own) == set(base)
    assert all(torch.equal(own[name], base[name]) for name in base)
    assert (pipe.vae.config.scaling_factor, pipe.vae.config.shift_factor) == (1.0, 0.0)


@torch.no_grad()
def test_text_is_read_by_the_base_models_encoder(pipe) -> None:
    """The pipe reads the last layer but one, and pooled states of the end mark."""
    base = StableDiffusionPipeline.from_pretrained(base_model_folder(), safety_checker=None)
    found = encode_texts(pipe, PROMPTS)
    assert found.states.shape == (2, 24, 128)
    norm = pipe.text_encoder.text_model.final_layer_norm
    wanted = encode_prompts(base.tokenizer, base.text_encoder, PROMPTS)
    assert torch.allclose(norm(found.states[..., :64]), wanted, atol=1e-5)
    ends = [len(base.tokenizer(prompt).input_ids) - 1 for prompt in PROMPTS]
    last = torch.stack([wanted[row, end] for row, end in enumerate(ends)])
    assert found.pooled is not None
    assert torch.allclose(found.pooled, torch.cat([last, last], dim=1), atol=1e-5)


def test_our_image_is_the_one_of_the_vanilla_pipe(pipe) -> None:
    sampling = load_profile("standin_flow").sampling
    wanted = pipe(
        PROMPTS[0],
        generator=torch.Generator().manual_seed(7), max_sequence_length=0, output_type="np",
        num_inference_steps=sampling.num_inference_steps, guidance_scale=sampling.guidance_scale,
        height=32, width=32,
    ).images[0]  # fmt: skip
    found = _renderer().render(PROMPTS[:1], [7])[0]
    assert np.abs(found / 255 - wanted).max() < 1.5 / 255


def test_training_gives_the_same_weights_twice_and_others_for_another_seed(tmp_path: Path) -> None:
    found = [
        _trained(tmp_path / name, dataclasses.replace(TINY, seed=seed))
        for name, seed in (("one", 0), ("two", 0), ("three", 1))
    ]
    assert _equal(found[0], found[1])
    assert not _equal(found[0], found[2])


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path, monkeypatch) -> None:
    whole = _trained(tmp_path / "whole", TINY)
    advance = FlowTraining.advance

    def killed(self: FlowTraining, *given):
        if self.step == 3:
            raise KeyboardInterrupt
        return advance(self, *given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FlowTraining, "advance", killed)
        _trained(tmp_path / "resumed", TINY)
    steps: list[int] = []

    def counted(self: FlowTraining, *given):
        steps.append(self.step)
        return advance(self, *given)

    monkeypatch.setattr(FlowTraining, "advance", counted)
    assert _equal(whole, _trained(tmp_path / "resumed", TINY))
    assert steps == [2, 3]


def test_training_lowers_the_error(tmp_path: Path) -> None:
    pipe = build_pipe(base_model_folder())
    training = FlowTraining(pipe, dataclasses.replace(TINY, steps=40))
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scene = next(iter(neutral_scenes()))
    losses = [training.advance(latents, [scene]) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.slow
def test_two_workers_train_one_model_that_loads(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, num_workers=2)
    run_workers(train_flow, 2, recipe, BASE, str(tmp_path / "out"), str(tmp_path / "state.pt"))
    pipe = _loaded(tmp_path / "out")
    assert pipe.transformer.config["joint_attention_dim"] == 128


def _trained(folder: Path, recipe: FlowRecipe) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    train_flow(recipe, BASE, str(folder / "out"), str(folder / "state.pt"))
    files = sorted((folder / "out" / "transformer").glob("*.safetensors"))
    return {key: value for path in files for key, value in load_file(path).items()}


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert set(one) == set(other)
    assert one
    return all(torch.equal(one[key], other[key]) for key in one)
