"""A bucket as data root, over a real S3 API: same content as a folder, old whole or new whole."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from alignguard_data.contracts.errors import PartitionBusy, StorageError
from alignguard_data.index import room as index
from alignguard_data.index import sql as index_query
from alignguard_data.release import room as release
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage import places as storage
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.writes import append
from tests.alignguard_data.tiny_rooms import TinyRooms, concept, taxonomy
from tests.bucket_server import BUCKET, CuttingProxy, serving

ROOMS = ("prompts", "images", "scores", "pairs", "release")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    with serving() as (proxy, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("ALIGNGUARD_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        storage.parse_root(f"s3://{BUCKET}/x").fs.mkdir(BUCKET)  # pyright: ignore[reportAttributeAccessIssue]
        yield proxy


@pytest.fixture(scope="module")
def on_bucket(served) -> TinyRooms:
    held = taxonomy(concept("lines.bar"), concept("lines.tick", "test"))
    rooms = TinyRooms(root=storage.parse_root(f"s3://{BUCKET}/rooms"), taxonomy=held)
    rooms.data.prepare()
    return rooms.fill("release")


@pytest.fixture
def spec(served: CuttingProxy, request) -> PartitionSpec:
    folder = storage.parse_root(f"s3://{BUCKET}/{request.node.name}") / "p"
    return PartitionSpec(folder=folder, room="r", key="k", config={"n": 1}, inputs={})


def rows(*values: int) -> pa.Table:
    return pa.table({"a": list(values)})


def values(spec: PartitionSpec) -> list[int]:
    return manifests.read(spec.folder, "rows")["a"].to_pylist()


def make(spec: PartitionSpec, *numbers: int) -> manifests.Manifest:
    with open_partition(spec) as work:
        return work.done or work.finish(tables={"rows": rows(*numbers)})


def content_ids(rooms: TinyRooms) -> dict[str, str]:
    keys = [c.key for c in rooms.taxonomy.concepts]
    places = [(room, key) for room in ROOMS[:-1] for key in keys] + [("release", "all")]
    return {f"{r}/{k}": manifests.require(rooms.data.partition(r, k)).content_id for r, k in places}


def test_a_bucket_gets_the_same_content_as_a_folder(on_bucket, tmp_path):
    local = TinyRooms(root=tmp_path / "data", taxonomy=on_bucket.taxonomy).fill("release")
    assert content_ids(on_bucket) == content_ids(local)
    one, two = (release.latest_release(rooms.data) for rooms in (on_bucket, local))
    assert one.name == two.name
    assert storage.read_bytes(one / "manifest.json") == storage.read_bytes(two / "manifest.json")


def test_a_second_run_on_a_bucket_puts_nothing(on_bucket):
    where = on_bucket.data.base
    before = where.fs.find(where.path, detail=True)
    on_bucket.fill("release")
    assert where.fs.find(where.path, detail=True) == before


def test_a_changed_object_of_a_release_is_found_by_name(on_bucket):
    folder = release.latest_release(on_bucket.data)
    assert release.verify_release(folder) == []
    shard = folder / "data" / "train-00000-of-00001.parquet"
    sound = shard.read_bytes()
    shard.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    try:
        (fault,) = release.verify_release(folder)
    finally:
        shard.write_bytes(sound)
    assert str(shard) in fault
    assert "sha256" in fault


def test_the_index_is_of_this_machine_and_is_rebuilt_when_its_file_is_gone(on_bucket):
    folder = on_bucket.data.partition("index")
    (file,) = folder.glob("*/index.duckdb")
    assert isinstance(folder, Path)
    assert not [n for n in storage.files(on_bucket.data.base) if n.startswith("index/")]
    counted = "select count(*) from release_pairs"
    before = index_query.query(on_bucket.data, counted)[1]
    file.unlink()
    index.build_index(on_bucket.data, on_bucket.taxonomy)
    assert index_query.query(on_bucket.data, counted)[1] == before != [(0,)]


def test_a_connection_that_drops_once_in_mid_put_is_tried_again(spec, served):
    served.cut("rows.parquet", times=1)
    dropped = served.dropped
    make(spec, *range(1000))
    assert served.dropped == dropped + 1
    assert values(spec) == list(range(1000))


@pytest.mark.parametrize("file", ["rows.parquet", "manifest.json"])
def test_a_connection_that_keeps_dropping_keeps_the_old_file(spec, served, file):
    old = PartitionSpec(folder=spec.folder, room="r", key="k", config={"n": 0}, inputs={})
    make(old, 7)
    served.cut(file, times=1000)
    try:
        with (
            pytest.raises(StorageError, match=rf"cannot write s3://{BUCKET}/.*{file}"),
            open_partition(spec) as work,
        ):
            work.save_batch("one", rows(1))
            work.finish(tables={"rows": rows(1, 2)})
    finally:
        served.cut("", times=0)
    assert values(spec) == [7]
    with open_partition(spec) as work:
        assert work.saved_names() == ["one"]
        work.finish(tables={"rows": rows(1, 2)})
    assert values(spec) == [1, 2]


KILLED = """
import os, signal, sys
import pyarrow as pa
from alignguard_data.storage import manifest
from alignguard_data.storage import places as storage
from alignguard_data.storage.partition import PartitionSpec, open_partition
manifest.Manifest.save = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
folder = storage.parse_root(sys.argv[1])
spec = PartitionSpec(folder=folder, room="r", key="k", config={"n": 1}, inputs={})
with open_partition(spec) as work:
    work.save_batch("one", pa.table({"a": [1]}))
    work.finish(tables={"rows": pa.table({"a": [1, 2]})})
