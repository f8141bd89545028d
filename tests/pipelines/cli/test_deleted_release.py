"""A deleted release through the command line: status, plan and run see it, run puts it back."""

import json
import shutil

from tests.pipelines.runtime.test_shortfalls import Deployment


def test_status_plan_and_run_see_a_deleted_release_and_put_it_back(tmp_path):
    made = Deployment(tmp_path, writing__pairs_per_concept=6)
    first = made.run("run", "--until", "release")
    assert first.returncode == 0, first.stdout + first.stderr
    before = made.content("release", "all")
    (folder,) = (made.root / "reduced" / "releases").glob("coprov2-*")
    shutil.rmtree(folder)
    assert made.states("release") == {"all": "stale"}
    plans = {plan["room"]: plan for plan in json.loads(made.run("plan", "--json").stdout)}
    assert plans["release"]["to_make"] == ["all"]
    again = made.run("run", "--until", "release")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "✓ release     1 made" in again.stdout
    assert folder.is_dir()
    assert made.content("release", "all") == before
    assert made.run("release", "verify").returncode == 0
