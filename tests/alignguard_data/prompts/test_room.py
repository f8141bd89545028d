"""The prompts room: the gate's slugs and order, the exact funnel, and resuming."""

import dataclasses
import json
import unicodedata

import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.errors import EngineError, NothingMade
from alignguard_data.contracts.protocols import Reply
from alignguard_data.contracts.records import PromptPair, RejectedReply, from_table, pair_id
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.gate import REASONS, TWIN_REASONS, GateTools, read_reply
from alignguard_data.prompts.room import spec, write_prompt_pairs
from alignguard_data.storage import manifest as manifests
from tests.alignguard_data.tiny_rooms import WRITING, TinyWriter, concept, good_reply

BAR = concept("lines.bar")
CONFIG = WritingConfig(pairs_per_concept=8, min_words=3, max_words=10, max_tokens=40)


def reply(unsafe: object, safe: object) -> str:
    return json.dumps({"unsafe_prompt": unsafe, "safe_prompt": safe})


SAFE = "a red field at noon"
UNSAFE = "a red field at noon with a bar"

TOOLS = GateTools(count_tokens=len, language=lambda text: float("ein " not in text))

BY_REASON = {
    "cut_off": Reply(text=reply(UNSAFE, SAFE), finish_reason="length"),
    **{one: Reply(text=reply(UNSAFE, SAFE), finish_reason=one) for one in TWIN_REASONS},
    "empty": " ",
    "unparseable": "{unsafe_prompt: no",
    "schema": reply(UNSAFE, 3),
    "refusal": "I'm sorry, but I can't help with that.",
    "minors": reply(f"{UNSAFE} and a child", SAFE),
    "too_short": reply("a bar", "a thing"),
    "too_long": reply("a bar " * 6, SAFE),
    "too_many_tokens": reply(f"{UNSAFE} abcdefghijk", SAFE),
    "wrong_language": reply("ein roter Turm am bar", "ein rotes Feld am Mittag"),
    "unsafe_prompt_lacks_concept": reply("a red barn at noon", SAFE),
    "safe_prompt_holds_concept": reply(UNSAFE, "a field with BARS at noon"),
    "twins_identical": reply("a bar", "a BAR"),
    "duplicate": reply(UNSAFE, "another twin of it"),
}


@pytest.mark.parametrize("reason", [r for r in REASONS if r != "twins_identical"])
def test_each_reason_has_a_reply_that_earns_it(reason):
    said = BY_REASON[reason]
    said = said if isinstance(said, Reply) else Reply(text=said)
    found = read_reply(
        said.text, BAR, CONFIG, {UNSAFE}, finish_reason=said.finish_reason, tools=TOOLS
    )
    assert found == reason


def test_identical_twins_are_rejected_where_terms_cannot_tell():
    """Identical twins hold the concept or lack it both, so an earlier test names them."""
    assert read_reply(reply(UNSAFE, UNSAFE), BAR, CONFIG, set()) == "safe_prompt_holds_concept"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (reply("child", "child"), "minors"),  # before too_short
        (reply("I cannot help with a child", "no"), "refusal"),  # before minors
        (json.dumps({"unsafe_prompt": "I can't help"}), "schema"),  # before refusal
        ("As an AI, I won't write this.", "refusal"),  # plain words that decline
        ('"I can’t help with that"', "refusal"),
        ("Here is your pair: red field", "unparseable"),
        (json.dumps([UNSAFE, SAFE]), "schema"),
        ("[" * 100_000, "unparseable"),
        ("", "empty"),
    ],
)
def test_the_order_of_the_tests_is_fixed(text, reason):
    assert read_reply(text, BAR, CONFIG, set()) == reason


def test_a_good_reply_becomes_a_pair_whose_id_is_its_content():
    pair = read_reply(reply(f"  {UNSAFE}\n", SAFE), BAR, CONFIG, set(), request_index=4, writer="w")
    assert isinstance(pair, PromptPair)
    assert pair.pair_id == pair_id("lines.bar", UNSAFE, SAFE)
    assert (pair.unsafe_prompt, pair.request_index, pair.writer) == (UNSAFE, 4, "w")


@pytest.mark.parametrize(
    ("safe", "reason"),
    [
        ("a red field with b\u00adar\u200bs", "safe_prompt_holds_concept"),
        ("a red field with ｂａｒｓ", "safe_prompt_holds_concept"),
        ("a red field with a BAR’S end", "safe_prompt_holds_concept"),
        ("a red field with a bаr", "safe_prompt_holds_concept"),  # Cyrillic letter
    ],
)
def test_a_safe_prompt_that_names_the_concept_is_found_out(safe, reason):
    assert read_reply(reply(UNSAFE, safe), BAR, CONFIG, set()) == reason


@pytest.mark.parametrize("spelling", ["café", "cafe\u0301", "ＣＡＦÉ"])
def test_a_concept_of_any_spelling_gets_pairs(spelling):
    named = dataclasses.replace(BAR, terms=(unicodedata.normalize("NFD", spelling),))
    text = reply("a red field with a Café", SAFE)
    assert isinstance(read_reply(text, named, CONFIG, set()), PromptPair)


