"""An attempt that is cut off or whose judge fails: what is done is not done twice."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignguard_data.contracts.errors import NothingMade
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_train.robustness.attacks.genbreak import GenBreak
from alignguard_train.robustness.room import attack_all, spec
from tests.alignguard_train.robustness.room_world import (
    CONFIG,
    LEARNED,
    QUICK,
    Scorer,
    build,
    cases_of,
    killed_when_it_says,
    rebuilt,
)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory):
    """A whole attempt of two attacks on two targets: eight rows."""
    data, models = build(tmp_path_factory.mktemp("quick"))
    return attack_all(data, models, QUICK)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(quick, tmp_path: Path) -> None:
    data, models = build(tmp_path)
    assert attack_all(data, models, QUICK).content_id == quick.content_id
    other = dataclasses.replace(QUICK, seed=1)
    assert attack_all(data, models, other).content_id != quick.content_id


def test_an_attempt_that_was_cut_goes_on_at_its_case(quick, tmp_path: Path) -> None:
    scorer = Scorer()
    data, models = build(tmp_path, scorer=scorer)
    scorer.dies_at = 6
    with pytest.raises(KeyboardInterrupt):
        attack_all(data, models, QUICK)
    assert not (data.partition("robustness") / "manifest.json").exists()
    done: list[int] = []
    again = attack_all(data, models, QUICK, progress=done.append)
    assert again.content_id == quick.content_id
    assert sum(done) == quick.rows == 8
    assert scorer.calls == quick.rows + 1  # only the case that was cut is judged twice


def test_a_failing_judge_is_an_outcome_and_the_other_cases_are_judged(tmp_path: Path) -> None:
    scorer = Scorer()
    scorer.fails_at = {2}
    data, models = build(tmp_path, scorer=scorer)
    config = dataclasses.replace(CONFIG, attacks=(), targets=("base",))
    made = attack_all(data, models, config)
    rows = {row.stop_reason: row for row in cases_of(data)}
    assert set(rows) == {"finished", "judge_failed"}
    failed = rows["judge_failed"]
    assert (failed.failure, failed.replays, failed.search_unsafe) == (
        "the scorer is away", 0, False
    )  # fmt: skip
    assert made.rejected == {"judge_failed": 1}
    metrics = manifests.read(data.partition("robustness"), "metrics").to_pylist()
    assert {r["n"] for r in metrics if r["subset"] == "all" and r["metric"] == "asr"} == {1}
    assert (
        "Judge failed</dt><dd>1"
        in (data.partition("robustness") / made.file("report.html").name).read_text()
    )


def test_a_judge_that_failed_is_asked_again_and_no_other_case_is(tmp_path: Path) -> None:
    scorer = Scorer()
    scorer.fails_at = {2}
    data, models = build(tmp_path, scorer=scorer)
    config = dataclasses.replace(CONFIG, attacks=(), targets=("base",))
    attack_all(data, models, config)
    assert spec(data, models, config).state() == "short"
    kept = [row for row in cases_of(data) if not row.failure]
    asked = scorer.calls
    again = attack_all(data, models, config)
    assert scorer.calls == asked + 1
    assert not again.rejected
    assert spec(data, models, config).state() == "done"
    assert [row for row in cases_of(data) if row in kept] == kept
    assert {row.stop_reason for row in cases_of(data)} == {"finished"}


def test_a_judge_that_always_fails_makes_nothing(tmp_path: Path) -> None:
    scorer = Scorer()
    scorer.fails_at = set(range(1000))
    data, models = build(tmp_path, scorer=scorer)
    with pytest.raises(NothingMade, match="judge_failed"):
        attack_all(data, models, dataclasses.replace(CONFIG, attacks=(), targets=("base",)))


KILLED = """
import sys
from pathlib import Path
from tests.alignguard_train.robustness.room_world import QUICK, build
from alignguard_train.robustness.room import attack_all
data, models = build(Path(sys.argv[1]))
print("ready", flush=True)
attack_all(data, models, QUICK, progress=lambda units: print("case", flush=True))
"""


def test_kill_9_in_mid_attack_resumes_at_the_case(quick, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path[:1]])}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout
        seen = 0
        for line in child.stdout:
            seen += line == "case\n"
            if seen == 3:
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    partial = next(path for path in (tmp_path / "test" / "robustness" / "all").glob(".*.partial"))
    rows = len(list(partial.glob("row@*.parquet")))
    assert 3 <= rows < 8
    data = DataRoot(root=tmp_path, profile="test")
    scorer = Scorer()
    models = rebuilt(tmp_path, scorer)
    made = attack_all(data, models, QUICK)
    assert made.content_id == quick.content_id
    assert scorer.calls == 8 - rows


PREPARED = """
import sys, time
from pathlib import Path
from alignguard_train.robustness.attacks.genbreak import GenBreak
from tests.alignguard_train.robustness.room_world import LEARNED, build
from alignguard_train.robustness.room import attack_all

def waits(*given):
    print("prepared", flush=True)
    time.sleep(600)

GenBreak.search = waits
data, models = build(Path(sys.argv[1]))
attack_all(data, models, LEARNED)
"""


def test_kill_9_after_the_preparation_does_not_prepare_again(tmp_path: Path, monkeypatch) -> None:
    killed_when_it_says("prepared", PREPARED, tmp_path / "killed")
    whole = attack_all(*build(tmp_path / "whole"), LEARNED)

    def again(*_: Any) -> None:
        raise AssertionError("it prepares again")

    monkeypatch.setattr(GenBreak, "prepare", again)
    data = DataRoot(root=tmp_path / "killed", profile="test")
    made = attack_all(data, rebuilt(tmp_path / "killed", Scorer()), LEARNED)
    assert made.content_id == whole.content_id
    assert manifests.read(data.partition("robustness"), "prepared").num_rows == 1


def test_a_judge_that_fails_in_a_preparation_is_an_outcome_of_its_cases(tmp_path: Path) -> None:
    scorer = Scorer()
    scorer.fails_at = set(range(3, 1000))
    data, models = build(tmp_path, scorer=scorer)
    made = attack_all(data, models, LEARNED)
    rows = cases_of(data)
    assert Counter((row.attack, row.stop_reason) for row in rows) == {
        ("no_attack", "finished"): 2, ("genbreak", "judge_failed"): 2
    }  # fmt: skip
    assert made.rejected == {"judge_failed": 2}
