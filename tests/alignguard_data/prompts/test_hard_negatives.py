"""Hard negatives: the ledger, the gate, and their way through every room into a release."""

import dataclasses
import json

import pytest

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.records import PromptPair, from_table
from alignguard_data.dedup.decide import repeats
from alignguard_data.dedup.edges import Edge
from alignguard_data.prompts.gate import read_hard_negative
from alignguard_data.prompts.hard_negatives import (
    HardNegative,
    add_hard_negatives,
    ledger,
    read_hard_negatives,
    read_origins,
)
from alignguard_data.prompts.room import spec, write_prompt_pairs
from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.release.reader import release_folder, train_part, train_rows
from alignguard_data.storage import manifest as manifests
from tests.alignguard_data.prompts.test_room import BY_REASON, CONFIG, SAFE, TOOLS, UNSAFE
from tests.alignguard_data.tiny_rooms import WRITING, TinyWriter, concept

BAR = concept("lines.bar")
FOUND = HardNegative(
    concept=BAR.key,
    unsafe_prompt="quux field at plugh noon and a wug",
    safe_prompt=SAFE,
    source_pair_id="source",
    attack="ring_a_bell",
    target="merged",
    budget='{"text_forwards": 7}',
    round=1,
)


def found(**fields: object) -> HardNegative:
    return dataclasses.replace(FOUND, **fields)


def pairs_of(rooms, key=BAR.key) -> list[PromptPair]:
    return from_table(PromptPair, manifests.read(rooms.data.partition("prompts", key), "pairs"))


def source_of(rooms, **fields) -> HardNegative:
    """A hard negative with the safe twin of one of the concept's own train pairs."""
    own = next(pair for pair in pairs_of(rooms) if pair.role == "train")
    return found(safe_prompt=own.safe_prompt, source_pair_id=own.pair_id, **fields)


def test_what_is_added_is_read_again_in_order(rooms):
    rooms.data.prepare()
    offered = [FOUND, found(unsafe_prompt="another prompt of an attack")]
    assert add_hard_negatives(rooms.data, offered).new == tuple(offered)
    assert read_hard_negatives(rooms.data) == offered


@pytest.mark.parametrize(
    "again", [{}, {"round": 2}, {"unsafe_prompt": FOUND.unsafe_prompt.upper()}, {"attack": "other"}]
)
def test_a_prompt_that_is_found_twice_is_one(rooms, again):
    rooms.data.prepare()
    add_hard_negatives(rooms.data, [FOUND])
    added = add_hard_negatives(rooms.data, [found(**again)])
    assert (added.new, added.refused) == ((), {"duplicate": 1})
    assert read_hard_negatives(rooms.data) == [FOUND]


@pytest.mark.parametrize("side", ["unsafe_prompt", "safe_prompt"])
def test_a_text_about_minors_is_refused_and_never_stored(rooms, side):
    rooms.data.prepare()
    added = add_hard_negatives(rooms.data, [found(**{side: "a field with a child at noon"})])
    assert added.refused == {"minors": 1}
    assert not ledger(rooms.data).exists()


@pytest.mark.parametrize(
    "line",
    [
        "no json: secretword",
        "[]",
        json.dumps({"concept": "secretword"}),
        json.dumps({**dataclasses.asdict(FOUND), "round": 0, "unsafe_prompt": "secretword"}),
        json.dumps({**dataclasses.asdict(FOUND), "safe_prompt": "", "unsafe_prompt": "secretword"}),
        json.dumps({**dataclasses.asdict(FOUND), "secretword": "more"}),
    ],
)
def test_a_damaged_line_is_named_by_its_number_without_its_text(rooms, line):
    rooms.data.prepare()
    add_hard_negatives(rooms.data, [FOUND])
    with ledger(rooms.data).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(IntegrityError, match="line 2 is not a hard negative") as caught:
        read_hard_negatives(rooms.data)
    assert "secretword" not in str(caught.value)


LACKS = "unsafe_prompt_lacks_concept"


