"""Building on the last index gives the rows of a full build; on any doubt there is a full build."""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.records import Concept
from alignguard_data.index import room as index
from alignguard_data.index import tables as index_tables
from alignguard_data.index.database import FILE
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import describe
from alignguard_data.taxonomy.parse import Taxonomy
from alignguard_data.taxonomy.room import write_taxonomy
from benchmarks import synthetic
from tests.alignguard_data.conftest import flip_a_byte

ROOMS = ("taxonomy", "prompts", "images", "scores", "pairs")
CONCEPTS = 10


@dataclasses.dataclass
class World:
    """Rooms over some of the concepts that the taxonomy may hold, and an index."""

    data: DataRoot
    taxonomy: Taxonomy
    remade: int = 0

    def build(self) -> manifests.Manifest:
        return index.build_index(self.data, self.taxonomy)

    def remake(self, concept: Concept, rows: int = 5) -> None:
        self.remade += 1
        synthetic.make_concept(self.data, concept, rows, generation=self.remade)

    def keep(self, concepts: tuple[Concept, ...]) -> None:
        self.taxonomy = dataclasses.replace(self.taxonomy, concepts=concepts)
        write_taxonomy(self.data, self.taxonomy)


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "data"
    index.build_index(*synthetic.build(root, pairs=60, concepts=CONCEPTS))
    return root


@pytest.fixture
def world(_made: Path, tmp_path: Path) -> World:
    shutil.copytree(_made, tmp_path / "data")
    data = DataRoot(root=tmp_path / "data", profile="synthetic")
    return World(data, synthetic.taxonomy(CONCEPTS))


def contents(data: DataRoot) -> dict[str, list[tuple[object, ...]]]:
    """The rows of every table and view of the file, sorted."""
    file = data.partition("index") / manifests.require(data.partition("index")).file(FILE).name
    with duckdb.connect(str(file), read_only=True) as connection:
        tables = connection.execute("select table_name from information_schema.tables").fetchall()
        return {
            name: sorted(connection.execute(f'from "{name}"').fetchall(), key=repr)
            for (name,) in tables
        }


def contents_of_a_full_build(world: World, folder: Path) -> dict[str, list[tuple[object, ...]]]:
    data = DataRoot(root=folder, profile="synthetic")
    data.prepare()
    for room in ROOMS:
        (data.base / room).symlink_to(world.data.base / room)
    made = index.build_index(data, world.taxonomy)
    assert made.counts["build"] == "full: there was no index"
    return contents(data)


def edit(world: World, rng: random.Random) -> None:
    """Remake one concept and one room's shards of another, take one out, put one in."""
    spare = synthetic.taxonomy(CONCEPTS + 3).concepts
    held = list(world.taxonomy.concepts)
    held.remove(rng.choice(held))
    world.remake(rng.choice(held), rows=rng.randrange(12))
    added = rng.choice([concept for concept in spare if concept not in held])
    world.remake(added, rows=rng.randrange(12))
    held.insert(rng.randrange(len(held)), added)
    world.keep(tuple(held))


@pytest.mark.parametrize("seed", range(3))
def test_random_edits_give_the_rows_of_a_full_build(world, tmp_path, seed):
    rng = random.Random(seed)
    for step in range(2):
        edit(world, rng)
        assert world.build().counts["build"] == "incremental"
        assert contents(world.data) == contents_of_a_full_build(world, tmp_path / str(step))


def test_only_what_changed_is_read(world):
    world.remake(world.taxonomy.concepts[3])
    counts = world.build().counts
    assert (counts["partitions_read"], counts["partitions_taken_over"]) == (4, 36)
    assert counts["tables"] == {
        name: len(rows) for name, rows in contents(world.data).items() if name in counts["tables"]
    }


def test_a_concept_that_left_the_taxonomy_leaves_the_index(world):
    gone = world.taxonomy.concepts[4].key
    held = contents(world.data)
    assert {"concepts", "images"} <= {name for name in held if any(gone in r for r in held[name])}
    world.keep(tuple(c for c in world.taxonomy.concepts if c.key != gone))
    made = world.build()
    assert (made.counts["build"], made.counts["partitions_read"]) == ("incremental", 0)
    for name, rows in contents(world.data).items():
        assert not any(gone in row for row in rows), name


def test_a_shard_is_verified_only_when_it_is_read(world):
    changed, other = world.taxonomy.concepts[:2]
    world.remake(changed)
    (unread,) = world.data.partition("scores", other.key).glob("*/scores.parquet")
    flip_a_byte(unread)
    assert world.build().counts["build"] == "incremental"
    world.remake(changed)
    (read,) = world.data.partition("scores", changed.key).glob("*/scores.parquet")
    before = contents(world.data)
    flip_a_byte(read)
    with pytest.raises(IntegrityError, match=str(read)):
        world.build()
    assert contents(world.data) == before


