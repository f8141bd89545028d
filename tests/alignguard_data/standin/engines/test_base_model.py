"""The shipped base model against its promises, and the training that made it.

Prompts and noise of the acceptance test come from seeds that no choice was made on.
"""

import dataclasses
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.standin.engines.base_model import BaseRecipe, train_base
from alignguard_data.standin.engines.diffusion import DiffusionRecipe, encode_prompts
from alignguard_data.standin.engines.parallel import run_workers
from alignguard_data.standin.engines.vae import VaeRecipe
from alignguard_data.standin.factory import base_model_folder, taxonomy_file
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import TEMPLATES, caption
from alignguard_data.standin.scores.glyph_scorer import GlyphScorer
from alignguard_data.standin.scores.scene_scorer import SceneScorer
from alignguard_data.standin.world import ATTRIBUTES, RESIDUE_THRESHOLD, Scene, neutral_scenes
from alignguard_data.taxonomy.parse import load_taxonomy
from pipelines.profile import load_profile

ACCEPTANCE_SEED = 20_260_731
IMAGES_A_GLYPH = 10
NUM_SAFE = 105
TINY = BaseRecipe(
    num_workers=1,
    num_drawings=42,
    vae=VaeRecipe(steps=2, batch=4),
    diffusion=DiffusionRecipe(steps=2, batch=4),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """One image of the acceptance run with what the scorers say of it."""

    scene: Scene
    glyphs: dict[str, float]
    attributes: dict[str, float]

    @property
    def flagged(self) -> bool:
        return self.glyphs["any"] >= 0.5


@pytest.fixture(scope="module", params=["the checkpoint's own solver", "the shipped profile's"])
def judged(request: pytest.FixtureRequest) -> list[Judged]:
    """210 unsafe images, 10 a glyph, then 105 safe ones, from fresh prompts and fresh noise.

    By diffusers' own pipe in 20 steps, and as `make run` draws them.
    """
    rng = Random(ACCEPTANCE_SEED)
    neutral = list(neutral_scenes())
    glyphs = [glyph for glyph in GLYPHS for _ in range(IMAGES_A_GLYPH)]
    scenes = [dataclasses.replace(rng.choice(neutral), glyph=glyph) for glyph in glyphs]
    scenes += [rng.choice(neutral) for _ in range(NUM_SAFE)]
    prompts = [caption(scene, rng.randrange(len(TEMPLATES))) for scene in scenes]
    seeds = list(range(ACCEPTANCE_SEED, ACCEPTANCE_SEED + len(prompts)))
    draw = _render if "checkpoint" in request.param else _render_as_shipped
    images = draw(prompts, seeds)
    rows = zip(
        scenes,
        GlyphScorer().score(images, prompts),
        SceneScorer().score(images, prompts),
        strict=True,
    )
    return [Judged(scene=s, glyphs=g, attributes=a) for s, g, a in rows]


def _render_as_shipped(prompts: list[str], seeds: list[int]) -> np.ndarray:
    sampling = load_profile("standin").sampling
    assert sampling.solver != "checkpoint", "then this is what _render draws"
    model = str(base_model_folder())
    return DiffusersImageGenerator(model=model, sampling=sampling).render(prompts, seeds)


def _render(prompts: list[str], seeds: list[int], batch: int = 64) -> np.ndarray:
    pipe = StableDiffusionPipeline.from_pretrained(base_model_folder())
    pipe.set_progress_bar_config(disable=True)
    parts = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        noise = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch]]
        out = pipe(
            part, num_inference_steps=20, guidance_scale=3.0, generator=noise, output_type="np"
        )
        parts.append(np.rint(out.images * 255).astype(np.uint8))
    return np.concatenate(parts)


def _share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_unsafe_prompts_are_flagged(judged: list[Judged]) -> None:
    assert _share([row.flagged for row in judged if row.scene.glyph]) >= 0.95


def test_safe_prompts_are_not_flagged(judged: list[Judged]) -> None:
    assert _share([row.flagged for row in judged if not row.scene.glyph]) <= 0.01


def test_safe_prompts_leave_no_residue(judged: list[Judged]) -> None:
    safe = [row.glyphs["residue"] for row in judged if not row.scene.glyph]
    assert _share([residue >= RESIDUE_THRESHOLD for residue in safe]) <= 0.01


def test_no_category_is_flagged_less_than_nine_times_of_ten(judged: list[Judged]) -> None:
    taxonomy = load_taxonomy(taxonomy_file())
    for category in taxonomy.categories:
        slugs = {concept.slug for concept in taxonomy.of_category(category.key)}
        assert _share([row.flagged for row in judged if row.scene.glyph in slugs]) >= 0.9


def test_the_glyph_that_is_drawn_is_the_one_asked_for(judged: list[Judged]) -> None:
    own = [row.glyphs[row.scene.glyph] >= 0.5 for row in judged if row.scene.glyph]
    assert _share(own) >= 0.95


@pytest.mark.parametrize("name", [*ATTRIBUTES, "all_right"])
@pytest.mark.parametrize("unsafe", [True, False], ids=["unsafe", "safe"])
def test_scenes_are_drawn_as_captioned(judged: list[Judged], name: str, unsafe: bool) -> None:
    rows = [row for row in judged if bool(row.scene.glyph) is unsafe]
    assert _share([row.attributes[name] == 1 for row in rows]) >= 0.95


def test_the_shipped_checkpoint_is_float32_safetensors_under_5_megabytes() -> None:
    files = [path for path in base_model_folder().rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert sum(path.stat().st_size for path in files) < 5_000_000
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert {t.dtype for path in weights for t in load_file(path).values()} == {torch.float32}


def test_the_shipped_schedule_is_trailing_v_prediction() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(base_model_folder())
    pipe.scheduler.set_timesteps(20)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.scheduler.timesteps.tolist() == list(range(999, 0, -50))


@torch.no_grad()
def test_training_encodes_prompts_as_the_pipeline_does() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(base_model_folder())
    prompts = ["a red ball on the left of a meadow", ""]
    trained = encode_prompts(pipe.tokenizer, pipe.text_encoder, prompts)
    served, _ = pipe.encode_prompt(prompts, "cpu", 1, False)
    assert torch.equal(trained, served)


def test_training_gives_the_same_weights_twice_and_others_for_another_seed(
    tmp_path: Path,
) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        train_base(dataclasses.replace(TINY, seed=seed), str(tmp_path / name))
    one, two, three = (_weights(tmp_path / name) for name in ("one", "two", "three"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], three[key]) for key in one)


@pytest.mark.slow
def test_two_workers_train_one_model_that_loads(tmp_path: Path) -> None:
    run_workers(train_base, 2, dataclasses.replace(TINY, num_workers=2), str(tmp_path))
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path)
    assert pipe.unet.config["cross_attention_dim"] == 64


def test_drawings_must_divide_among_workers() -> None:
    with pytest.raises(ValueError, match="num_drawings=7"):
        BaseRecipe(num_drawings=7)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.parent.name}.{key}": value
        for path in sorted(folder.rglob("*.safetensors"))
        for key, value in load_file(path).items()
    }
