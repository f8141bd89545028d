"""Making a partition: locks, resuming, and what a reader sees while it is replaced."""

import dataclasses
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pytest

from alignguard_data.contracts.errors import PartitionBusy, StorageError
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from tests.alignguard_data.conftest import flip_a_byte


@pytest.fixture
def spec(tmp_path) -> PartitionSpec:
    return PartitionSpec(folder=tmp_path / "p", room="r", key="k", config={"n": 1}, inputs={})


def rows(*values: int) -> pa.Table:
    return pa.table({"a": list(values)})


def make(spec: PartitionSpec, *values: int) -> manifests.Manifest:
    with open_partition(spec) as work:
        return work.done or work.finish(tables={"rows": rows(*values)})


def values(spec: PartitionSpec) -> list[int]:
    return manifests.read(spec.folder, "rows")["a"].to_pylist()


WORKER = """
import os, signal, sys, time
from pathlib import Path
import pyarrow as pa
from alignguard_data.storage import manifest
from alignguard_data.storage.partition import PartitionSpec, open_partition
spec = PartitionSpec(folder=Path(sys.argv[1]), room="r", key="k", config={"n": 1}, inputs={})
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "manifest":
    manifest.Manifest.save = die
if sys.argv[2] == "sweep":
    import alignguard_data.storage.partition as p
    p.remove_tree = die
with open_partition(spec) as work:
    work.save_batch("one", pa.table({"a": [1]}))
    if sys.argv[2] == "hold":
        print("held", flush=True)
        sys.stdin.read()
    if sys.argv[2] == "batches":
        die()
    work.finish(tables={"rows": pa.table({"a": [1, 2]})})
"""


def worker(spec: PartitionSpec, moment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(spec.folder), moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("moment", ["batches", "manifest", "sweep"])
def test_kill_9_at_any_moment_leaves_old_or_new_and_can_go_on(spec, moment):
    """Before the manifest the old is read, after it the new; then the next attempt finishes."""
    make(dataclasses.replace(spec, config={"n": 0}), 7)
    process = worker(spec, moment)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert values(spec) == ([1, 2] if moment == "sweep" else [7])
    with open_partition(spec) as work:
        if moment == "sweep":
            assert work.done
        else:
            assert work.saved_names() == ["one"]
            assert work.load_batch("one")["a"].to_pylist() == [1]
            work.finish(tables={"rows": rows(1, 2)})
    assert values(spec) == [1, 2]


def test_a_second_process_is_turned_away_until_the_first_ends(spec):
    process = worker(spec, "hold")
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    with pytest.raises(PartitionBusy, match="another process is making r k"), open_partition(spec):
        pass
    process.kill()
    process.communicate()
    with open_partition(spec) as work:
        assert work.saved_names() == ["one"]


def test_states_follow_manifest_and_fingerprint(spec):
    assert spec.state() == "missing"
    make(spec, 1)
    assert spec.state() == "done"
    for change in ({"config": {"n": 2}}, {"inputs": {"x": "1"}}, {"models": {"m": "2"}}):
        assert dataclasses.replace(spec, **change).state() == "stale"


def test_a_file_of_another_size_means_not_done(spec):
    make(spec, 1)
    (shard,) = spec.folder.glob("*/rows.parquet")
    shard.write_bytes(b"short")
    assert spec.state() == "stale"
    assert make(spec, 5).rows == 1
    assert values(spec) == [5]


def test_a_broken_manifest_is_made_again(spec):
    make(spec, 1)
    flip_a_byte(spec.folder / MANIFEST, offset=0)
    assert spec.state() == "stale"
    make(spec, 2)
    assert values(spec) == [2]


def test_done_work_is_not_done_again(spec):
    make(spec, 1)
    before = (spec.folder / MANIFEST).stat().st_mtime_ns
    assert make(spec, 2).rows == 1
    assert (spec.folder / MANIFEST).stat().st_mtime_ns == before
    assert values(spec) == [1]


def test_finishing_drops_batches_and_the_old_generation(spec):
    make(dataclasses.replace(spec, config={"n": 0}), 7)
    with open_partition(spec) as work:
        work.save_batch("one", rows(1))
        work.finish(tables={"rows": rows(1)})
    names = {path.name for path in spec.folder.iterdir()}
    (file,) = manifests.require(spec.folder).files
    assert names == {MANIFEST, ".lock", file.name.split("/")[0]}


def test_extra_files_move_in_and_are_in_the_manifest(spec, tmp_path):
    extra = tmp_path / "plot"
    extra.write_bytes(b"png")
    with open_partition(spec) as work:
        made = work.finish(tables={"rows": rows(1)}, extra_files={"plots/a.png": extra})
    file = made.file("plots/a.png")
    assert (spec.folder / file.name).read_bytes() == b"png"
    assert not extra.exists()


def test_the_run_id_is_recorded_but_is_no_part_of_the_identity(spec, tmp_path, monkeypatch):
    first = make(spec, 1)
    monkeypatch.setenv("ALIGNGUARD_RUN_ID", "run-7")
    second = make(dataclasses.replace(spec, folder=tmp_path / "q"), 1)
    assert (second.run_id, second.content_id) == ("run-7", first.content_id)


def test_a_path_that_cannot_be_a_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    blocked = PartitionSpec(folder=tmp_path / "file" / "p", room="r", key="k", config={}, inputs={})
    with (
        pytest.raises(StorageError, match=r"cannot write .*: Not a directory"),
        open_partition(blocked),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_root_is_one_clear_line_for_a_user(tmp_path):
    (tmp_path / "data").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="set ALIGNGUARD_ROOT"):
        DataRoot(root=tmp_path / "data", profile="p").prepare()


def test_a_read_only_root_is_one_clear_line():
    """/proc takes no folders, from anyone."""
    from pathlib import Path

    root = DataRoot(root=Path("/proc/none"), profile="p")
    with pytest.raises(StorageError, match=r"data root /proc/none/p cannot be written: .*; set"):
        root.prepare()


def test_only_the_owner_can_read_the_profiles_folder(tmp_path):
    root = DataRoot(root=tmp_path / "data", profile="p")
    root.prepare()
    assert root.base.stat().st_mode & 0o777 == 0o700
