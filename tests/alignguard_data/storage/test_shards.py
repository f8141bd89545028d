"""Atomic files: complete or absent, faults named, bytes that depend only on rows."""

import errno
import os
import resource
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.errors import IntegrityError, StorageError
from alignguard_data.storage.shards import (
    ShardFile,
    atomic_file,
    describe,
    verify_file,
    write_bytes,
    write_shard,
)
from tests.alignguard_data.conftest import flip_a_byte


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_bytes(b"half of the n")
        _ = 1 / 0
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    code = f"""
import os, signal
from pathlib import Path
from alignguard_data.storage.shards import atomic_file
with atomic_file(Path({str(path)!r})) as temporary:
    temporary.write_bytes(b"new")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert path.read_bytes() == b"old"


def test_a_reader_of_the_old_file_sees_all_of_it(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with path.open("rb") as reader:
        write_bytes(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_full_disk_is_one_clear_line(tmp_path):
    """The kernel refuses to let a file grow past RLIMIT_FSIZE, as a full disk would."""
    code = f"""
import resource, signal
from pathlib import Path
from alignguard_data.contracts.errors import StorageError
from alignguard_data.storage.shards import write_bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes(Path({str(tmp_path / "file")!r}), b"x" * 2000)
except StorageError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == f"cannot write {tmp_path / 'file'}: File too large\n"
    assert list(tmp_path.iterdir()) == []
    assert resource.RLIMIT_FSIZE is not None


def test_a_disk_that_fills_up_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=f"cannot write {path}: No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_while_a_shard_is_written_is_a_storage_error(tmp_path):
    """/dev/full refuses every byte."""
    path = tmp_path / "shard.parquet"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device"):
        write_shard(path, pa.table({"a": [1]}))
    assert not path.exists()


def test_equal_rows_give_equal_bytes(tmp_path):
    table = pa.table({"a": list(range(1000)), "image": [bytes([i % 256]) for i in range(1000)]})
    pieces = pa.concat_tables([table.slice(0, 300), table.slice(300)])
    one = write_shard(tmp_path / "one.parquet", table)
    two = write_shard(tmp_path / "two.parquet", pieces.combine_chunks())
    assert one.sha256 == two.sha256


def test_images_are_not_compressed_again(tmp_path):
    write_shard(tmp_path / "s.parquet", pa.table({"a": ["x"], "image": [b"y" * 50]}))
    group = pq.ParquetFile(tmp_path / "s.parquet").metadata.row_group(0)
    assert [group.column(i).compression for i in (0, 1)] == ["ZSTD", "UNCOMPRESSED"]


def test_damage_is_named(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"0123456789")
    good = describe(path, rows=0)
    verify_file(tmp_path, good)
    flip_a_byte(path)
    with pytest.raises(IntegrityError, match=f"{path} has sha256"):
        verify_file(tmp_path, good)
    path.write_bytes(b"012")
    with pytest.raises(IntegrityError, match="has 3 bytes, its manifest says 10"):
        verify_file(tmp_path, good)
    path.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        verify_file(tmp_path, good)


def test_names_are_relative_where_asked(tmp_path):
    write_bytes(tmp_path / "a" / "b", b"x")
    described = describe(tmp_path / "a" / "b", rows=2, relative_to=tmp_path)
    assert isinstance(described, ShardFile)
    assert (described.name, described.rows, described.bytes) == ("a/b", 2, 1)
