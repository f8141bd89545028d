"""A killed room goes on: training from its checkpoint, images from the user where it stopped."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.storage.paths import DataRoot
from alignguard_train.base import BaseModel
from alignguard_train.personal.room import make_personal
from tests.alignguard_train.personal.test_room import small_data, small_job

KILLED = """
import sys
from pathlib import Path
from alignguard_data.storage.paths import DataRoot
from alignguard_train.base import BaseModel
from alignguard_train.personal.room import make_personal
from tests.alignguard_train.personal.test_room import small_job
folder = Path(sys.argv[1])
job = small_job(BaseModel(model=sys.argv[2], device="cpu"), folder)
data = DataRoot(root=folder / "data", profile="tiny")
make_personal(data, job, lambda count: print("unit", flush=True))
"""


@pytest.mark.parametrize("stage", ["training", "drawing"])
def test_kill_9_resumes_to_the_same_result_and_draws_for_no_user_twice(
    stage: str, base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_data(tmp_path)
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    partial = data.partition("personal").parent

    def saved() -> set[str]:
        return {path.stem for path in partial.glob("**/.*.partial/*") if path.is_file()}

    wanted = {"training": "checkpoint", "drawing": "user-"}[stage]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path[:1]])}
    command = [sys.executable, "-c", KILLED, str(tmp_path), base.pipe.config._name_or_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout
        for line in child.stdout:
            if line == "unit\n" and any(name.startswith(wanted) for name in saved()):
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    kept = {name for name in saved() if name.startswith(("user-", "base", "merged"))}
    assert bool(kept) == (stage == "drawing")
    calls: list[int] = []
    render = DiffusersImageGenerator.render

    def counted(self: Any, prompts: Any, *rest: Any, **named: Any) -> Any:
        calls.append(len(prompts))
        return render(self, prompts, *rest, **named)

    monkeypatch.setattr(DiffusersImageGenerator, "render", counted)
    job = small_job(base, tmp_path)
    resumed = make_personal(data, job)
    assert len(calls) == 2 + 4 - len(kept)  # base, merged, four users
    assert int(resumed.counts["resumed_at_step"]) > 0
    whole = make_personal(DataRoot(root=tmp_path / "other", profile="tiny"), job)
    assert whole.content_id == resumed.content_id