"""


def test_kill_9_before_the_manifest_is_put_keeps_the_old_partition(spec):
    make(PartitionSpec(folder=spec.folder, room="r", key="k", config={"n": 0}, inputs={}), 7)
    done = subprocess.run([sys.executable, "-c", KILLED, str(spec.folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert values(spec) == [7]
    with open_partition(spec) as work:
        assert work.saved_names() == ["one"]
        work.finish(tables={"rows": rows(1, 2)})
    assert values(spec) == [1, 2]


def test_two_processes_of_one_machine_do_not_make_one_partition(spec):
    with open_partition(spec), pytest.raises(PartitionBusy), open_partition(spec):
        pass


def elsewhere(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALIGNGUARD_SCRATCH", str(tmp_path / "another-machine"))


@pytest.mark.parametrize("second", [(1, 2), (3, 4)], ids=["equal", "unequal"])
def test_two_machines_on_one_partition_leave_one_complete(spec, monkeypatch, tmp_path, second):
    """Neither sees the other's lock: both write, and the last manifest counts."""
    with open_partition(spec) as here:
        elsewhere(monkeypatch, tmp_path)
        with open_partition(spec) as there:
            there._put({"rows": rows(*second)}, {})  # its files, and then it is overtaken
            monkeypatch.undo()
            here.finish(tables={"rows": rows(1, 2)})
            assert values(spec) == [1, 2]
            elsewhere(monkeypatch, tmp_path)
            there.finish(tables={"rows": rows(*second)})
    assert values(spec) == list(second)


def test_lines_of_two_machines_are_all_in_the_ledger(served):
    ledger = storage.parse_root(f"s3://{BUCKET}/ledger.jsonl")
    code = (
        "import sys\nfrom alignguard_data.storage import places as storage\n"
        "from alignguard_data.storage.writes import append\n"
        "for i in range(5): append(storage.parse_root(sys.argv[1]), f'there {i}\\n')\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(ledger)])
    for i in range(5):
        append(ledger, f"here {i}\n")
    assert other.wait(timeout=120) == 0
    expected = {f"{who} {i}" for who in ("here", "there") for i in range(5)}
    assert set(storage.read_bytes(ledger).decode().splitlines()) == expected


def test_a_release_without_manifest_is_replaced(on_bucket):
    name = on_bucket.data.releases / "coprov2-tiny-v9.0.0"
    (name / "data" / "train-00000-of-00001.parquet").write_bytes(b"half")
    assert [f.name for f in release.list_releases(on_bucket.data)] == ["coprov2-tiny-v0.1.0"]
    temporary = storage.scratch(on_bucket.data.releases) / ".release.partial"
    temporary.mkdir(parents=True)
    (temporary / "manifest.json").write_text(json.dumps({}))
    release.rename_into_place(temporary, name)
    assert storage.files(name) == ["manifest.json"]
    with pytest.raises(StorageError, match="never replaced"):
        release.rename_into_place(temporary, name)
    name.fs.rm(name.path, recursive=True)


def test_a_bucket_that_is_not_there_is_one_clear_line(served):
    root = storage.parse_root("s3://nowhere-at-all/x")
    with pytest.raises(StorageError, match=r"data root s3://nowhere-at-all/x/p .*bucket.*; set"):
        DataRoot(root=root, profile="p").prepare()


def test_without_credentials_it_is_one_clear_line(served, tmp_path):
    code = (
        "from alignguard_data.storage import places as storage\n"
        "from alignguard_data.storage.paths import DataRoot\n"
        f"DataRoot(root=storage.parse_root('s3://{BUCKET}/x'), profile='p').prepare()\n"
    )
    keyless = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    keyless |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=keyless, capture_output=True, text=True, timeout=120
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "StorageError: data root" in last
    assert "credentials" in last


@pytest.mark.parametrize("text", ["gs://b/x", "s3://", "file:///x"])
def test_other_protocols_are_refused(text):
    with pytest.raises(StorageError, match="a folder or s3://bucket/prefix"):
        storage.parse_root(text)


def test_a_missing_s3fs_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StorageError, match=r"pip install 'alignguard\[s3\]'"):
        storage.parse_root("s3://b/x")