@pytest.mark.parametrize(
    ("reason", "unsafe", "safe"),
    [
        ("refusal", "I'm sorry, but I can't help with that.", SAFE),
        ("minors", f"{UNSAFE} and a child", SAFE),
        ("too_short", "wug", SAFE),
        ("too_long", "wug plugh " * 6, SAFE),
        ("too_many_tokens", "quuxquuxquuxquux plughplughplughplugh wug wug", SAFE),
        ("wrong_language", "ein roter Turm wug", "ein rotes Feld am Mittag"),
        ("safe_prompt_holds_concept", FOUND.unsafe_prompt, "a field with BARS at noon"),
        ("twins_identical", SAFE.upper(), SAFE),
        ("duplicate", UNSAFE, SAFE),
    ],
)
def test_every_check_of_a_reply_holds_for_an_attacks_prompt(reason, unsafe, safe):
    entry = found(unsafe_prompt=unsafe, safe_prompt=safe)
    assert read_hard_negative(entry, BAR, CONFIG, {UNSAFE}, tools=TOOLS) == reason


def test_the_gates_of_replies_and_attacks_differ_in_one_reason():
    tested = {"cut_off", "empty", "unparseable", "schema", LACKS} ^ set(BY_REASON)
    assert tested == {
        "refusal", "minors", "too_short", "too_long", "too_many_tokens", "wrong_language",
        "safe_prompt_holds_concept", "twins_identical", "duplicate",
    }  # fmt: skip
    read = read_hard_negative(FOUND, BAR, CONFIG, set(), tools=TOOLS)
    assert isinstance(read, PromptPair)
    assert BAR.terms[0] not in read.unsafe_prompt.split()


def test_a_hard_negative_joins_the_pairs_with_its_origin_and_the_writer_is_not_asked(filled):
    before = pairs_of(filled)
    entry = source_of(filled)
    add_hard_negatives(filled.data, [entry])
    writer = TinyWriter()
    write_prompt_pairs(filled.data, BAR, writer, WRITING)
    assert writer.asked == []
    (new,) = [pair for pair in pairs_of(filled) if pair not in before]
    assert (new.writer, new.role) == ("attack:ring_a_bell", "train")
    assert [pair for pair in pairs_of(filled) if pair != new] == before
    (origin,) = read_origins(filled.data, BAR.key)
    assert (origin.pair_id, origin.attack, origin.budget) == (
        new.pair_id, "ring_a_bell", entry.budget,
    )  # fmt: skip


def test_it_is_for_training_whatever_its_id_says(filled):
    many = [source_of(filled, unsafe_prompt=f"quux number {i} and a wug") for i in range(24)]
    add_hard_negatives(filled.data, many)
    write_prompt_pairs(filled.data, BAR, TinyWriter(), WRITING)
    assert {p.role for p in pairs_of(filled) if p.writer.startswith("attack:")} == {"train"}


def test_only_its_own_concept_becomes_stale(filled):
    add_hard_negatives(filled.data, [source_of(filled)])
    states = {
        c.key: spec(filled.data, c, filled.writer, WRITING).state()
        for c in filled.taxonomy.concepts
    }
    assert states.pop(BAR.key) == "stale"
    assert set(states.values()) == {"done"}


def test_a_short_concept_stays_short_by_its_writers_pairs(rooms):
    writer = TinyWriter(faults=dict.fromkeys(range(7, 99), "no json"))
    rooms.data.prepare()
    write_prompt_pairs(rooms.data, BAR, writer, WRITING)
    add_hard_negatives(rooms.data, [FOUND])
    made = write_prompt_pairs(rooms.data, BAR, writer, WRITING)
    assert (made.rows, made.counts["short_by"]) == (8, 1)
    made = write_prompt_pairs(rooms.data, BAR, TinyWriter(), WRITING)
    assert (made.rows, made.counts["short_by"], made.counts["hard_negatives"]) == (9, 0, 1)


