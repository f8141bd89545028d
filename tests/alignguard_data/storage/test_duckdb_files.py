"""Causes of a DuckDB failure are found from the file, not from DuckDB's texts."""

from pathlib import Path

import duckdb
import pytest

from alignguard_data.contracts.errors import PartitionBusy, StorageError
from alignguard_data.storage.duckdb_files import connect, is_sound
from tests.alignguard_data.held_file import held


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "a.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table t as select range i, hash(range) h from range(100000)")
        connection.execute('create schema "o s"')
        connection.execute('create table "o s"."a b" as select 1 i')
    return path


@pytest.mark.parametrize(
    ("holder", "opener", "busy"),
    [("writes", "writes", True), ("reads", "writes", True), ("writes", "reads", True),
     ("reads", "reads", False)],
)  # fmt: skip
def test_a_file_is_busy_where_the_two_cannot_share_it(file, holder, opener, busy):
    with held(file, read_only=holder == "reads"):
        if busy:
            with pytest.raises(PartitionBusy, match=str(file)):
                connect(file, read_only=opener == "reads")
        else:
            connect(file, read_only=True).close()
    connect(file, read_only=opener == "reads").close()


def test_a_holder_that_lets_go_between_two_looks_is_no_damage(file, monkeypatch):
    """The lock is gone when it is looked for: the file is opened again, not called damaged."""
    refused = iter([duckdb.IOException("some text of another release")])
    real = duckdb.connect

    def once(*args, **kwargs):
        for error in refused:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(duckdb, "connect", once)
    with connect(file) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (100000,)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("content", [b"", b"no database " * 1000])
def test_what_is_no_database_is_duckdbs_own_error(tmp_path, content, read_only):
    file = tmp_path / "a.duckdb"
    file.write_bytes(content)
    with pytest.raises(duckdb.Error):
        connect(file, read_only=read_only)
    assert file.read_bytes() == content


@pytest.mark.parametrize("read_only", [False, True])
def test_a_folder_in_its_place_is_named_with_the_systems_word(tmp_path, read_only):
    with pytest.raises(StorageError, match=rf"{tmp_path}: Is a directory"):
        connect(tmp_path, read_only=read_only)


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*nowhere"):
        connect(tmp_path / "nowhere" / "a.duckdb")


def test_a_read_only_disk_can_be_read_and_is_named_when_written(file, disk):
    place = disk("size=16m") / "a.duckdb"
    place.write_bytes(file.read_bytes())
    disk("ro")
    connect(place, read_only=True).close()
    with pytest.raises(StorageError, match=f"cannot write {place}: Read-only"):
        connect(place)


def _flip(content: bytes) -> bytes:
    changed = bytearray(content)
    for at in range(3 * 4096 + 100, len(content), 50_000):
        changed[at] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize(
    ("damage", "sound"),
    [(bytes, True), (_flip, False), (lambda b: b[: len(b) // 2], False), (lambda b: b"", False)],
)
def test_a_file_is_sound_when_every_row_can_be_read(file, damage, sound):
    file.write_bytes(damage(file.read_bytes()))
    assert is_sound(file) is sound
