"""The whole loop with a bucket as data root: one command, same content as in a folder."""

import json
import subprocess
from pathlib import Path

import pytest

from alignguard_data.storage import places as storage
from tests.bucket_server import BUCKET, serving
from tests.conftest import command_environment, reduced_profile
from tests.test_end_to_end import ALIGNGUARD, WHOLE_RUN_SECONDS, content_ids, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def on_bucket(profile: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [*ALIGNGUARD, *arguments],
        env=environment | {"ALIGNGUARD_PROFILE": str(profile)},
        capture_output=True,
        text=True,
        timeout=2 * WHOLE_RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_from_nothing_to_the_report_in_a_bucket(tmp_path, monkeypatch):
    profile = reduced_profile(tmp_path / "profile")
    done = run(tmp_path / "data", profile)
    assert done.returncode == 0, done.stdout + done.stderr
    with serving() as (_, keys):
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        root = storage.parse_root(f"s3://{BUCKET}/whole")
        root.fs.mkdir(BUCKET)  # pyright: ignore[reportAttributeAccessIssue]
        own = {"ALIGNGUARD_ROOT": str(root), "ALIGNGUARD_SCRATCH": str(tmp_path / "scratch")}
        environment = command_environment(tmp_path, profile) | own
        del environment["DAGSTER_HOME"]
        said = on_bucket(profile, environment, "run")
        assert str(tmp_path / "scratch") in said
        manifests = [n for n in storage.files(root) if n.endswith("/manifest.json")]
        found = {
            str(Path(name).parent): json.loads(storage.read_bytes(root / name))["content_id"]
            for name in manifests
        }
        # Encodings may be thrown away: they stay on the machine that works, in a bucket or not.
        own_disk = content_ids(tmp_path / "data")
        local = {name: own for name, own in own_disk.items() if "/encodings/" not in name}
        assert len(local) < len(own_disk)
        assert found == local
        summary = json.loads(storage.read_bytes(root / "reduced/evaluation/summary.json"))
        for name in ("adapter", "report"):
            assert summary[name].startswith("reduced/")
            assert storage.size(root / summary[name])
        assert "Everything is up to date." in on_bucket(profile, environment, "run")
        assert "every file is what" in on_bucket(profile, environment, "release", "verify")
