"""The cost model's room: gate, file, costs, scorer, and a killed attempt."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from alignguard_data.contracts.errors import ConfigError, EngineError, InputMissing, IntegrityError
from alignguard_data.storage import manifest as manifests
from alignguard_train.cost_model import head as heads
from alignguard_train.cost_model.files import HEADER, load_cost_model
from alignguard_train.cost_model.gate import figures, refuse_under_gate
from alignguard_train.cost_model.reader import ROOM, cost_model_file, costs_of
from alignguard_train.cost_model.room import make_cost_model, spec
from alignguard_train.cost_model.scorer import CostScorer
from tests.alignguard_train.cost_model.world import CONFIG, Brightness, write_data

EXTRACTOR = {"use": "tests.alignguard_train.cost_model.world:Brightness"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = write_data(tmp_path_factory.mktemp("data"))
    make_cost_model(made, Brightness(), CONFIG)
    return made


def test_a_cost_model_that_passes_says_what_it_read_and_is_worth(data):
    header, _ = load_cost_model(cost_model_file(data))
    assert (header.features, header.features_version, header.width) == ("brightness", "1", 2)
    assert header.release == "coprov2-test-v0.1.0"
    assert header.figures.auc >= 0.9
    assert header.figures.low <= header.figures.auc <= header.figures.high
    assert header.figures.concepts == 2
    counts = manifests.require(data.partition(ROOM)).counts
    assert counts["auc held_out"] == round(header.figures.auc, 4)
    assert counts["held_out pairs"] == header.figures.pairs == 20


def test_every_train_pair_has_its_costs(data):
    costs = costs_of(data)
    assert len(costs) == 60
    assert np.mean([safe < 0 < unsafe for safe, unsafe in costs.values()]) > 0.9


def test_an_equal_cost_model_is_not_made_again(data, tmp_path):
    log = tmp_path / "log"
    make_cost_model(data, Brightness(log), CONFIG)
    assert not log.exists()


def test_a_cost_model_of_an_older_release_is_not_read(tmp_path):
    made = write_data(tmp_path / "one")
    make_cost_model(made, Brightness(), CONFIG)
    other = write_data(tmp_path / "two", meaning=0.5)
    (tmp_path / "one" / "test" / ROOM).rename(tmp_path / "two" / "test" / ROOM)
    with pytest.raises(InputMissing, match="on another release than the newest"):
        costs_of(other)
    assert spec(other, Brightness(), CONFIG).state() == "stale"


def test_settings_and_extractor_make_it_stale(data):
    assert spec(data, Brightness(), CONFIG).state() == "done"
    assert spec(data, Brightness(), dataclasses.replace(CONFIG, seed=1)).state() == "stale"
    other = Brightness()
    other.version = "2"
    assert spec(data, other, CONFIG).state() == "stale"


def test_images_that_tell_nothing_are_refused_with_figure_and_bound(tmp_path):
    made = write_data(tmp_path, meaning=0.0)
    with pytest.raises(EngineError, match=r"min_auc: the held-out AUC is 0\.\d+ .* least 0\.9"):
        make_cost_model(made, Brightness(), CONFIG)
    with pytest.raises(InputMissing):
        costs_of(made)


def test_random_labels_are_refused(tmp_path, monkeypatch):
    """Each pair's sides are swapped at random in training: nothing can be learned of them."""
    trained = heads.train_head

    def shuffled(safe, unsafe, config, progress=None):
        swap = torch.rand(len(safe), 1, generator=torch.Generator().manual_seed(1)) < 0.5
        return trained(
            torch.where(swap, unsafe, safe), torch.where(swap, safe, unsafe), config, progress
        )

    monkeypatch.setattr(heads, "train_head", shuffled)
    with pytest.raises(EngineError, match="min_right: 0"):
        make_cost_model(write_data(tmp_path), Brightness(), CONFIG)


def test_a_flipped_sign_is_refused(tmp_path, monkeypatch):
    trained = heads.train_head
    monkeypatch.setattr(
        heads, "train_head", lambda safe, unsafe, *rest: trained(unsafe, safe, *rest)
    )
    with pytest.raises(
        EngineError, match=r"min_auc: the held-out AUC is 0\.0.*; min_right: 0\.000"
    ):
        make_cost_model(write_data(tmp_path), Brightness(), CONFIG)


@pytest.mark.parametrize("shift", [3.0, -3.0])
def test_a_border_that_is_not_at_0_is_refused(shift):
    """The area does not see it: every unsafe image costs more, but all are on one side."""
    safe, unsafe = np.full(10, -1.0) + shift, np.full(10, 1.0) + shift
    found = figures(safe, unsafe, ["a.x", "a.y"] * 5, CONFIG)
    assert found.auc == 1.0
    with pytest.raises(EngineError, match=r"min_right: 0\.000 of the held-out pairs"):
        refuse_under_gate(found, min_auc=0.9, min_right=0.8, of="it")


