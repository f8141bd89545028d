"""A gate that ships: fitted on a release, a file without code, and every fault at once."""

import dataclasses
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alignguard_data.contracts.errors import ConfigError, IntegrityError
from alignguard_data.standin.grammar import safe_caption
from alignguard_data.standin.world import Scene, neutral_scenes
from alignguard_train.adapters.lora import LoraLayer, save_lora
from alignguard_train.guards.splits import TextPair
from alignguard_train.merge import ExpertGate
from alignguard_train.merge.gate_file import HEADER, read_gate
from alignguard_train.merge.gate_texts import gate_texts, held_out
from alignguard_train.merge.linear_gate import fit_linear
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.guards.release import BASE

COLOURS = {"ball": ("red", "blue"), "box": ("yellow", "green")}
"""Forbidden colours of objects, which are the categories: this encoder's end-of-text state says
more of an object than of a glyph."""


def shuffled() -> list[Scene]:
    """Scenes in an order that says nothing of a concept."""
    scenes = list(neutral_scenes())
    Random(0).shuffle(scenes)
    return scenes


def release_of(folder: Path, categories: tuple[str, ...] = tuple(COLOURS), each: int = 20) -> Path:
    """Texts only, concept after concept, as a release is ordered."""
    scenes, rows = shuffled(), []
    for category in categories:
        for colour in COLOURS[category]:
            for _ in range(each):
                number = len(rows)
                scene = dataclasses.replace(scenes[number], object=category, colour=colour)
                twin = dataclasses.replace(scene, colour="purple")
                rows.append(
                    {
                        "pair_id": f"{number:032x}",
                        "concept": f"{category}.{colour}",
                        "caption": safe_caption(scene, number % 10),
                        "caption_safe": safe_caption(twin, number % 10),
                    }
                )
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    return folder


def expert(file: Path, strength: float) -> Path:
    torch.manual_seed(int(strength * 10))
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    weight = BASE.pipe.unet.get_submodule(name).weight
    layer = LoraLayer(torch.randn(2, weight.shape[1]), strength * torch.randn(weight.shape[0], 2))
    save_lora({name: layer}, file)
    return file


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release_of(tmp_path_factory.mktemp("release") / "coprov2-test-v0.1.0")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts")
    for number, category in enumerate(COLOURS):
        expert(folder / f"{category}.safetensors", 1.0 + number)
    return folder


@pytest.fixture(scope="module")
def gate(release: Path, experts: Path) -> ExpertGate:
    return ExpertGate.fit(release, experts, BASE.pipe)


def fresh(count: int = 12) -> list[tuple[str, str]]:
    """Captions of other scenes, with their categories."""
    scenes = shuffled()[-count:]
    return [
        (safe_caption(dataclasses.replace(scene, object=category, colour=colour), i % 10), category)
        for i, scene in enumerate(scenes)
        for category, (colour, _) in COLOURS.items()
    ]


def test_captions_that_it_never_saw_go_to_their_category(gate: ExpertGate) -> None:
    texts, wanted = zip(*fresh(), strict=True)
    right = np.mean([a == b for a, b in zip(gate.choose(texts), wanted, strict=True)])
    assert right > 0.9