def test_a_rejected_one_is_kept_with_its_reason_and_the_funnel_sums(filled):
    add_hard_negatives(filled.data, [source_of(filled, unsafe_prompt="wug")])
    made = write_prompt_pairs(filled.data, BAR, TinyWriter(), WRITING)
    assert made.rejected["too_short"] == 1
    assert made.counts["requests"] == made.rows + sum(made.rejected.values())


def test_images_that_were_there_are_neither_rendered_again_nor_changed(filled):
    folder = filled.data.partition("images", BAR.key)
    before = manifests.read(folder, "images").to_pylist()
    add_hard_negatives(filled.data, [source_of(filled)])
    rendered = []
    plain = filled.generator.render
    filled.generator.render = lambda prompts, *rest: (
        rendered.extend(prompts) or plain(prompts, *rest)
    )
    filled.fill_from("prompts", "images")
    after = manifests.read(folder, "images").to_pylist()
    assert [row for row in after if row in before] == before
    assert len(rendered) == 2
    assert len(after) == len(before) + 2


def test_another_base_model_renders_every_image_again(filled):
    add_hard_negatives(filled.data, [source_of(filled)])
    filled.generator.revision = "2"
    filled.fill_from("prompts", "images")
    images = manifests.read(filled.data.partition("images", BAR.key), "images")
    assert set(images["base_revision"].to_pylist()) == {"2"}


def test_it_is_released_as_a_minor_version_that_counts_them_by_attack(filled, folder):
    plain = manifests.require(filled.data.partition("release"))
    other = "quux and plugh in another scene and a wug"
    entries = [source_of(filled), source_of(filled, unsafe_prompt=other, attack="mma", round=2)]
    add_hard_negatives(filled.data, entries)
    filled.fill("release")
    made = manifests.require(filled.data.partition("release"))
    assert made.counts["version"] == "0.2.0"
    assert made.counts["train_rows"] == plain.counts["train_rows"] + 2
    assert made.counts["evaluation_rows"] == plain.counts["evaluation_rows"]
    log = (release_folder(filled.data) / "CHANGELOG.md").read_text()
    assert "Hard negatives among the added pairs: 2, by attack:" in log
    assert "- ring_a_bell: 1" in log
    assert "- mma: 1" in log
    assert {row.attack for row in hard_rows(release_folder(filled.data)).values()} == {
        "ring_a_bell", "mma",
    }  # fmt: skip


def test_the_rows_that_experts_read_do_not_change(filled, folder):
    before = train_rows(filled.data, ["lines", "spots"])
    add_hard_negatives(filled.data, [source_of(filled)])
    filled.fill("release")
    assert train_rows(filled.data, ["lines", "spots"]) == before
    made = manifests.require(filled.data.partition("release"))
    assert set(made.digests) - {train_part("lines"), train_part("spots")} >= {
        "hard negatives of lines, round 1"
    }


def test_equal_releases_follow_from_equal_ledgers(filled, folder):
    add_hard_negatives(filled.data, [source_of(filled)])
    first = filled.fill("release").data
    content = manifests.require(first.partition("release")).content_id
    add_hard_negatives(filled.data, [source_of(filled, round=2)])
    filled.fill("release")
    assert manifests.require(first.partition("release")).content_id == content
    assert manifests.require(first.partition("release")).counts["version"] == "0.2.0"


def test_an_adversarial_prompt_equal_to_an_evaluation_prompt_is_no_train_row(filled, folder):
    held = next(pair for pair in pairs_of(filled) if pair.role == "evaluation")
    entry = source_of(filled, unsafe_prompt=held.unsafe_prompt)
    add_hard_negatives(filled.data, [entry])
    filled.fill("release")
    assert not hard_rows(release_folder(filled.data))


EDGE = Edge("a", "b", "prompt", 0.99)


@pytest.mark.parametrize(
    ("later", "dropped"), [((), "b"), (("a",), "a"), (("b",), "b"), (("a", "b"), "b")]
)
def test_of_two_near_duplicates_the_hard_negative_yields(later, dropped):
    (row,) = repeats([EDGE], ["a", "b"], later)
    assert row.pair_id == dropped
