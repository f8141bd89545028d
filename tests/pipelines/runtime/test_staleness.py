"""A change makes exactly those partitions stale that depend on it: one row a change.

Each row changes one thing of a finished deployment, runs it as the driver does, and names every
partition that is made again, with what follows from the new content of its inputs.
"""

import dataclasses
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from inspect import signature
from itertools import product
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.images import room as images
from alignguard_data.importing.coprov2 import room as coprov2
from alignguard_data.index import room as index
from alignguard_data.pairs import room as pairs
from alignguard_data.prompts import room as prompts
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.release import room as release
from alignguard_data.release.checks import EVALUATION, rows_of
from alignguard_data.release.folders import latest_release
from alignguard_data.release.withdrawals import withdraw
from alignguard_data.safety import rules as safety
from alignguard_data.scores import room as scores
from alignguard_data.storage import basis
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.parquet_files import open_parquet
from alignguard_data.taxonomy import room as taxonomy
from alignguard_train.encodings import room as encodings
from alignguard_train.evaluation import room as evaluation_room
from alignguard_train.experts import room as experts
from alignguard_train.merge import room as merge_room
from tests.alignguard_data.tiny_rooms import InkScorer, good_reply
from tests.pipelines.runtime.staleness_world import World, Writer, write_files

FROM_TRAINING = "experts/* merge/all evaluation/all"
EVERY_ENCODING = "encodings/plain encodings/mirrored"
ADAPTERS = f"{EVERY_ENCODING} {FROM_TRAINING}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_files(folder)
    World(folder).run()
    return folder


@pytest.fixture
def world(finished: Path, tmp_path: Path) -> World:
    shutil.copytree(finished, tmp_path / "world")
    return World(tmp_path / "world")


def set_profile(section: str, **changes: object) -> Callable[[World], None]:
    def change(world: World) -> None:
        chosen = getattr(world.profile, section)
        setattr(world.profile, section, dataclasses.replace(chosen, **changes))

    return change


def set_engine(name: str, **changes: object) -> Callable[[World], None]:
    def change(world: World) -> None:
        engine = getattr(world.engines, name)
        for one in engine[:1] if isinstance(engine, list) else [engine]:
            for field, value in changes.items():
                setattr(one, field, value)

    return change


def set_recipe(**changes: object) -> Callable[[World], None]:
    def change(world: World) -> None:
        recipe = dataclasses.replace(world.profile.recipe(), **changes)
        world.profile.recipe = lambda: recipe

    return change


def flag_of(section: str, **changes: object) -> Callable[[World], None]:
    def change(world: World) -> None:
        chosen = getattr(world.profile, section)
        flags = tuple(dataclasses.replace(rule, **changes) for rule in chosen.flags)
        setattr(world.profile, section, dataclasses.replace(chosen, flags=flags))

    return change