def test_tensors_say_what_scikit_learn_says_of_two_classes_and_of_three() -> None:
    """Two classes are one row of coefficients there."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 5)).astype("float32"))
    for count in (2, 3):
        labels = [f"c{int(value)}" for value in (x[:, 0] * 3).abs() % count]
        ours = fit_linear(x[:40], labels[:40], x[40:], labels[40:], (1.0,))
        theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
        wanted = theirs.fit(x[:40].numpy(), labels[:40]).predict_proba(x.numpy())
        assert np.abs(ours.probabilities(x).numpy() - wanted).max() < 1e-5


def test_the_penalty_is_the_one_that_is_right_most_often_on_what_was_held_out() -> None:
    """One state decides the label and many are noise: a weak penalty learns the noise."""
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(400, 60)).astype("float32"))
    labels = [
        "ab"[int(value > 0)] for value in x[:, 0] + 0.8 * torch.from_numpy(rng.normal(size=400))
    ]
    parts = (x[:60], labels[:60], x[60:], labels[60:])
    alone = {c: fit_linear(*parts, (c,)).held_out for c in (0.001, 0.1, 100.0)}
    chosen = fit_linear(*parts, tuple(alone))
    assert alone[chosen.penalty] == chosen.held_out == max(alone.values()) > min(alone.values())


def test_every_concept_is_held_out_in_part_whatever_the_order_of_the_rows() -> None:
    pairs = [
        TextPair(
            pair_id=f"{i:032x}", concept=f"{'ab'[i % 2]}.{i // 2 % 3}", unsafe=f"t{i}", safe=f"t{i}"
        )
        for i in range(60)
    ]
    held = held_out(pairs, 0.2, 0)
    assert held == held_out(pairs[::-1], 0.2, 0)
    assert held != held_out(pairs, 0.2, 1)
    for concept in {pair.concept for pair in pairs}:
        own = [pair.pair_id for pair in pairs if pair.concept == concept]
        assert len(held & set(own)) == 2


def test_no_text_is_both_fitted_and_held_out_and_no_concept_is_held_out_whole() -> None:
    """Pairs 0 and 1 share a text over two concepts; the second concept has no other."""
    texts = {"a.x": ["t", "u", "v"], "b.y": ["t"]}
    pairs = [
        TextPair(pair_id=f"{concept} {i}", concept=concept, unsafe=text, safe=text)
        for concept, own in texts.items()
        for i, text in enumerate(own)
    ]
    for seed in range(20):
        held = held_out(pairs, 0.4, seed)
        assert held
        assert {"a.x 0", "b.y 0"}.isdisjoint(held)


def test_twins_are_learned_from_only_if_asked(release: Path) -> None:
    counts = {}
    for twins in (False, True):
        texts = gate_texts(release, twins=twins, share=0.2, seed=0)
        counts[twins] = len(texts.fitted) + len(texts.held_out)
        assert {text for text, _ in texts.fitted}.isdisjoint(text for text, _ in texts.held_out)
    assert counts == {False: 80, True: 160}


def test_a_file_gives_the_same_gate_and_says_where_it_comes_from(
    gate: ExpertGate, experts: Path, tmp_path: Path
) -> None:
    gate.save(tmp_path / "a.safetensors")
    gate.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    texts = [text for text, _ in fresh()]
    loaded = ExpertGate.load(tmp_path / "a.safetensors", BASE.pipe, experts)
    assert loaded.probabilities(texts) == gate.probabilities(texts)
    assert loaded.header == gate.header
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        said = json.loads(file.metadata()[HEADER])
    assert said["classes"] == ["ball", "box"]
    assert said["release"] == "coprov2-test-v0.1.0"
    assert said["penalty"] in (0.1, 1.0, 10.0, 100.0)
    assert (said["held_out"], said["fitted"]) == (16, 80)


@pytest.mark.filterwarnings("ignore:Already found a .peft_config:UserWarning")  # several experts
def test_an_attached_gate_draws_with_the_chosen_expert(
    gate: ExpertGate, experts: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    from alignguard_data.standin.factory import base_model_folder

    pipe: Any = StableDiffusionPipeline.from_pretrained(base_model_folder(), safety_checker=None)
    gate.save(tmp_path / "gate.safetensors")
    loaded = ExpertGate.load(tmp_path / "gate.safetensors", pipe, experts)
    loaded.attach()
    assert pipe.get_list_adapters() == {"unet": ["ball", "box"]}
    prompt, category = fresh()[0]
    assert loaded.choose([prompt]) == [category]
    assert loaded.choose([prompt]) == [category]  # adapters do not change what the gate reads
    with pytest.raises(ConfigError, match="it has an adapter ball already"):
        loaded.attach()


def test_a_gate_that_cannot_tell_the_categories_apart_says_so(
    experts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Categories that have nothing to do with the captions."""
    folder = release_of(tmp_path / "mixed", each=10)
    file = folder / "data" / "train-00000-of-00001.parquet"
    rows = pq.read_table(file).to_pylist()
    for i, row in enumerate(rows):
        row["concept"] = f"{'ball' if i % 2 else 'box'}.red"
    pq.write_table(pa.Table.from_pylist(rows), file)
    gate = ExpertGate.fit(folder, experts, BASE.pipe)
    assert gate.header.held_out_right < 0.9
    assert f"only {100 * gate.header.held_out_right:.0f} % of" in caplog.text


def test_every_fault_of_fitting_is_said_at_once(tmp_path: Path) -> None:
    one = release_of(tmp_path / "one", ("ball",), each=1)
    broken = tmp_path / "ball.safetensors"
    broken.write_bytes(b"no tensors")
    with pytest.raises(ConfigError) as raised:
        ExpertGate.fit(one, {"ball": broken, "kite": broken}, object())
    faults = "\n".join(raised.value.faults)
    assert len(raised.value.faults) == 5
    for said in (
        "a object has no tokenizer",
        "a gate needs two categories, it has ball",
        "no concept has two captions",
        "unknown category kite; there are ball",
        "is not a readable safetensors file",
    ):
        assert said in faults


def test_every_fault_of_loading_is_said_at_once(gate: ExpertGate, tmp_path: Path) -> None:
    file = tmp_path / "gate.safetensors"
    gate.save(file)
    given = {"ball": tmp_path / "nowhere.safetensors", "kite": file}
    with pytest.raises(ConfigError) as raised:
        ExpertGate.load(file, tiny_pipe(), given)
    faults = "\n".join(raised.value.faults)
    for said in (
        "another text encoder than the pipe's: weights",
        "nowhere.safetensors does not exist",
        "no expert of category box",
        "unknown category kite; there are ball, box",
    ):
        assert said in faults
    with pytest.raises(ConfigError, match=r"box\.safetensors does not exist"):
        ExpertGate.load(file, BASE.pipe, tmp_path)


FILES: dict[str, tuple[Any, str]] = {
    "no header": (lambda tensors, said: {}, "its metadata lacks"),
    "other version": (lambda tensors, said: said.update(version=9), "gate format 9"),
    "no class names": (lambda tensors, said: said.pop("classes"), "faulty gate header"),
    "a class too many": (lambda tensors, said: said["classes"].append("x"), r"bias is \(2,\)"),
    "no scale": (lambda tensors, said: tensors.pop("scale"), "scale is missing"),
    "a tensor too many": (
        lambda tensors, said: tensors.update(more=torch.zeros(1)), "must be absent"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_faulty_file_says_what_is_wrong(name: str, gate: ExpertGate, tmp_path: Path) -> None:
    file = tmp_path / "gate.safetensors"
    gate.save(file)
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        said = json.loads(opened.metadata()[HEADER])
    change, message = FILES[name]
    change(tensors, said)
    save_file(tensors, file, None if name == "no header" else {HEADER: json.dumps(said)})
    with pytest.raises(IntegrityError, match=message):
        read_gate(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"none\.safetensors cannot be read"):
        read_gate(tmp_path / "none.safetensors")
