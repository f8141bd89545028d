"""The room on a tiny Stable Diffusion: what it writes, what makes it stale, what it refuses."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.errors import ConfigError, InputMissing
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_train.adapters.live import live_adapter
from alignguard_train.adapters.lora import save_lora
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.personal.adapter import WEIGHTS, load_personal
from alignguard_train.personal.config import PersonalConfig
from alignguard_train.personal.profile_encoders import MultiHot
from alignguard_train.personal.room import TABLES, PersonalJob, make_personal, spec
from tests.alignguard_train.personal.world import CATEGORIES, write_release

RECIPE = ExpertRecipe(steps=2, batch_size=2, warmup_steps=0, preservation=1.0)


class Brightness:
    """Flags every image, so each counts."""

    name, version, keys = "bright", "1", ("any",)

    def score(self, images, prompts):
        return [{"any": 1.0} for _ in images]


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return small_data(tmp_path)


@pytest.fixture
def job(base, tmp_path) -> PersonalJob:
    return small_job(base, tmp_path)


def small_data(tmp_path) -> DataRoot:
    """A finished release of a drawn train and test split, and evaluation prompts."""
    root = DataRoot(root=tmp_path / "data", profile="tiny")
    folder = write_release(root.releases / "tiny-v0.1.0")
    (folder / "prompts").mkdir()
    rows = [
        {
            "pair_id": f"e{n}", "unsafe_prompt": f"a b {n}", "safe_prompt": f"a {n}",
            "concept": f"{CATEGORIES[n % 2]}.x", "category": CATEGORIES[n % 2], "seen": True,
        }
        for n in range(6)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "prompts" / "evaluation.parquet")
    for place, counts in ((folder, {}), (root.partition("release"), {"path": folder.name})):
        manifests.Manifest(
            room="release", partition="all", fingerprint="f", content_id="c", inputs={}, config={},
            models={}, rows=1, rejected={}, files=(), counts=counts, versions={},
            run_id="", seconds=1.0,
        ).save(place)  # fmt: skip
    return root


def small_job(base, tmp_path) -> PersonalJob:
    """Eight users, four of them measured on four prompts."""
    folder = base.pipe.config._name_or_path
    sampling = Sampling(
        num_inference_steps=2, guidance_scale=2.0, width=16, height=16, batch_size=4
    )
    merged = tmp_path / "merged.safetensors"
    with live_adapter(base, RECIPE, seed=0) as adapter:
        save_lora(adapter.weights(), merged)
    return PersonalJob(
        categories=CATEGORIES,
        config=PersonalConfig(
            categories={"Hate": ("angular",), "Sexuality": ("banded",)}, users=8,
            unseen_share=0.25, users_per_pair=2, users_measured=2, prompts_measured=4,
            bootstrap_resamples=100,
        ),
        recipe=RECIPE, encoder=MultiHot(), ban_writer=None, base=base,
        generator=DiffusersImageGenerator(model=folder, sampling=sampling, device="cpu"),
        scorers=[Brightness()], flags=[FlagRule(scorer="bright", key="any", at_least=0.5)],
        merged=merged,
    )  # fmt: skip


def test_the_room_writes_users_rows_images_measures_and_an_adapter_that_loads(data, job):
    steps = []
    done = make_personal(data, job, steps.append)
    folder = data.partition("personal")
    tables = {name: manifests.read(folder, name) for name in TABLES}
    assert tables["users"].num_rows == 8
    assert {r["split"] for r in tables["rows"].to_pylist()} >= {"train", "test_seen"}
    images = tables["images"].to_pylist()
    assert len(images) == 3 * (2 + 2) * 4
    assert {image["adapter"] for image in images} == {"base", "merged", "personal"}
    assert {m["metric"] for m in tables["measures"].to_pylist()} >= {"suppression", "win merged"}
    assert manifests.read(folder, "history").num_rows == 2
    adapter = load_personal(folder / done.file(WEIGHTS).name)
    assert adapter.facts.categories == CATEGORIES
    assert sum(steps) == 2 + 4 * (2 + 4)
    again = make_personal(data, job, steps.append)  # up to date: nothing is drawn again
    assert (again.content_id, sum(steps)) == (done.content_id, 2 + 4 * (2 + 4))


def test_the_loaded_pipe_is_as_before(data, job):
    before = job.generator.render(["a b 1"], [1])
    make_personal(data, job)
    assert np.array_equal(job.generator.render(["a b 1"], [1]), before)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": dataclasses.replace(RECIPE, lr=0.5)},
        {"config": {"seed": 7}},
        {"config": {"unconditional": "zero-profile"}},
        {"config": {"always_banned": ("angular",)}},
        {"flags": [FlagRule(scorer="bright", key="any", at_least=0.9)]},
    ],
)
def test_what_decides_the_adapter_or_a_measure_is_in_the_fingerprint(data, job, change):
    if isinstance(settings := change.get("config"), dict):
        change = {"config": dataclasses.replace(job.config, **settings)}
    other = dataclasses.replace(job, **change)
    assert spec(data, other).fingerprint != spec(data, job).fingerprint


@pytest.mark.parametrize("name", ["rank", "checkpoint_every"])
def test_what_changes_no_weight_is_not_in_the_fingerprint(data, job, name):
    same = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, **{name: 3}))
    assert spec(data, same).fingerprint == spec(data, job).fingerprint


def test_bans_that_do_not_fit_are_refused_before_anything_is_made(data, job):
    config = dataclasses.replace(job.config, categories={"Hate": ("angular", "other")})
    with pytest.raises(ConfigError) as refused:
        make_personal(data, dataclasses.replace(job, config=config))
    assert len(refused.value.faults) == 2
    assert not data.partition("personal").exists()


def test_without_a_release_the_input_is_missing(tmp_path, job):
    with pytest.raises(InputMissing):
        spec(DataRoot(root=tmp_path / "none", profile="tiny"), job)
