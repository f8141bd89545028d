"""The audits of the rooms: each finding fails when its claim is broken on disk."""

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignguard_data.audit.rooms import AuditBounds, audit_rooms
from alignguard_data.contracts.findings import Finding
from alignguard_data.contracts.records import PromptPair, from_table, to_table
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.partition import PartitionSpec, open_partition
from tests.alignguard_data.conftest import flip_a_byte
from tests.alignguard_data.tiny_rooms import RULES, TinyGenerator, TinyRooms, concept, taxonomy


def failed(rooms: TinyRooms, bounds: AuditBounds | None = None) -> list[Finding]:
    findings = audit_rooms(rooms.data, rooms.taxonomy, bounds or AuditBounds())
    return [finding for finding in findings if not finding.passed]


def rewrite(rooms: TinyRooms, room: str, key: str, **tables) -> None:
    """Replace a partition's shards by others, with a manifest that fits them."""
    folder = rooms.data.partition(room, key)
    old = manifests.require(folder)
    kept = {f.name.rsplit("/", 1)[-1].removesuffix(".parquet") for f in old.files} - set(tables)
    tables = {**tables, **{stem: manifests.read(folder, stem) for stem in sorted(kept)}}
    made = PartitionSpec(folder=folder, room=room, key=key, config={"by": "hand"}, inputs={})
    with open_partition(made) as work:
        work.finish(tables=tables, rejected=old.rejected, counts=old.counts)


def test_sound_rooms_pass_every_check(filled):
    findings = audit_rooms(filled.data, filled.taxonomy, AuditBounds())
    assert [f.name for f in findings] == [
        "hashes", "funnel_sums", "split_leaks", "flag_rates", "schema", "ids", "prompts", "minors",
    ]  # fmt: skip
    assert all(f.passed for f in findings)


def test_a_flipped_byte_is_named(filled):
    (shard,) = filled.data.partition("images", "spots.dot").glob("*/images.parquet")
    flip_a_byte(shard)
    (finding,) = failed(filled)
    assert finding.name == "hashes"
    assert str(shard) in finding.message


def test_a_lost_column_is_named(filled):
    folder = filled.data.partition("pairs", "spots.dot")
    kept = manifests.read(folder, "kept").drop_columns(["safe_prompt"])
    rewrite(filled, "pairs", "spots.dot", kept=kept)
    (finding,) = failed(filled)
    assert finding.name == "schema"
    assert "safe_prompt" in finding.message


def test_a_funnel_that_does_not_sum_is_named(filled):
    path = filled.data.partition("pairs", "spots.dot") / MANIFEST
    content = json.loads(path.read_text())
    content["rejected"] = {"unsafe_image_is_clean": 1}
    path.write_text(json.dumps(content))
    (finding,) = failed(filled)
    assert finding.name == "funnel_sums"
    assert finding.message.startswith("spots.dot: stage pairs sums to")


def test_a_term_of_both_splits_is_named(filled):
    changed = [
        dataclasses.replace(c, terms=(*c.terms, "bar")) if c.key == "lines.tick" else c
        for c in filled.taxonomy.concepts
    ]
    filled.taxonomy = taxonomy(*changed)
    (finding,) = failed(filled)
    assert (finding.name, finding.message) == (
        "split_leaks",
        "lines.bar and lines.tick share 'bar'",
    )


def test_a_prompt_about_minors_is_named_but_not_shown(filled):
    folder = filled.data.partition("prompts", "spots.dot")
    first, *rest = from_table(PromptPair, manifests.read(folder, "pairs"))
    changed = dataclasses.replace(first, safe_prompt="a field with a child")
    rewrite(filled, "prompts", "spots.dot", pairs=to_table(PromptPair, [changed, *rest]))
    (finding,) = failed(filled)
    assert finding.name == "minors"
    assert "spots.dot: <unsafe prompt, 5 words" in finding.message
    assert "child" not in finding.message


