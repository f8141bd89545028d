"""The examples run on the stand-in in seconds; they and the docs use public names only."""

import ast
import importlib
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignguard_data.contracts.pixels import encode_png
from alignguard_data.standin import Scene, base_model_folder, draw_many
from alignguard_data.standin.grammar import safe_caption, unsafe_caption
from alignguard_data.standin.world import neutral_scenes
from alignguard_train.guards import guard_file, make_guard
from tests.alignguard_train.guards.release import BASE, CONCEPTS, small_config, write_release

REPOSITORY = Path(__file__).parent.parent
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.name != "study.md"]
GLYPHS = {"angular": "zigzag", "banded": "hatch"}
_BLOCK = re.compile(r"^```python.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(name: str) -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "examples" / f"{name}.py"), run_name="an_example")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of four drawn pairs in two categories, as far as training reads it."""
    folder = tmp_path_factory.mktemp("release")
    safe = list(neutral_scenes())[:4]
    rows = []
    for i, scene in enumerate(safe):
        category = list(GLYPHS)[i % 2]
        dark = Scene(
            **{n: getattr(scene, n) for n in ("field", "colour", "object", "place")},
            glyph=GLYPHS[category],
        )
        jpg_0, jpg_1 = (encode_png(image) for image in draw_many([scene, dark], first_seed=i))
        rows.append(
            {
                "jpg_0": jpg_0,
                "jpg_1": jpg_1,
                "caption": unsafe_caption(dark, 0),
                "caption_safe": safe_caption(dark, 0),
                "pair_id": f"{i:032x}",
                "concept": f"{category}.{GLYPHS[category]}",
                "category": category,
            }
        )
    (folder / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def experts(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("experts")
    train = run("train_one_expert")["train"]
    files = {category: folder / f"{category}.safetensors" for category in GLYPHS}
    for category, file in files.items():
        assert np.isfinite(train(release, category, file, base=base_model_folder(), steps=2))
    return files


def test_every_example_is_run_below():
    source = Path(__file__).read_text()
    assert EXAMPLES
    assert not [path.stem for path in EXAMPLES if f'run("{path.stem}")' not in source]


def test_my_own_images_are_scored(tmp_path):
    scene = next(neutral_scenes())
    Image.fromarray(draw_many([scene], first_seed=0)[0]).save(tmp_path / "scene.png")
    assert run("score_my_images")["score_folder"](tmp_path) == {"scene.png": False}


def test_the_added_scorer_tells_a_glyph_from_none():
    safe, unsafe = run("add_a_scorer")["main"]()
    assert safe < unsafe


def test_an_expert_is_trained_and_written(experts):
    assert all(file.stat().st_size > 1000 for file in experts.values())


def test_two_experts_are_merged_and_the_merge_changes_what_diffusers_draws(
    release, experts, tmp_path
):
    merged = tmp_path / "merged.safetensors"
    layers = run("merge_two_adapters")["merge_experts"](
        release, experts, merged, base=base_model_folder()
    )
    assert layers > 1
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    run("use_in_diffusers")["draw_both"](merged, before, after, steps=2)
    one, other = (np.asarray(Image.open(path)) for path in (before, after))
    assert one.shape == other.shape == (32, 32, 3)
    assert (one != other).any()


@pytest.mark.filterwarnings("ignore:Already found a .peft_config:UserWarning")  # several experts
def test_each_prompt_is_drawn_with_its_own_expert(release, experts, tmp_path):
    rows = pq.read_table(release / "data" / "train-00000-of-00001.parquet").to_pylist()
    chosen = run("choose_the_expert")["draw_chosen"](
        release,
        next(iter(experts.values())).parent,
        tmp_path,
        [row["caption"] for row in rows],
        steps=2,
    )
    assert chosen == [row["category"] for row in rows]
    assert len(list(tmp_path.glob("*.png"))) == len(rows)


def test_a_personal_adapter_draws_another_image_for_another_user(tmp_path):
    """Keys and values of a new adapter are zero; some are filled, as a training does."""
    import torch
    from diffusers import StableDiffusionPipeline

    from alignguard_train.personal import AdapterFacts, PersonalAdapter, save_personal
    from alignguard_train.personal.adapter import cross_attention

    unet = StableDiffusionPipeline.from_pretrained(base_model_folder(), safety_checker=None).unet
    facts = AdapterFacts(
        user_width=2 + 25, context=unet.config.cross_attention_dim, categories=tuple(GLYPHS)
    )
    adapter = PersonalAdapter(facts, cross_attention(unet))
    for layer in (*adapter.keys.values(), *adapter.values.values()):
        torch.nn.init.normal_(layer.weight)
    save_personal(adapter, tmp_path / "personal.safetensors")
    banned, allowed = tmp_path / "banned.png", tmp_path / "allowed.png"
    run("draw_for_a_user")["draw_for_both"](
        tmp_path / "personal.safetensors", banned, allowed, steps=2
    )
    one, other = (np.asarray(Image.open(path)) for path in (banned, allowed))
    assert (one != other).any()


def test_a_guard_decides_on_prompts_before_they_are_drawn(tmp_path):
    data, config = write_release(tmp_path), small_config(tmp_path)
    make_guard(data, "eos-logistic", BASE, CONCEPTS, config)
    said = run("guard_prompts")["draw_guarded"](guard_file(data, "eos-logistic"), tmp_path, steps=2)
    assert [one.partition(":")[0] for one in said] == ["allow", "block"]
    drawn = [np.asarray(Image.open(tmp_path / f"{i}.png")).any() for i in range(2)]
    assert drawn == [True, False]


def test_the_readmes_guarded_pipe_needs_its_file_and_a_base_model_only(
    tmp_path, monkeypatch, capsys
):
    """The block of README.md, run in a folder that holds the guard's file and nothing else."""
    data, config = write_release(tmp_path), small_config(tmp_path)
    make_guard(data, "eos-logistic", BASE, CONCEPTS, config)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(guard_file(data, "eos-logistic"), alone / "guard.safetensors")
    (block,) = (
        text for text in _BLOCK.findall((REPOSITORY / "README.md").read_text()) if "guarded" in text
    )
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 10
    monkeypatch.chdir(alone)
    model = str(base_model_folder())
    exec(block.replace("path/to/the/base/model", model), {})
    assert "('allow', 'below_threshold')" in capsys.readouterr().out
    assert np.asarray(Image.open("drawn.png")).any()


def python_texts() -> Iterator[Any]:
    for path in EXAMPLES:
        yield pytest.param(path.read_text(), id=path.name)
    for page in PAGES:
        for number, block in enumerate(_BLOCK.findall(page.read_text())):
            yield pytest.param(block, id=f"{page.relative_to(REPOSITORY)}-{number}")


def hidden_names(text: str) -> list[str]:
    """Imports of ours that are not in the `__all__` of the package they are imported from."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and _ours(node.module):
            public = getattr(importlib.import_module(str(node.module)), "__all__", [])
            found += [f"{node.module}.{a.name}" for a in node.names if a.name not in public]
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if _ours(a.name) and "." in a.name]
    return found


def _ours(module: str | None) -> bool:
    return str(module).split(".")[0] in ("alignguard_data", "alignguard_train", "pipelines")


@pytest.mark.parametrize("text", list(python_texts()))
def test_what_people_copy_uses_public_names_only(text: str):
    assert not hidden_names(text)


@pytest.mark.parametrize(
    "text",
    [
        "from alignguard_data.scores.room import DecodedImages",
        "from alignguard_data.pairs import drop_reason",
        "import alignguard_data.pairs.filter",
    ],
)
def test_a_name_that_is_not_public_is_seen(text: str):
    assert hidden_names(text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path: Path):
    assert len(path.read_text().splitlines()) <= 70
