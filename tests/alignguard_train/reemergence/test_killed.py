"""A measurement that is killed among its models: finished rows are not made again."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

from alignguard_data.storage.partition import PartitionWork
from alignguard_data.storage.paths import DataRoot
from alignguard_train.reemergence.room import measure_reemergence
from tests.alignguard_train.reemergence.world import CONFIG, build, models

SMALL = dataclasses.replace(CONFIG, seeds=(0,), steps=(1, 2), prompts_per_concept=1)
KILLED = """
import sys
from pathlib import Path
from tests.alignguard_train.reemergence.test_killed import measured
measured(Path(sys.argv[1]), "killed", lambda count: print("unit", flush=True))
"""


def measured(folder: Path, key: str, progress=None):
    data = DataRoot(root=folder, profile="test")
    own = models(folder, merged=folder / "merged.safetensors")
    return measure_reemergence(data, own, SMALL, progress, key=key)


def batches(folder: Path) -> set[str]:
    room = folder / "test" / "reemergence"
    return {path.stem for path in room.glob("killed/.*.partial/*@*.parquet")}


def test_kill_9_among_the_models_resumes_and_makes_no_row_twice(tmp_path, monkeypatch) -> None:
    build(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path[:1]])}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout
        for line in child.stdout:
            if line == "unit\n" and any("stacked" in name for name in batches(tmp_path)):
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    kept = batches(tmp_path)
    made: list[str] = []
    save = PartitionWork.save_batch

    def noted(work: PartitionWork, name: str, *rest, **named):
        made.append(name)
        return save(work, name, *rest, **named)

    monkeypatch.setattr(PartitionWork, "save_batch", noted)
    resumed = measured(tmp_path, "killed")
    # A model's images are its last batch: they mark it as done.
    drawn = {name for name in kept if name.startswith("images@")}
    assert drawn
    assert any(name.startswith("images@") for name in made)
    assert not drawn & set(made)
    again, made[:] = {*kept, *made}, []
    assert measured(tmp_path, "whole").content_id == resumed.content_id
    assert set(made) == again
    assert len(made) == len(again)