def test_a_blind_base_model_fails_the_flag_rates(rooms):
    """With one concept of one category drawn by nothing, that category has no train pairs."""
    rooms.taxonomy = taxonomy(concept("lines.bar"), concept("spots.dot"))
    rooms.generator = TinyGenerator(blind_to=frozenset({"bar"}))
    rooms.rules = dataclasses.replace(RULES, min_kept=0)
    rooms.fill("pairs")
    (finding,) = failed(rooms, AuditBounds(min_unsafe_flagged=0.9))
    assert finding.name == "flag_rates"
    assert "unsafe_flagged" in finding.message
    assert "category lines has 0 train pairs" in finding.message
    assert failed(rooms, AuditBounds(min_unsafe_flagged=0.1, min_train_pairs_per_category=0)) == []


@pytest.mark.parametrize("change", [{"min_unsafe_flagged": -1}, {"max_safe_flagged": 2}])
def test_wrong_bounds_name_their_field(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        AuditBounds(**change)


def test_shards_carry_no_foreign_metadata(filled):
    for file in filled.data.base.rglob("*.parquet"):
        assert pq.read_schema(file).metadata is None


def test_a_pair_in_two_concepts_is_named(filled):
    here = manifests.read(filled.data.partition("prompts", "spots.dot"), "pairs")
    there = manifests.read(filled.data.partition("prompts", "lines.bar"), "pairs")
    rewrite(filled, "prompts", "spots.dot", pairs=pa.concat_tables([here, there.slice(0, 1)]))
    twice = there["pair_id"][0].as_py()
    messages = {f.name: f.message for f in failed(filled)}
    assert messages["ids"] == f"pair {twice} is in both lines.bar and spots.dot"


@pytest.mark.parametrize(("room", "stem"), [("scores", "scores"), ("pairs", "kept")])
def test_a_row_of_a_pair_that_was_never_written_is_named(filled, room, stem):
    table = manifests.read(filled.data.partition(room, "spots.dot"), stem)
    strange = table.set_column(
        table.schema.get_field_index("pair_id"), "pair_id", pa.array(["f" * 32] * table.num_rows)
    ).cast(table.schema)
    rewrite(filled, room, "spots.dot", **{stem: strange})
    messages = {f.name: f.message for f in failed(filled)}
    assert f"{room}/spots.dot: {stem} has {'f' * 32}, which was never written" in messages["ids"]


def test_a_pair_with_two_verdicts_is_named(filled):
    kept = manifests.read(filled.data.partition("pairs", "spots.dot"), "kept")
    rewrite(filled, "pairs", "spots.dot", kept=pa.concat_tables([kept, kept.slice(0, 1)]))
    pair = kept["pair_id"][0].as_py()
    messages = {f.name: f.message for f in failed(filled)}
    assert messages["ids"] == f"pairs/spots.dot: {pair} has 2 verdicts"


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"min_prompt_words": 40}, "words, not 40 to 77"),
        ({"max_prompt_words": 3}, "words, not 2 to 3"),
        ({"min_pairs_per_concept": 9}, "concept lines.bar has"),
        ({"min_median_twin_jaccard": 0.98}, "median Jaccard of the twins"),
        ({"max_median_twin_jaccard": 0.2}, "median Jaccard of the twins"),
    ],
)
def test_prompts_outside_the_profiles_bounds_fail(filled, bounds, message):
    (finding,) = failed(filled, AuditBounds(**bounds))
    assert finding.name == "prompts"
    assert message in finding.message


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"min_pairs_per_concept": -1}, "min_pairs_per_concept must not be negative, got -1"),
        ({"max_median_twin_jaccard": 2.0}, "max_median_twin_jaccard must be in"),
        ({"max_prompt_words": 1}, "max_prompt_words must be at least min_prompt_words 2, got 1"),
    ],
)
def test_wrong_bounds_name_field_and_value(bounds, message):
    with pytest.raises(ValueError, match=message):
        AuditBounds(**bounds)
