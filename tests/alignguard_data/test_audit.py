"""The audits of the rooms: each finding fails when its claim is broken on disk."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest

from alignguard_data import manifest as manifests
from alignguard_data.audit import AuditBounds, audit_rooms
from alignguard_data.findings import Finding
from alignguard_data.manifest import MANIFEST
from alignguard_data.partition import PartitionSpec, open_partition
from alignguard_data.records import PromptPair, from_table, to_table
from tests.alignguard_data.conftest import flip_a_byte
from tests.alignguard_data.tiny_rooms import TinyGenerator, TinyRooms, concept, taxonomy


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
        "hashes", "funnel_sums", "split_leaks", "flag_rates", "schema", "minors",
    ]  # fmt: skip
    assert all(f.passed for f in findings)


def test_a_flipped_byte_is_named(filled):
    (shard,) = filled.data.partition("images", "spots.dot").glob("*/images.parquet")
    flip_a_byte(shard)
    (finding,) = failed(filled)
    assert finding.name == "hashes" and str(shard) in finding.message


def test_a_lost_column_is_named(filled):
    folder = filled.data.partition("pairs", "spots.dot")
    kept = manifests.read(folder, "kept").drop_columns(["safe_prompt"])
    rewrite(filled, "pairs", "spots.dot", kept=kept)
    (finding,) = failed(filled)
    assert finding.name == "schema" and "safe_prompt" in finding.message


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
