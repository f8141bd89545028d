"""The file of edges is a cache: whatever happens to it, the edges are the same."""

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from alignguard_data.contracts.errors import PartitionBusy, StorageError
from alignguard_data.dedup import edges as near_edges
from alignguard_data.dedup import store as edges_file
from alignguard_data.dedup.edges import Limits
from alignguard_data.dedup.store import edges_between, synced_edges
from tests.alignguard_data.dedup.near_rows import PHASHES, AngleEmbedder, part, row
from tests.alignguard_data.held_file import held

LIMITS = Limits(max_prompt_jaccard=0.3, max_phash_distance=4, max_semantic_cosine=0.99)
ROWS = [
    row(f"{i:03d}", f"a b c d {i % 7} at {3 * i % 90}", phashes=(PHASHES[i % 3], PHASHES[0]))
    for i in range(60)
]
PARTS = [part("p", *ROWS)]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "duplicates" / "edges.duckdb"


def synced(file: Path, embedder: AngleEmbedder | None = None) -> list[near_edges.Edge]:
    with synced_edges(file, PARTS, LIMITS, embedder or AngleEmbedder()) as (edges, _):
        return edges


@pytest.fixture
def expected() -> list[near_edges.Edge]:
    return edges_between(PARTS, LIMITS, AngleEmbedder())


def test_the_file_remembers(file, expected):
    assert synced(file) == expected != []
    second = AngleEmbedder()
    assert synced(file, second) == expected
    assert second.asked == []


def _garbage(file: Path) -> None:
    file.write_bytes(b"not a database " * 1000)


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file: Path) -> None:
    """One byte in every block after the headers."""
    content = bytearray(file.read_bytes())
    for at in range(3 * 4096 + 100, len(content), 50_000):
        content[at] ^= 0xFF
    file.write_bytes(content)


def _other_version(file: Path) -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute("update store set version = 'edges 0'")
        connection.execute("delete from edges")


def _foreign(file: Path) -> None:
    file.unlink()
    with duckdb.connect(str(file)) as connection:
        connection.execute("create table rows (something integer)")


@pytest.mark.parametrize(
    "damage", [Path.unlink, _garbage, _truncate, _flip, _other_version, _foreign]
)
def test_a_damaged_or_foreign_file_is_rebuilt(file, expected, damage):
    synced(file)
    damage(file)
    assert synced(file) == expected
    second = AngleEmbedder()
    assert synced(file, second) == expected
    assert second.asked == []


KILLED = """
import os, sys
from pathlib import Path
from alignguard_data.dedup import edges as near_edges
from tests.alignguard_data.dedup import test_store as tests
near_edges.ROWS_AT_ONCE = 8
class Embedder(tests.AngleEmbedder):
    def embed(self, texts):
        if len(self.asked) >= 24:
            os.kill(os.getpid(), 9)
        return super().embed(texts)
tests.synced(Path(sys.argv[1]), Embedder())
"""


def test_a_killed_process_loses_only_its_last_batch(file, expected):
    """Killed at the fourth batch of eight: three are not embedded again."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False)
    assert done.returncode == -9
    second = AngleEmbedder()
    assert synced(file, second) == expected
    assert len(second.asked) == len(ROWS) - 24


def test_an_engine_that_fails_leaves_a_sound_file(file, expected):
    class Failing(AngleEmbedder):
        def embed(self, texts):
            raise RuntimeError("no engine")

    with pytest.raises(RuntimeError, match="no engine"):
        synced(file, Failing())
    assert synced(file) == expected


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_another_process_has_open_is_busy_and_not_removed(file, read_only):
    synced(file)
    before = file.read_bytes()
    with held(file, read_only=read_only), pytest.raises(PartitionBusy, match=str(file)):
        synced(file)
    assert file.read_bytes() == before


def test_a_full_disk_is_named_and_costs_nothing_of_the_file(disk, expected):
    """A file that the disk has no room for is not taken for a damaged one."""
    file = disk("size=8m") / "duplicates" / "edges.duckdb"
    synced(file)
    many = [row(f"m{i:05d}", f"{i} other words at {i % 90}") for i in range(20_000)]
    with (
        pytest.raises(StorageError, match=str(file)),
        synced_edges(file, [*PARTS, part("q", *many)], LIMITS, AngleEmbedder()),
    ):
        pass
    disk("size=64m")
    again = AngleEmbedder()
    assert synced(file, again) == expected
    assert again.asked == [], "the vectors of before are there"


def test_a_read_only_disk_is_named(disk):
    file = disk("size=8m") / "duplicates" / "edges.duckdb"
    synced(file)
    before = file.read_bytes()
    disk("ro")
    with pytest.raises(StorageError, match=f"cannot write {file}: Read-only"):
        synced(file)
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "duplicates").write_text("a file is in the way")
    with pytest.raises(StorageError, match="duplicates"):
        synced(tmp_path / "duplicates" / "edges.duckdb")


def test_the_remembering_embedder_asks_only_for_new_texts(file):
    embedder = AngleEmbedder()
    with synced_edges(file, PARTS, LIMITS, embedder) as (_, remembering):
        embedder.asked.clear()
        texts = [ROWS[3].captions[0], "new at 45", ROWS[3].captions[0]]
        found = remembering.embed(texts)
        assert embedder.asked == ["new at 45"]
    assert np.array_equal(found, AngleEmbedder().embed(texts))
    assert (remembering.name, remembering.version) == ("angle", "1")


def test_the_version_of_the_file_names_its_schema_and_duckdb():
    assert duckdb.__version__ in edges_file._VERSION
