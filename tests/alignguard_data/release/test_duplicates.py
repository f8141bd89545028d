"""Duplicates and leaks of meaning in a whole release, over concepts, and remembered between two."""

import dataclasses
import json

import pytest

from alignguard_data.audit.funnel import KEPT
from alignguard_data.contracts.protocols import WritingRequest
from alignguard_data.dedup.decide import Decision
from alignguard_data.dedup.store import edges_file
from alignguard_data.release import room as release
from alignguard_data.release.checks import audit_release
from alignguard_data.release.room import ReleaseConfig, build_release
from tests.alignguard_data.dedup.near_rows import AngleEmbedder
from tests.alignguard_data.tiny_rooms import (
    BOUNDS,
    TinyRooms,
    TinyWriter,
    concept,
    good_reply,
    taxonomy,
)

CONFIG = ReleaseConfig(max_phash_distance=0, max_prompt_jaccard=0.8, max_semantic_cosine=0.9999)

SCENES = {
    "bar": "green hills under a wide sky",
    "dot": "some boats near the old harbour",
    "tick": "two lamps beside one stone wall",
}


def reply(unsafe: str, safe: str) -> str:
    return json.dumps({"unsafe_prompt": unsafe, "safe_prompt": safe})


@pytest.fixture
def repeating(rooms: TinyRooms) -> TinyRooms:
    """Two train concepts and a held-out one.

    Request 0 has one meaning in all three (they point at 45 degrees), request 1 nearly the same
    words in both train concepts.
    """
    rooms.taxonomy = taxonomy(
        concept("lines.bar"), concept("spots.dot"), concept("lines.tick", "test")
    )
    rooms.writing = dataclasses.replace(rooms.writing, evaluation_share=0.0, pairs_per_concept=3)
    rooms.writer = TinyWriter(
        faults={
            0: lambda r: reply(
                f"{SCENES[r.concept.slug]} and a {r.concept.slug} at 45", SCENES[r.concept.slug]
            ),
            1: lambda r: good_reply(r) if r.concept.slug == "tick" else _nearly_the_same(r),
        }
    )
    return rooms.fill("pairs")


def _nearly_the_same(request: WritingRequest) -> str:
    words = "a long row of ferns by the pool in the early light of one more day with"
    slug = request.concept.slug
    return reply(f"{words} and a {slug}", f"{words} number {len(slug) + ord(slug[0])}")


def build(rooms: TinyRooms, embedder: AngleEmbedder | None = None, config: ReleaseConfig = CONFIG):
    return build_release(
        rooms.data, rooms.taxonomy, config, BOUNDS, embedder=embedder or AngleEmbedder()
    )


def test_a_leak_of_meaning_and_a_duplicate_over_concepts_are_dropped(repeating):
    made = build(repeating)
    assert made.rejected == {"leaks_into_test": 2, "near_duplicate_prompt": 1}
    folder = release.latest_release(repeating.data)
    report = json.loads((folder / "leaks.json").read_text())
    counts = {
        kind: (found["dropped"], found["remaining"]) for kind, found in report["leaks"].items()
    }
    assert counts == {"exact": (0, 0), "near": (0, 0), "semantic": (2, 0), "image": (0, 0)}
    assert {row["of_concept"] for row in report["leaks"]["semantic"]["rows"]} == {"lines.tick"}
    (row,) = report["duplicates"]["near_duplicate_prompt"]["rows"]
    assert {row["concept"], row["of_concept"]} == {"lines.bar", "spots.dot"}
    assert row["pair_id"] > row["of"]
    assert row["value"] > 0.8
    stages = {(stage, why): n for stage, why, n in release.show_release(folder)["funnel"]}
    assert stages["release", KEPT] == made.rows == stages["pairs", KEPT] - 3
    assert report["embedder"] == "angle 1"


def test_a_release_from_scratch_equals_one_that_grew(repeating, tmp_path):
    """The same rooms: once in one go, once with a concept that came later."""
    whole = repeating.taxonomy
    repeating.taxonomy = taxonomy(concept("lines.bar"), concept("lines.tick", "test"))
    build(repeating)
    repeating.taxonomy = whole
    embedder = AngleEmbedder()
    grown = build(repeating, embedder)
    assert len(embedder.asked) == 3  # the new concept's; the audit asks for nothing again
    edges_file(repeating.data).unlink()
    again = build(repeating, config=dataclasses.replace(CONFIG, row_group_bytes=99_999_999))
    assert again.counts["release_content_id"] == grown.counts["release_content_id"]
    assert again.content_id == grown.content_id


def test_another_embedder_is_another_release_to_make(repeating):
    def fingerprint(version: str, config: ReleaseConfig = CONFIG) -> str:
        embedder = AngleEmbedder(version=version)
        made = release.spec(repeating.data, repeating.taxonomy, config, BOUNDS, embedder)
        return made.fingerprint

    assert fingerprint("1") == fingerprint("1") != fingerprint("2")
    indifferent = dataclasses.replace(CONFIG, max_semantic_cosine=None)
    assert fingerprint("1", indifferent) == fingerprint("2", indifferent)


@pytest.fixture
def unguarded(repeating, monkeypatch):
    """A release that was made blind: nothing gave way, and its own audit was not heard."""
    monkeypatch.setattr(release, "audit_release", lambda *_: [])
    monkeypatch.setattr("alignguard_data.release.plan.decide", lambda *_, **later: _NOTHING)
    build(repeating)
    return release.latest_release(repeating.data)


_NOTHING = Decision(leaks=(), duplicates=())


def test_the_audit_of_the_folder_finds_leaks_and_duplicates_by_itself(unguarded):
    found = {f.name: f for f in audit_release(unguarded, AngleEmbedder())}
    leaks, duplicates = found["split_leaks"], found["duplicates"]
    assert not leaks.passed
    assert not duplicates.passed
    assert leaks.numbers["leaks_semantic"] == 2
    assert leaks.numbers["leaks_exact"] == 0
    assert "(semantic of " in leaks.message
    # Both train rows at 45 degrees repeat each other as well.
    assert duplicates.numbers["near_duplicate_prompt"] == 1
    assert duplicates.numbers["semantic_near_duplicate"] == 1


@pytest.mark.parametrize("embedder", [None, AngleEmbedder(version="another")])
def test_an_audit_without_the_releases_embedder_says_so(unguarded, embedder):
    found = {f.name: f for f in audit_release(unguarded, embedder)}
    assert found["split_leaks"].passed
    assert found["split_leaks"].numbers["looked_for_semantic"] == 0
    assert "leaks_semantic" not in found["split_leaks"].numbers
    assert found["duplicates"].numbers["looked_for_semantic"] == 0


@pytest.mark.parametrize(
    ("cosine", "line"),
    [
        (0.9999, "cosine over 0.9999 to one of theirs (embeddings of angle 1)"),
        (None, "prompts that repeat a meaning in other words were not looked for"),
    ],
)
def test_the_card_says_what_was_checked(repeating, cosine, line):
    build(repeating, config=dataclasses.replace(CONFIG, max_semantic_cosine=cosine))
    card = (release.latest_release(repeating.data) / "README.md").read_text()
    assert line in card
    assert "more than 0.8 of its three-word runs" in card