@pytest.mark.parametrize(
    "other", [UNSAFE.upper(), UNSAFE.replace(" ", "\u3000"), UNSAFE.replace("red", "re\u200bd")]
)
def test_a_spelling_of_an_accepted_prompt_is_a_duplicate(other):
    assert read_reply(reply(other, "another of it"), BAR, CONFIG, {UNSAFE}) == "duplicate"


def test_words_of_a_script_without_blanks_are_counted():
    chinese = dataclasses.replace(BAR, terms=("刀",))
    text = reply("一把刀放在木桌上，旁边有杯子", "一本书放在木桌上，旁边有杯子")
    assert isinstance(read_reply(text, chinese, CONFIG, set()), PromptPair)
    longer = reply("一把刀放在木桌上，旁边有杯子，天空是蓝色的", "一本书放在木桌上")
    assert read_reply(longer, chinese, CONFIG, set()) == "too_long"


def test_a_wrapped_reply_is_read():
    wrapped = f"</think>Here it is: ```json [{reply(UNSAFE, SAFE)}] ```"
    assert isinstance(read_reply(wrapped, BAR, CONFIG, set()), PromptPair)


def test_half_characters_and_control_characters_cannot_reach_a_pair():
    text = '{"unsafe_prompt": "a red\\ud800 field\\u0000 with a bar", "safe_prompt": "a red field"}'
    pair = read_reply(text, BAR, CONFIG, set())
    assert isinstance(pair, PromptPair)
    assert pair.unsafe_prompt == "a red field with a bar"


def test_accepted_and_rejected_sum_to_the_requests(rooms):
    """Four faults among eleven requests leave seven pairs; an eighth takes a twelfth request."""
    writer = TinyWriter(
        faults={
            0: BY_REASON["unparseable"],
            2: BY_REASON["refusal"],
            3: BY_REASON["schema"],
            5: lambda request: good_reply(request, shift=-1),
        }
    )
    made = write_prompt_pairs(rooms.data, BAR, writer, WRITING)
    assert made.rows == 8
    assert made.rejected == {"duplicate": 1, "refusal": 1, "schema": 1, "unparseable": 1}
    assert made.counts["requests"] == 12 == made.rows + sum(made.rejected.values())
    assert made.counts["train"] + made.counts["evaluation"] == 8
    table = manifests.read(rooms.data.partition("prompts", BAR.key), "rejected")
    assert [(r.request_index, r.reason) for r in from_table(RejectedReply, table)] == [
        (0, "unparseable"),
        (2, "refusal"),
        (3, "schema"),
        (5, "duplicate"),
    ]


MUTE = {index: "no [/INST] 7" for index in range(1000)}
ONE_IN_SIX = {index: "no" for index in range(1000) if index % 6}
"""Of 24 requests for 8 pairs four are answered."""


def test_a_writer_that_never_delivers_fails_with_the_reason_the_count_and_a_masked_reply(rooms):
    with pytest.raises(NothingMade) as raised:
        write_prompt_pairs(rooms.data, BAR, TinyWriter(faults=MUTE), WRITING)
    assert str(raised.value) == (
        "prompts lines.bar: 0 of 8 prompt pairs; commonest reason unparseable (24 of 24); "
        "for example `xx [/xxxx] 0`"
    )


def test_replies_that_came_to_nothing_are_kept_and_asked_for_again(rooms):
    """The same fingerprint, so a mended server is all that differs; it ends as if undisturbed."""
    with pytest.raises(NothingMade):
        write_prompt_pairs(rooms.data, BAR, TinyWriter(faults=MUTE), WRITING)
    wanted = spec(rooms.data, BAR, TinyWriter(), WRITING)
    assert wanted.state() == "empty"
    attempt = wanted.made_nothing()
    assert attempt
    (kept,) = (file for file in attempt.files if file.rows)
    replies = pq.read_table(wanted.folder / kept.name)["reply"].to_pylist()
    assert replies == ["no [/INST] 7"] * 24
    mended = TinyWriter()
    made = write_prompt_pairs(rooms.data, BAR, mended, WRITING)
    assert (made.rows, mended.asked) == (8, list(range(8)))
    assert wanted.state() == "done"
    assert wanted.made_nothing() is None
    assert len(list(wanted.folder.glob("*/rejected.parquet"))) == 1


def test_what_was_made_before_stays_where_a_new_attempt_makes_nothing(rooms):
    before = write_prompt_pairs(rooms.data, BAR, TinyWriter(), WRITING)
    newer = TinyWriter(faults=MUTE, revision="2")
    for _ in range(2):
        with pytest.raises(NothingMade):
            write_prompt_pairs(rooms.data, BAR, newer, WRITING)
    assert manifests.require(rooms.data.partition("prompts", BAR.key)) == before
    assert spec(rooms.data, BAR, newer, WRITING).state() == "empty"
    assert spec(rooms.data, BAR, TinyWriter(), WRITING).state() == "done"


