"""Peers in the evaluation room: a table of their own in page, Markdown and summary."""

import dataclasses
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.report.page import write_revealed
from alignguard_train.evaluation.report.summary import write_model_card, write_summary
from alignguard_train.evaluation.room import evaluate_all, spec
from alignguard_train.peers.release_concepts import release_concepts
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_data.images.drawn_images import DrawnImages
from tests.alignguard_train.evaluation.test_room import NAMES, world
from tests.alignguard_train.evaluation.world import CONFIG, RedScorer, write_adapter, write_release

PEERS = ("negative_prompt", "uce")
WITH_PEERS = dataclasses.replace(CONFIG, peers=PEERS, peer_params={"uce": {"ridge": 2.0}})
TRAIN = [
    {"pair_id": "1", "concept": "shape.dot", "category": "shape", "caption": "a b",
     "caption_safe": "a"},
    {"pair_id": "0", "concept": "tone.low-hum", "category": "tone", "caption": "c d",
     "caption_safe": "c"},
]  # fmt: skip


def write_train(release) -> None:
    (release / "data").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(TRAIN), release / "data" / "train-00000-of-00001.parquet")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    data = DataRoot(root=folder, profile="test")
    write_train(write_release(data))
    tiny_pipe().save_pretrained(folder / "base")
    sampling = Sampling(
        num_inference_steps=2, guidance_scale=3.0, width=16, height=16, batch_size=4
    )
    generator = DiffusersImageGenerator(
        model=str(folder / "base"), sampling=sampling, device="cpu", threads=1
    )
    evaluate_all(data, {}, generator, [RedScorer()], WITH_PEERS)
    adapter = folder / "adapter.safetensors"
    (folder / "README.md").write_text("# The adapter\n")
    write_model_card(data, adapter=adapter)
    write_summary(data, seconds={}, adapter=adapter)
    return data, generator


def test_concepts_are_the_train_splits_with_names_and_examples(evaluated):
    data, _ = evaluated
    found = release_concepts(release_folder(data), examples=1)
    assert [(c.category, c.name, c.examples) for c in found] == [
        ("shape", "dot", (("a b", "a"),)),
        ("tone", "low hum", (("c d", "c"),)),
    ]


def test_each_peer_draws_the_same_prompts_and_seeds_as_the_base(evaluated):
    data, _ = evaluated
    rows = manifests.read(data.partition("evaluation"), "images").to_pylist()
    seen: dict[str, list] = {}
    for row in rows:
        seen.setdefault(row["adapter"], []).append((row["pair_id"], row["side"], row["seed"]))
    assert set(seen) == {"base", "peer:negative_prompt", "peer:uce"}
    assert all(listed == seen["base"] for listed in seen.values())
    assert all(row["distance"] > 0 for row in rows if row["adapter"] == "peer:uce")


def test_page_markdown_and_summary_show_one_table(evaluated):
    data, _ = evaluated
    folder = data.partition("evaluation")
    manifest = manifests.require(folder)
    page, text = (
        (folder / manifest.file(f"report.{kind}").name).read_text() for kind in ("html", "md")
    )
    table = text.split("### Peers")[1].split("###")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["Method", "Base model", "Negative prompt", "UCE"]
    shown = re.sub(r"<[^>]+>", " ", page)
    assert all(part in shown for row in rows for cell in row for part in cell.split(" ["))
    headline = text.split("### Every adapter")[1].split("###")[0]
    assert "UCE" not in headline, "peers have a table of their own"
    summary = json.loads(write_summary(data, seconds={}, adapter=folder / "none").read_text())[
        "peers"
    ]
    assert set(summary) == {"base", "peer:negative_prompt", "peer:uce"}
    for name, one in summary.items():
        assert one["seconds_per_image"] > 0
        assert one["ip"]["unsafe"]["n"] == 6
        assert (one["training_seconds"] > 0) == (name != "base")


def test_the_revealed_page_has_it_too(evaluated):
    assert "Peers" in write_revealed(evaluated[0]).read_text()


def test_a_second_run_renders_nothing_and_other_parameters_make_it_stale(evaluated):
    data, generator = evaluated
    named = {"base": None}
    assert spec(data, named, generator, [RedScorer()], WITH_PEERS).state() == "done"
    other = dataclasses.replace(WITH_PEERS, peer_params={"uce": {"ridge": 3.0}})
    assert spec(data, named, generator, [RedScorer()], other).state() == "stale"


def test_without_peers_nothing_of_an_evaluation_changes(tmp_path):
    data, adapters = world(tmp_path)
    manifest = evaluate_all(data, adapters, DrawnImages(), [RedScorer()], CONFIG)
    assert "peers" not in manifest.config
    assert "peer_params" not in manifest.config
    names = [file.name for file in manifest.files]
    assert not any("costs" in name for name in names)
    folder = data.partition("evaluation")
    assert "Peers" not in (folder / manifest.file("report.md").name).read_text()


def test_the_merge_costs_what_its_experts_and_it_took(tmp_path, evaluated):
    from alignguard_data.storage.partition import PartitionSpec, open_partition
    from alignguard_train.evaluation.contenders import costs, keep_seconds

    data, _ = world(tmp_path)
    made = PartitionSpec(
        folder=data.partition("evaluation"), room="evaluation", key="all", config={}, inputs={}
    )
    trained = [
        manifests.require(data.partition("experts", key)).seconds for key in ("shape", "tone")
    ]
    with open_partition(made) as work:
        keep_seconds(work, "001-", "merged", seconds=3.0, images=6, training=0.0)
        keep_seconds(work, "001-", "merged", seconds=1.0, images=2, training=0.0)
        (row,) = costs(data, work, NAMES).to_pylist()
    assert row["seconds_per_image"] == 0.5
    assert row["training_seconds"] == pytest.approx(sum(trained))


def test_wrong_parameters_stop_the_room_before_anything_is_rendered(tmp_path, evaluated):
    data = DataRoot(root=tmp_path, profile="test")
    write_train(write_release(data))
    write_adapter(tmp_path, "a")
    wrong = dataclasses.replace(
        CONFIG, peers=PEERS, peer_params={"uce": {"ridge": 0}, "negative_prompt": {"level": 1}}
    )
    drawn = DrawnImages()
    with pytest.raises(ConfigError, match=r"2 fault.*") as message:
        evaluate_all(data, {}, drawn, [RedScorer()], wrong)
    assert "peer_params.uce: ridge must be positive, got 0" in str(message.value)
    assert "level" in str(message.value)
    assert drawn.rendered == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peers": ("sdl",)}, "no 'sdl'"),
        ({"peers": ("sld", "sld")}, "sld is named twice"),
        ({"peer_params": {"sld": {}}}, "sld is not among peers"),
    ],
)
def test_a_profile_with_wrong_names_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(flags=CONFIG.flags, **fields)