def index_file(world: World) -> Path:
    (file,) = world.data.partition("index").glob(f"*/{FILE}")
    return file


def foreign(world: World) -> None:
    index_file(world).unlink()
    with duckdb.connect(str(index_file_name(world))) as connection:
        connection.execute("create table manifests as select 1 as one")


def index_file_name(world: World) -> Path:
    folder = world.data.partition("index")
    return folder / manifests.require(folder).file(FILE).name


def restamp(world: World) -> None:
    """A manifest that vouches for a file which is no index."""
    foreign(world)
    folder, file = world.data.partition("index"), index_file_name(world)
    manifest = manifests.require(folder)
    entry = describe(file, rows=0, relative_to=folder)
    files = tuple(entry if f.name == entry.name else f for f in manifest.files)
    dataclasses.replace(manifest, files=files).save(folder)


def other_views(world: World) -> None:
    path = world.data.partition("index") / manifests.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["config"]["views"]["coverage"] += " -- as it was"
    path.write_text(json.dumps(manifest))


def no_manifest(world: World) -> None:
    (world.data.partition("index") / manifests.MANIFEST).write_text("{")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda world: index_file(world).unlink(), "the last file is not what its manifest says"),
        (lambda world: flip_a_byte(index_file(world)), "the last file is not what its manifest"),
        (foreign, "the last file is not what its manifest says"),
        (restamp, "the last file cannot be opened"),
        (other_views, "tables, views or DuckDB changed"),
        (no_manifest, "the last manifest cannot be read"),
    ],
)
def test_on_any_doubt_everything_is_read_again(
    world: World, tmp_path: Path, harm: Callable[[World], None], says: str
):
    world.remake(world.taxonomy.concepts[0])
    harm(world)
    made = world.build()
    assert made.counts["build"].startswith(f"full: {says}")
    assert made.counts["partitions_read"] == 4 * CONCEPTS
    assert contents(world.data) == contents_of_a_full_build(world, tmp_path / "full")


def test_where_most_partitions_changed_everything_is_read(world):
    for concept in world.taxonomy.concepts[:6]:
        world.remake(concept)
    assert world.build().counts["build"] == "full: 24 of 40 partitions changed"


def test_a_file_that_was_replaced_row_by_row_is_rebuilt(world):
    """What was deleted leaves holes in the file: they must not add up."""
    built = []
    for _ in range(6):
        for concept in world.taxonomy.concepts[:4]:
            world.remake(concept, rows=6)
        built.append(world.build().counts)
    assert built[0]["build"] == built[1]["build"] == "incremental"
    rewritten = [counts["build"] for counts in built].index(
        "full: every row was replaced once since the last full build"
    )
    assert built[rewritten]["rewritten_rows"] == 0
    assert built[rewritten - 1]["rewritten_rows"] > sum(built[rewritten - 1]["tables"].values())


def test_what_a_killed_build_left_is_not_built_upon(world, tmp_path):
    world.remake(world.taxonomy.concepts[0])
    fingerprint = index.spec(world.data, world.taxonomy).fingerprint
    left = world.data.partition("index") / f".{fingerprint}.partial" / FILE
    left.parent.mkdir()
    left.write_bytes(index_file(world).read_bytes()[:5000])
    left.with_name(f"{FILE}.wal").write_bytes(b"half a log")
    assert world.build().counts["build"] == "incremental"
    assert contents(world.data) == contents_of_a_full_build(world, tmp_path / "full")


def test_a_partition_that_is_replaced_while_it_is_read_is_read_again(world, tmp_path, monkeypatch):
    """Its shards are then all of one generation, the one that the table `manifests` names."""
    concept = world.taxonomy.concepts[0]
    world.remake(concept)
    read, moments = manifests.read, iter([True])

    def replaced_behind(folder, stem, **options):
        table = read(folder, stem, **options)
        if folder == world.data.partition("prompts", concept.key) and next(moments, False):
            world.remake(concept, rows=9)
        return table

    monkeypatch.setattr(index_tables.manifests, "read", replaced_behind)
    world.build()
    monkeypatch.undo()
    held = contents(world.data)
    now = manifests.require(world.data.partition("prompts", concept.key))
    assert sum(concept.key in row for row in held["prompt_pairs"]) == now.rows == 9
    assert any(now.content_id in row for row in held["manifests"])
    assert index.spec(world.data, world.taxonomy).state() == "stale"
    world.build()
    assert contents(world.data) == contents_of_a_full_build(world, tmp_path / "full")
