"""Guards as targets: named in a section, read from their files, seen apart from the model."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError, InputMissing
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.standin.factory import base_model_folder
from alignguard_data.storage import manifest as manifests
from alignguard_train.contracts.adapter_names import behind_guard, guard_of, label
from alignguard_train.guards.config import GUARDS
from alignguard_train.guards.drawing import draw_guarded
from alignguard_train.guards.files import save_guard
from alignguard_train.guards.reader import guard_file
from alignguard_train.guards.registry import load_guard
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.robustness.capabilities import capabilities_of, drawn_by, target_fault
from alignguard_train.robustness.cases import ChosenCase
from alignguard_train.robustness.config import AttackConfig
from alignguard_train.robustness.protocol import GuardVerdict
from alignguard_train.robustness.room import attack_all, spec
from alignguard_train.robustness.search import Replayer, not_searched
from alignguard_train.robustness.targets import AskedGuard, Models
from tests.alignguard_train.guards.composed import SAFE, UNSAFE, made
from tests.alignguard_train.guards.composed import release as composed_release
from tests.alignguard_train.guards.release import BASE as STANDIN
from tests.alignguard_train.guards.small import eos_first_encoder, header_for
from tests.alignguard_train.robustness.room_world import CONFIG, Scorer, build, cases_of
from tests.alignguard_train.robustness.small_target import SmallTarget, case

PROBE = "eos-logistic"
ALL_BLOCKED, NONE_BLOCKED = 100.0, -100.0
ON_GUARDS = ("guard:eos-logistic", "guard:eos-logistic+merged")
MATRIX = dataclasses.replace(
    CONFIG,
    attacks=(
        AttackConfig(name="random_n"),
        AttackConfig(name="adaptive", params={"sweeps": 1, "shown": 2}, targets=ON_GUARDS),
        AttackConfig(name="sneaky", targets=ON_GUARDS),
    ),
    targets=("merged", *ON_GUARDS),
)

NAMES: dict[str, tuple[str, str, str]] = {
    "merged": ("", "merged", "Merged adapter"),
    "guard:safeguider": ("safeguider", "base", "safeguider + Base model"),
    "guard:latent-guard+merged": ("latent-guard", "merged", "latent-guard + Merged adapter"),
    "guard:latent-guard+peer:sld": ("latent-guard", "peer:sld", "latent-guard + SLD"),
}
FAULTS: dict[str, str] = {
    "guard:probe": "no guard 'probe' of 'guard:probe'; there are eos-logistic",
    "guard:": "no guard ''",
    "guard:eos-logistic+": "guard:GUARD or guard:GUARD+TARGET",
    "guard:eos-logistic+guard:safeguider": "with one guard",
    "guard:eos-logistic+mergd": "no target 'mergd'",
    "guard:eos-logistic+peer:sdl": "no peer 'sdl'",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_has_its_guard_and_what_is_behind_it(name: str) -> None:
    assert (guard_of(name), behind_guard(name), label(name)) == NAMES[name]
    assert not target_fault(name)


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_name_says_what_there_is(name: str) -> None:
    assert FAULTS[name] in target_fault(name)


def test_a_guard_adds_its_verdict_and_takes_nothing_away() -> None:
    for model in ("base", "merged", "peer:sld", "peer:uce"):
        behind = capabilities_of(f"guard:eos-logistic+{model}")
        assert behind == capabilities_of(model) | {"guard"}


def test_only_a_guard_on_prompts_shares_the_images_of_the_model_behind_it() -> None:
    shared = {name: drawn_by(f"guard:{name}+merged") == "merged" for name in GUARDS}
    assert {name for name, same in shared.items() if not same} == {
        "sld", "safree", "dual-latent", "shield"
    }  # fmt: skip
    assert drawn_by("merged") == "merged"


@pytest.mark.parametrize("kind", ["sld", "dual-latent", "shield"])
def test_what_a_guard_lets_through_is_drawn_by_its_guarded_pipe(kind: str) -> None:
    made(kind)
    file = guard_file(composed_release()[0], kind)  # of any settings: tests share the release
    guard = load_guard(file, STANDIN.pipe)
    sampling = Sampling(
        num_inference_steps=2, guidance_scale=3.0, width=32, height=32, batch_size=2
    )
    generator = DiffusersImageGenerator(
        model=str(base_model_folder()), device="cpu", sampling=sampling
    )
    texts, seeds = [UNSAFE, SAFE, UNSAFE], [1, 2, 3]
    images = AskedGuard(file, STANDIN).draw(generator, texts, seeds)
    one_by_one = [
        draw_guarded(STANDIN.pipe, guard, [text], [seed], sampling)[0][0]
        for text, seed in zip(texts, seeds, strict=True)
    ]
    assert np.abs(images.astype(int) - np.stack(one_by_one)).max() <= 2  # batches round apart
    far = np.abs(images.astype(int) - generator.render(texts, seeds)).max(axis=(1, 2, 3))
    assert far[0] > 8


def guarded(folder: Path, models: Models, bias: float) -> Models:
    """The models with a probe whose score is ``bias`` for every prompt."""
    encoder = FrozenEncoder.of(models.base.pipe)
    tensors = {"weight": torch.zeros(encoder.identity.width), "bias": torch.tensor(bias)}
    save_guard(folder / "guard.safetensors", header_for(encoder, PROBE, settings={}), tensors)
    return dataclasses.replace(models, guards={PROBE: folder / "guard.safetensors"})


@pytest.fixture(scope="module", params=[ALL_BLOCKED, NONE_BLOCKED])
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, scorer = tmp_path_factory.mktemp("matrix"), Scorer()
    data, models = build(folder, scorer=scorer)
    attack_all(data, guarded(folder, models, request.param), MATRIX)
    metrics = manifests.read(data.partition("robustness"), "metrics").to_pylist()
    found = {
        (row["attack"], row["target"], row["metric"]): row["value"]
        for row in metrics
        if row["subset"] == "all"
    }
    return request.param == ALL_BLOCKED, data, found, scorer


def test_a_blocked_prompt_is_no_success_and_its_image_is_judged_all_the_same(matrix) -> None:
    blocks, _, found, _ = matrix
    for attack in ("no_attack", "random_n"):
        for name in ON_GUARDS:
            model = behind_guard(name)
            assert found[attack, name, "replay_asr"] == found[attack, model, "replay_asr"]
            assert found[attack, name, "bypass"] == float(not blocks)
            passed = 0.0 if blocks else found[attack, model, "replay_asr"]
            assert found[attack, name, "end_to_end"] == passed
    assert max(value for key, value in found.items() if key[2] == "replay_asr") > 0
    assert ("no_attack", "merged", "bypass") not in found


def test_the_attacks_on_guards_ask_them(matrix) -> None:
    _, data, _, _ = matrix
    rows = [row for row in cases_of(data) if row.attack in ("adaptive", "sneaky")]
    assert {row.target for row in rows} == set(ON_GUARDS)
    assert all(row.guarded and row.guard_calls for row in rows)


def test_a_guard_makes_no_image_of_its_models_prompts_again(matrix) -> None:
    _, data, _, scorer = matrix
    rows = cases_of(data)
    images = {(behind_guard(row.target), row.case_id, row.text_sha256) for row in rows}
    searched = sum(row.judge_calls for row in rows)
    assert scorer.calls <= len(images) + searched
    assert len(images) < len(rows)


def test_the_report_shows_what_passes_the_guard(matrix) -> None:
    _, data, _, _ = matrix
    folder = data.partition("robustness")
    page = (folder / manifests.require(folder).file("report.html").name).read_text()
    assert "Prompts that pass the guard (bypass)" in page
    assert "eos-logistic + Merged adapter" in page


def test_a_guard_that_is_not_trained_is_refused_with_the_command(tmp_path: Path) -> None:
    scorer = Scorer()
    data, models = build(tmp_path, scorer=scorer)
    for act in (spec, attack_all):
        with pytest.raises(InputMissing, match="`alignguard guard train eos-logistic`"):
            act(data, models, MATRIX)
    assert scorer.calls == 0


def test_a_guard_of_another_encoder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    scorer, encoder = Scorer(), eos_first_encoder()
    data, models = build(tmp_path, scorer=scorer)
    tensors = {"weight": torch.zeros(encoder.identity.width), "bias": torch.tensor(0.0)}
    save_guard(tmp_path / "guard.safetensors", header_for(encoder, PROBE, settings={}), tensors)
    models = dataclasses.replace(models, guards={PROBE: tmp_path / "guard.safetensors"})
    with pytest.raises(EngineError, match="reads another text encoder"):
        attack_all(data, models, MATRIX)
    assert scorer.calls == 0


def test_the_guards_own_file_decides_what_is_stale(tmp_path: Path) -> None:
    data, models = build(tmp_path)
    first = spec(data, guarded(tmp_path, models, ALL_BLOCKED), MATRIX).fingerprint
    retrained = guarded(tmp_path, models, NONE_BLOCKED)
    assert spec(data, retrained, MATRIX).fingerprint != first
    plain = dataclasses.replace(MATRIX, attacks=(), targets=("merged",))
    assert spec(data, retrained, plain).fingerprint == spec(data, models, plain).fingerprint


def test_a_guard_that_fails_is_an_outcome_and_no_detection(tmp_path: Path) -> None:
    data, models = build(tmp_path)
    config = dataclasses.replace(MATRIX, attacks=(), targets=ON_GUARDS[:1])
    made = attack_all(data, guarded(tmp_path, models, math.nan), config)
    rows = [row for row in cases_of(data) if row.guarded]
    assert {row.stop_reason for row in rows} == {"guard_failed"}
    assert made.rejected == {"guard_failed": len(rows)}
    metrics = manifests.read(data.partition("robustness"), "metrics").to_pylist()
    assert {row["target"] for row in metrics} == {"base"}


def test_a_rewritten_prompt_is_judged_by_the_text_that_is_drawn() -> None:
    class Rewriting(SmallTarget):
        def guard(self, texts: Any) -> list[GuardVerdict]:
            return [GuardVerdict(blocked=False, score=1.0, drawn="a red ball") for _ in texts]

    chosen = ChosenCase(case=case(), seen=True)
    target = Rewriting(reward=lambda text: float("zigzag" in text))
    searched = not_searched(chosen.case, "finished")
    row = Replayer(target, seeds=2, keep_texts=True).judged(
        chosen, "no_attack", searched, base_unsafe=None, unattacked_unsafe=None
    )
    assert (row.guard_rewrote, row.guard_blocked, row.replays_unsafe) == (True, False, 0)
    assert row.text == case().prompt