def rewrite(name: str, text: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        (world.files / name).write_text(text)

    return change


def concept_of(key: str, **changes: object) -> Callable[[World], None]:
    def change(world: World) -> None:
        listed = [
            dataclasses.replace(concept, **changes) if concept.key == key else concept
            for concept in world.engines.taxonomy.concepts
        ]
        held = world.engines.taxonomy
        world.engines.taxonomy = dataclasses.replace(held, concepts=tuple(listed))

    return change


def withdrawn(split: str, category: str, place: int = 0) -> Callable[[World], None]:
    """One pair of this split and category is withdrawn: the first by id, or the last."""

    def change(world: World) -> None:
        folder = latest_release(world.data)
        assert folder
        if split == "evaluation":
            table = open_parquet(folder / EVALUATION).read(["pair_id", "concept"])
            rows = [r for r in table.to_pylist() if r["concept"] == category]
            assert len(rows) > 1, "the evaluation reads one prompt of a concept, and leaves one"
        else:
            table = rows_of(folder, split, ("pair_id", "category"))
            rows = [r for r in table.to_pylist() if r["category"] == category]
        withdraw(world.data, [sorted(row["pair_id"] for row in rows)[place]], "a test")

    return change


def another_reply(key: str, role: str) -> Callable[[World], None]:
    """The writer answered one request of a concept otherwise: one pair of this role is another."""

    def change(world: World) -> None:
        before = pairs_of(world, key)
        for number, shift in product(range(8), range(100, 104)):
            said = {number: lambda request, shift=shift: good_reply(request, shift)}
            (world.data.partition("prompts", key) / MANIFEST).unlink()
            write_prompt_pairs(
                world.data,
                world.engines.taxonomy.concept(key),
                Writer(faults=said),
                world.profile.writing,
                tools=world.engines.gate_tools,
            )
            moved = before ^ pairs_of(world, key)
            if len(moved) == 2 and {recorded for _, recorded in moved} == {role}:
                return
        raise AssertionError(f"no reply gave another pair of role {role}")

    return change


def pairs_of(world: World, key: str) -> set[tuple[str, str]]:
    table = manifests.read(world.data.partition("prompts", key), "pairs")
    return {(row["pair_id"], row["role"]) for row in table.to_pylist()}


def raised(module: ModuleType) -> Callable[[World, pytest.MonkeyPatch], None]:
    """The number of a room's files goes up."""
    return lambda world, patch: patch.setattr(module, "FORMAT", module.FORMAT + 1)


def another_column(room: str) -> Callable[[World, pytest.MonkeyPatch], None]:
    """A record of a room has one more column."""

    def change(world: World, patch: pytest.MonkeyPatch) -> None:
        first, *others = SHARD_RECORDS[room].items()
        wider = dataclasses.make_dataclass(
            "Wider", [("more", str)], bases=(first[1],), kw_only=True, frozen=True
        )
        records = {**SHARD_RECORDS, room: {first[0]: wider, **dict(others)}}
        patch.setattr(basis, "SHARD_RECORDS", records)

    return change


def another_table(module: ModuleType) -> Callable[[World, pytest.MonkeyPatch], None]:
    """The first of the tables that a room tells of has one more column."""

    def change(world: World, patch: pytest.MonkeyPatch) -> None:
        first, *others = module.TABLES.items()
        wider = pa.schema([*as_schema(first[1]), pa.field("more", pa.string())])
        patch.setattr(module, "TABLES", {first[0]: wider, **dict(others)})

    return change


def as_schema(table: type | pa.Schema) -> pa.Schema:
    return table if isinstance(table, pa.Schema) else schema_of(table)


def one_more_scorer(world: World) -> None:
    world.engines.image_scorers.append(InkScorer(name="more"))


def unread_scorer(world: World) -> None:
    world.engines.image_scorers[1].version = "2"


def stricter_rules(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(safety, "VERSION", "another")


def deleted_release(world: World) -> None:
    folder = latest_release(world.data)
    assert folder
    shutil.rmtree(str(folder))


def deleted(name: str) -> Callable[[World], None]:
    return lambda world: (world.data.base / "evaluation" / name).unlink()


def another_base(world: World) -> None:
    world.engines.generator.revision = "2"
    world.engines.base.revision = "2"


# What follows from a pair of `spots` that is another, from the release on.
FROM_SPOTS = f"{EVERY_ENCODING} experts/all-single experts/spots merge/all evaluation/all"
FROM_LINES = FROM_SPOTS.replace("experts/spots", "experts/lines")

CHANGES: dict[str, tuple[Callable[..., None], str]] = {
    "nothing": (lambda world: None, ""),
    # what the code decides
    "the safety rules": (
        stricter_rules,
        "prompts/* pairs/* release/all evaluation/all imports/coprov2",
    ),
    "the format of the taxonomy": (raised(taxonomy), "taxonomy/all"),
    "the format of prompts": (raised(prompts), "prompts/*"),
    "the format of images": (raised(images), "images/*"),
    "the format of scores": (raised(scores), "scores/*"),
    "the format of pairs": (raised(pairs), "pairs/*"),
    "the format of the index": (raised(index), "index/all"),
    "the format of the release": (raised(release), "release/all"),
    "the format of encodings": (raised(encodings), EVERY_ENCODING),
    "the format of experts": (raised(experts), FROM_TRAINING),
    "the format of the merge": (raised(merge_room), "merge/all evaluation/all"),
    "the format of the evaluation": (raised(evaluation_room), "evaluation/all"),
    "the format of imports": (raised(coprov2), "imports/coprov2"),
    "a column of the taxonomy": (another_column("taxonomy"), "taxonomy/all"),
    "a column of prompts": (another_column("prompts"), "prompts/*"),
    "a column of images": (another_column("images"), "images/*"),
    "a column of scores": (another_column("scores"), "scores/*"),
    "a column of pairs": (another_column("pairs"), "pairs/*"),
    "a column of encodings": (another_table(encodings), EVERY_ENCODING),
    "a column of the release": (another_table(release), "release/all"),
    "a column of the merge": (another_table(merge_room), "merge/all evaluation/all"),
    "a column of the evaluation": (another_table(evaluation_room), "evaluation/all"),
    "a column of imports": (another_table(coprov2), "imports/coprov2"),
    # numerics
    "the dtype of the writer": (
        set_engine("writer", numerics={"vllm dtype": "float16"}),
        "prompts/*",
    ),
    "the dtype of rendering": (
        set_engine("generator", numerics={"dtype": "float16"}),
        "images/* evaluation/all",
    ),
    "the dtype of training and merging": (
        set_engine("base", numerics={"dtype": "bfloat16"}),
        f"{EVERY_ENCODING} {FROM_TRAINING}",
    ),
    # engines
    "the writer's revision": (set_engine("writer", revision="2"), "prompts/*"),
    "the tokenizer that counts": (rewrite("model/tokenizer/vocab.json", "{}"), "prompts/*"),
    "the base model's weights": (
        another_base,
        f"images/* index/all release/all {ADAPTERS}",
    ),
    "the base model draws one concept otherwise": (
        set_engine("generator", revision="2", redrawn="a dot"),
        f"images/* scores/spots.dot pairs/spots.dot index/all release/all {FROM_SPOTS}",
    ),
    "a scorer that the rules read": (
        set_engine("image_scorers", version="2"),
        "scores/* pairs/* index/all release/all",
    ),
    "a scorer that no rule reads": (unread_scorer, "scores/* index/all release/all"),
    "one more scorer": (one_more_scorer, "scores/* index/all release/all"),
    "a scorer of the evaluation": (set_engine("evaluation_scorers", version="2"), "evaluation/all"),
    "the features of the evaluation": (
        set_engine("evaluation_features", version="2"),
        "evaluation/all",
    ),
    # the profile
    "a setting of writing": (set_profile("writing", min_words=3), "prompts/*"),
    "how replies are batched": (set_profile("writing", ask_in_batches_of=3), ""),
    "a threshold of the filter": (flag_of("filter", at_least=0.03), "pairs/*"),
    "the seeds of the evaluation": (set_profile("evaluation", seeds=2), "evaluation/all"),
    "a threshold of the evaluation": (flag_of("evaluation", at_least=0.3), "evaluation/all"),
    "a bound of the audit": (set_profile("audit", max_safe_flagged=0.6), "release/all"),
    "the licence": (set_profile("release", licence="MIT"), "release/all"),
    "a limit of duplicates": (set_profile("release", max_prompt_jaccard=0.9), "release/all"),
    "the recipe": (set_recipe(steps=4), FROM_TRAINING),
    "how often training is kept": (set_recipe(checkpoint_every=7), ""),
    "the merge's strategy": (set_profile("merge", strategy="ties"), "merge/all evaluation/all"),
    "the merge's seed": (set_profile("merge", seed=1), "merge/all evaluation/all"),
    "another published method": (
        set_profile("evaluation", peers=("negative_prompt",)),
        "evaluation/all",
    ),
    "the file of a prompt set": (rewrite("set.csv", "prompt\na blue field\n"), "evaluation/all"),
    # the taxonomy
    "the words of one concept": (
        concept_of("spots.dot", terms=("dot", "point")),
        "taxonomy/all prompts/spots.dot pairs/spots.dot index/all",
    ),
    # rows
    "another pair of one concept": (
        another_reply("spots.dot", "train"),
        f"images/spots.dot scores/spots.dot pairs/spots.dot index/all release/all {FROM_SPOTS}",
    ),
    "another evaluation pair of one concept": (
        another_reply("spots.dot", "evaluation"),
        "index/all release/all evaluation/all",
    ),
    "a withdrawn pair": (withdrawn("train", "lines"), f"release/all {FROM_LINES}"),
    "a withdrawn pair of a held-out concept": (withdrawn("test", "lines"), "release/all"),
    "a withdrawn evaluation prompt that was measured": (
        withdrawn("evaluation", "lines.bar"),
        "release/all evaluation/all",
    ),
    "a withdrawn evaluation prompt that was not": (
        withdrawn("evaluation", "lines.bar", -1),
        "release/all",
    ),
    "the release's folder is deleted": (deleted_release, "release/all"),
    "the summary is deleted": (deleted("summary.json"), "evaluation/all"),
    "the model card is deleted": (deleted("MODEL_CARD.md"), "evaluation/all"),
    "a file to import": (
        rewrite("train.csv", "prompt,image,category\na green field,1.png,hate\n"),
        "imports/coprov2",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_exactly_what_depends_on_it_again(world, monkeypatch, name):
    change, expected = CHANGES[name]
    change(world, monkeypatch) if len(signature(change).parameters) == 2 else change(world)
    places = {f"{room}/{key}" for room, key, _ in world.places()}
    patterns = expected.split()
    assert all(any(fnmatchcase(place, pattern) for place in places) for pattern in patterns)
    assert world.run() == {p for p in places if any(fnmatchcase(p, one) for one in patterns)}
    assert world.run() == set(), "what was made again is done"


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("the dtype of training and merging", f"{EVERY_ENCODING} experts/* merge/all"),
        (
            "the base model's weights",
            f"images/* {EVERY_ENCODING} experts/* merge/all evaluation/all",
        ),
        ("the safety rules", "prompts/* pairs/* release/all evaluation/all imports/coprov2"),
    ],
)
def test_a_change_makes_these_stale_whatever_their_inputs_come_out_as(
    world, monkeypatch, name, stale
):
    """Before anything is made again: a merge would follow its experts in any case."""
    change, _ = CHANGES[name]
    change(world, monkeypatch) if len(signature(change).parameters) == 2 else change(world)
    found = {f"{room}/{key}" for room, key, spec in world.places() if spec().state() != "done"}
    places = {f"{room}/{key}" for room, key, _ in world.places()}
    assert found == {p for p in places if any(fnmatchcase(p, one) for one in stale.split())}