def test_the_figures_by_hand():
    """Unsafe 1, 3, safe -1, 2: of the four comparisons 3 are right. One pair of two is right."""
    found = figures(np.array([-1.0, 2.0]), np.array([1.0, 3.0]), ["a.x", "a.y"], CONFIG)
    assert (found.auc, found.right, found.pairs, found.concepts) == (0.75, 0.5, 2, 2)


def test_a_figure_that_is_no_number_is_refused(data):
    found = load_cost_model(cost_model_file(data))[0].figures
    with pytest.raises(EngineError, match="min_auc"):
        refuse_under_gate(
            dataclasses.replace(found, auc=float("nan")), min_auc=0.9, min_right=0.8, of="it"
        )


def changed(data, folder, *, header=None, tensors=None):
    source = cost_model_file(data)
    with safe_open(source, "pt") as file:
        text = file.metadata()[HEADER]
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = json.loads(text)
    (header or (lambda _: None))(content)
    path = folder / "changed.safetensors"
    save_file(tensors or kept, path, metadata={HEADER: json.dumps(content)})
    return path


FAULTY = {
    "format": (lambda h: h.update(version=9), IntegrityError, "cost model format 9"),
    "field": (lambda h: h.pop("width"), IntegrityError, "faulty cost model header"),
    "width": (lambda h: h.update(width=7), IntegrityError, "of its width"),
    "auc": (lambda h: h["figures"].update(auc=0.6), EngineError, "the held-out AUC is 0.600"),
    "right": (lambda h: h["figures"].update(right=0.1), EngineError, "min_right: 0.100"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_file_is_refused(data, tmp_path, name):
    change, error, said = FAULTY[name]
    with pytest.raises(error, match=said):
        load_cost_model(changed(data, tmp_path, header=change))


def test_another_safetensors_file_is_no_cost_model(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(IntegrityError, match="is not a cost model"):
        load_cost_model(tmp_path / "x.safetensors")


def test_weights_that_are_not_finite_are_refused(data, tmp_path):
    head = load_cost_model(cost_model_file(data))[1].state_dict()
    bad = {**head, "mean": torch.full_like(head["mean"], float("nan"))}
    with pytest.raises(IntegrityError, match="NaN or infinity in mean"):
        load_cost_model(changed(data, tmp_path, tensors=bad))


def test_the_scorer_gives_the_stored_costs(data):
    scorer = CostScorer(str(cost_model_file(data)), EXTRACTOR)
    images = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (200, 100)])
    rows = scorer.score(images, ["", ""])
    assert [tuple(row) for row in rows] == [scorer.keys] * 2
    assert rows[0]["cost"] < 0 < rows[1]["cost"]
    assert scorer.score(images[:0], []) == []


def test_the_scorers_version_names_file_and_extractor(data, tmp_path):
    scorer = CostScorer(str(cost_model_file(data)), EXTRACTOR)
    head = load_cost_model(cost_model_file(data))[1].state_dict()
    other = changed(data, tmp_path, tensors={n: x + 1 for n, x in head.items()})
    assert scorer.version.endswith("-1")
    assert CostScorer(str(other), EXTRACTOR).version != scorer.version


def test_another_extractor_is_refused_by_name(data):
    features = {"use": "alignguard_data.standin:random_features"}
    with pytest.raises(EngineError, match=r"brightness \(1\); features: random-convolutions"):
        CostScorer(str(cost_model_file(data)), features)


@pytest.mark.parametrize("features", [{}, {"use": "no.such:thing"}, {"use": "math:pi", "x": 1}])
def test_features_that_name_no_function_are_refused(data, features):
    with pytest.raises(ConfigError, match="features"):
        CostScorer(str(cost_model_file(data)), features)


KILLED = """
import sys
from pathlib import Path
from alignguard_data.storage.paths import DataRoot
from alignguard_train.cost_model.room import make_cost_model
from tests.alignguard_train.cost_model.world import CONFIG, Brightness
data = DataRoot(root=Path(sys.argv[1]), profile="test")
make_cost_model(data, Brightness(Path(sys.argv[2]), float(sys.argv[3])), CONFIG)
"""


def test_a_killed_attempt_reads_no_image_twice_and_gives_the_same_file(data, tmp_path):
    """60 pairs are 15 batches of 8 images; the batch in flight may be read again."""
    write_data(tmp_path / "data")
    log = tmp_path / "log"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "data"), str(log)]
    process = subprocess.Popen([*command, "0.3"])
    deadline = time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) >= 4):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, "0"], check=True)
    assert 15 <= len(log.read_text().splitlines()) <= 16
    found = manifests.require(type(data)(root=tmp_path / "data", profile="test").partition(ROOM))
    kept = manifests.require(data.partition(ROOM))
    assert found.content_id == kept.content_id
