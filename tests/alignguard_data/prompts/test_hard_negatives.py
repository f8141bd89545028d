"""Hard negatives: the ledger, the gate, and their way through every room into a release."""

import dataclasses
import json
from collections import Counter

import pytest

from alignguard_data.contracts.errors import ConfigError, IntegrityError
from alignguard_data.contracts.records import PromptPair, from_table
from alignguard_data.dedup.decide import repeats
from alignguard_data.dedup.edges import Edge
from alignguard_data.prompts import hard_negatives as hard
from alignguard_data.prompts.gate import read_hard_negative
from alignguard_data.prompts.hard_negatives import (
    HardNegative,
    add_hard_negatives,
    complete_adding,
    ledger,
    of_concept,
    read_hard_negatives,
    read_origins,
)
from alignguard_data.prompts.room import spec, write_prompt_pairs
from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.release.reader import release_folder, train_part, train_rows
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.places import read_bytes
from alignguard_data.storage.writes import append
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
    assert not ledger(rooms.data, BAR.key).exists()
    assert not list(rooms.data.base.rglob("*.jsonl"))


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
    with ledger(rooms.data, BAR.key).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(IntegrityError, match="line 2 is not a hard negative") as caught:
        read_hard_negatives(rooms.data)
    assert "secretword" not in str(caught.value)


def test_a_concepts_ledger_has_its_own_lines_only(rooms):
    rooms.data.prepare()
    other = found(concept="spots.dot")
    add_hard_negatives(rooms.data, [FOUND, other])
    assert of_concept(rooms.data, BAR.key) == [FOUND]
    assert read_hard_negatives(rooms.data) == [FOUND, other]
    ledger(rooms.data, "lines.tick").write_bytes(ledger(rooms.data, BAR.key).read_bytes())
    with pytest.raises(IntegrityError, match=r"lines\.tick\.jsonl has a line of another concept"):
        of_concept(rooms.data, "lines.tick")


def test_a_spec_reads_its_own_concepts_ledger_only(rooms, monkeypatch):
    rooms.data.prepare()
    concepts = [f"lines.bar-{number}" for number in range(50)]
    add_hard_negatives(rooms.data, [found(concept=concept) for concept in concepts])
    reads: list[str] = []

    def counted(place):
        reads.append(place.name)
        return read_bytes(place)

    monkeypatch.setattr(hard, "read_bytes", counted)
    for key in concepts:
        assert spec(rooms.data, concept(key), TinyWriter(), WRITING).inputs[hard.INPUT]
    # The older version's one file was read when they were added: once in a process.
    assert Counter(reads) == Counter(f"{key}.jsonl" for key in concepts)


@pytest.mark.parametrize("key", ["../lines.bar", "lines", "", "Lines.bar", "lines.bar/x", "a.b\n"])
def test_what_is_no_concepts_key_names_no_file(rooms, key):
    rooms.data.prepare()
    with pytest.raises(ConfigError, match="concept must be category, dot, slug"):
        add_hard_negatives(rooms.data, [FOUND, found(concept=key)])
    assert not list(rooms.data.base.rglob("*.jsonl"))


def test_the_one_file_of_an_older_version_is_read_with_its_concepts_own(rooms):
    rooms.data.prepare()
    old = [FOUND, found(concept="spots.dot"), found(unsafe_prompt="plugh wug at noon")]
    lines = [json.dumps(dataclasses.asdict(entry)) + "\n" for entry in old]
    (rooms.data.base / hard.ONE_FILE).write_text("".join(lines))
    new = found(unsafe_prompt="wug quux at noon", round=2)
    assert add_hard_negatives(rooms.data, [FOUND, new]).new == (new,)
    assert of_concept(rooms.data, BAR.key) == [old[0], old[2], new]
    assert read_hard_negatives(rooms.data) == [old[0], old[2], new, old[1]]
    assert (rooms.data.base / hard.ONE_FILE).read_text() == "".join(lines)


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_killed_call_adds_all_or_none(rooms, monkeypatch, written):
    rooms.data.prepare()
    both, left = [FOUND, found(concept="spots.dot")], written

    def killed(place, text):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        append(place, text)

    with monkeypatch.context() as patch:
        patch.setattr(hard, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            add_hard_negatives(rooms.data, both)
    complete_adding(rooms.data)
    assert read_hard_negatives(rooms.data) == (both if written else [])
    assert add_hard_negatives(rooms.data, both).new == (() if written else tuple(both))
    files = sorted(path.name for path in (rooms.data.base / hard.FOLDER).iterdir())
    assert files == [f"{entry.concept}.jsonl" for entry in both]
    assert all(len(ledger(rooms.data, one.concept).read_text().splitlines()) == 1 for one in both)


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


def test_the_gates_of_replies_and_attacks_differ_in_one_reason_and_those_of_twins():
    of_twins = {"twin_unanswered", "twin_flagged", "twin_keeps_too_little"}
    tested = {"cut_off", "empty", "unparseable", "schema", LACKS, *of_twins} ^ set(BY_REASON)
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