def test_a_short_concept_repeats_only_its_rejected_requests(rooms):
    wanted = spec(rooms.data, BAR, TinyWriter(), WRITING)
    first = write_prompt_pairs(rooms.data, BAR, TinyWriter(faults=ONE_IN_SIX), WRITING)
    assert (first.rows, first.counts["short_by"], wanted.state()) == (4, 4, "short")
    kept = pair_ids(rooms)
    mended = TinyWriter()
    again = write_prompt_pairs(rooms.data, BAR, mended, WRITING)
    assert (again.rows, again.counts["short_by"], wanted.state()) == (8, 0, "done")
    assert mended.asked == [1, 2, 3, 4]
    assert kept < pair_ids(rooms)
    assert again.counts["requests"] == again.rows + sum(again.rejected.values())


def test_a_short_concept_whose_writer_did_not_change_is_left_with_the_same_content(rooms):
    first, second = (
        write_prompt_pairs(rooms.data, BAR, TinyWriter(faults=ONE_IN_SIX), WRITING)
        for _ in range(2)
    )
    assert first.content_id == second.content_id
    assert first.rejected == second.rejected


def test_a_profile_may_leave_short_and_empty_concepts_as_they_are(rooms):
    config = dataclasses.replace(WRITING, ask_again=False, min_pairs=0)
    made = write_prompt_pairs(rooms.data, BAR, TinyWriter(faults=MUTE), config)
    assert (made.rows, made.counts["short_by"]) == (0, 8)
    assert spec(rooms.data, BAR, TinyWriter(), config).state() == "done"
    assert spec(rooms.data, BAR, TinyWriter(), WRITING).state() == "stale"


def pair_ids(rooms) -> set[str]:
    return set(
        manifests.read(rooms.data.partition("prompts", BAR.key), "pairs")["pair_id"].to_pylist()
    )


def test_rejected_replies_about_minors_are_not_kept_in_words(rooms):
    writer = TinyWriter(faults={0: BY_REASON["minors"]})
    write_prompt_pairs(rooms.data, BAR, writer, WRITING)
    table = manifests.read(rooms.data.partition("prompts", BAR.key), "rejected")
    (row,) = from_table(RejectedReply, table)
    assert row.reason == "minors"
    assert row.reply.startswith("<unsafe prompt,")


class StopsAfter(TinyWriter):
    """Dies like a killed process after so many calls."""

    left = 2

    def generate(self, requests):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().generate(requests)


def test_a_killed_run_asks_at_most_one_batch_again(rooms):
    config = dataclasses.replace(WRITING, ask_in_batches_of=3)
    killed = StopsAfter()
    with pytest.raises(KeyboardInterrupt):
        write_prompt_pairs(rooms.data, BAR, killed, config)
    again = TinyWriter()
    resumed = write_prompt_pairs(rooms.data, BAR, again, config)
    assert killed.asked == [0, 1, 2, 3, 4, 5]
    assert again.asked == [6, 7]
    other = dataclasses.replace(rooms, root=rooms.root / "other")
    undisturbed = write_prompt_pairs(other.data, BAR, TinyWriter(), config)
    assert resumed.content_id == undisturbed.content_id


def test_batch_size_changes_neither_rows_nor_fingerprint(rooms):
    writer = TinyWriter(faults={i: "no" for i in (1, 2, 6)})
    first = write_prompt_pairs(rooms.data, BAR, writer, WRITING)
    other = dataclasses.replace(rooms, root=rooms.root / "other")
    config = dataclasses.replace(WRITING, ask_in_batches_of=1)
    second = write_prompt_pairs(other.data, BAR, writer, config)
    assert (first.content_id, first.fingerprint) == (second.content_id, second.fingerprint)


def test_only_the_concept_writer_and_config_make_it_stale(rooms):
    write_prompt_pairs(rooms.data, BAR, TinyWriter(), WRITING)
    assert spec(rooms.data, BAR, TinyWriter(), WRITING).state() == "done"
    assert spec(rooms.data, BAR, TinyWriter(revision="2"), WRITING).state() == "stale"
    renamed = dataclasses.replace(BAR, terms=("bar", "rod"))
    assert spec(rooms.data, renamed, TinyWriter(), WRITING).state() == "stale"


def test_a_writer_that_loses_replies_is_an_error(rooms):
    class Loses(TinyWriter):
        def generate(self, requests):
            return super().generate(requests)[1:]

    with pytest.raises(EngineError, match="gave 7 replies to 8 requests"):
        write_prompt_pairs(rooms.data, BAR, Loses(), WRITING)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pairs_per_concept": 0}, "pairs_per_concept"),
        ({"evaluation_share": 1.0}, "evaluation_share"),
        ({"min_words": 9, "max_words": 8}, "max_words"),
    ],
)
def test_a_wrong_config_names_its_field(change, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(WRITING, **change)
