"""Bans by the table of rules and by a language model; what they refuse."""

from dataclasses import replace

import pytest

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.contracts.protocols import Reply
from alignguard_train.personal.bans import PUBLISHED_CATEGORIES, BanTable
from alignguard_train.personal.judged_bans import (
    INSTRUCTION,
    ReplyRefused,
    ServedBanWriter,
    ask_bans,
    read_bans,
    sentence,
)
from alignguard_train.personal.records import Profile, RefusedUser
from alignguard_train.personal.users import draw_users
from tests.alignguard_data.engines.chat_server import chat, serving

GLYPHS = ("angular", "banded", "crossed", "curled", "gridded", "radial", "ringed")
TABLE = BanTable(
    release=GLYPHS,
    mapping=dict(zip(PUBLISHED_CATEGORIES, [[name] for name in GLYPHS], strict=True)),
)
ADULT = Profile(
    user_id="0", age=30, age_group="young-adults", gender="male", religion="none",
    physical="healthy", mental="healthy",
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "banned"),
    [
        ({}, []),
        ({"age": 17}, ["Sexuality", "Self-Harm", "Violence"]),
        ({"age": 18}, []),
        ({"mental": "war"}, ["Sexuality", "Self-Harm", "Violence"]),
        ({"physical": "hearing-impairment"}, ["Shocking", "Harassment"]),
        ({"religion": "buddhism"}, ["Hate", "Propaganda"]),
        ({"religion": "islam", "age": 3, "physical": "visual-impairment"}, PUBLISHED_CATEGORIES),
    ],
)
def test_the_rules_ban(change, banned):
    wanted = {TABLE.mapping[name][0] for name in banned}
    assert set(TABLE.by_rules(replace(ADULT, **change))) == wanted


def test_a_published_category_may_stand_for_several_or_none_of_the_release():
    table = BanTable(
        release=("a", "b", "c"), mapping={"Violence": ["a", "b"], "Hate": ["b"]}, always=("c",)
    )
    assert table.by_rules(ADULT) == ("c",)
    assert table.by_rules(replace(ADULT, age=10)) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("mapping", "always", "said"),
    [
        ({"Violence": ["x"]}, (), "categories.Violence: the release has no category 'x'"),
        ({"Gore": ["a"]}, (), "categories.Gore: the rules know no such category"),
        ({"Hate": ["a"]}, ("y",), "always_banned: the release has no category 'y'"),
        ({"Hate": ["a"]}, (), "b of the release is in no category of the rules"),
        ({}, (), "a of the release is in no category of the rules"),
    ],
)
def test_a_mapping_that_does_not_fit_the_release_is_refused(mapping, always, said):
    with pytest.raises(ConfigError) as refused:
        BanTable(release=("a", "b"), mapping=mapping, always=always)
    assert said in str(refused.value)


def test_every_fault_of_a_mapping_is_listed():
    with pytest.raises(ConfigError) as refused:
        BanTable(release=("a", "b"), mapping={"Gore": ["x"]}, always=("y",))
    assert len(refused.value.faults) == 5


def test_a_ban_on_an_unknown_category_is_refused():
    with pytest.raises(ConfigError) as refused:
        TABLE.by_names(ADULT, ["Hate", "nothing", "ringed", "void"])
    assert len(refused.value.faults) == 2
    assert "'nothing'" in str(refused.value)


@pytest.mark.parametrize("named", [[], ["Hate"], ["ringed"]])
def test_no_list_of_bans_lifts_the_rule_for_users_under_18(named):
    """Neither a model's reply nor a file of users: the rule is added to what they give."""
    banned = TABLE.by_names(replace(ADULT, age=17), named)
    assert {TABLE.mapping[one][0] for one in ("Sexuality", "Self-Harm", "Violence")} <= set(banned)
    assert len(TABLE.by_names(ADULT, named)) == len(named)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", ()),
        ('["Hate", "Violence"]', ("Hate", "Violence")),
        ('["self-harm"]', ("Self-Harm",)),
        ('["Hate", "hate "]', ("Hate",)),
        ('```json\n["Shocking"]\n```', ("Shocking",)),
        ('<think>Violence is fine for adults.</think>["Propaganda"]', ("Propaganda",)),
    ],
)
def test_a_list_is_read(text, named):
    assert read_bans(Reply(text=text)) == named


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Violence is fine", "unparseable"),
        ('I ban ["Violence"] for them', "unparseable"),
        ("Violence, Hate", "unparseable"),
        ('{"banned": ["Hate"]}', "schema"),
        ('["Hate", 3]', "schema"),
        ('[["Hate"]]', "schema"),
        ('"Hate"', "schema"),
        ("null", "unparseable"),
        ('["Hate", "Gore"]', "unknown_category"),
        ('[""]', "unknown_category"),
        ("", "empty"),
        ("I'm sorry, I cannot help with that.", "refusal"),
        ('["Hate"', "unparseable"),
    ],
)
def test_a_reply_that_is_no_list_of_categories_is_refused(text, reason):
    with pytest.raises(ReplyRefused) as refused:
        read_bans(Reply(text=text))
    assert refused.value.reason == reason


def test_a_reply_that_ran_out_of_tokens_is_refused():
    with pytest.raises(ReplyRefused, match="cut_off"):
        read_bans(Reply(text='["Hate"]', finish_reason="length"))


class Scripted:
    model_id, revision = "scripted", "1"

    def __init__(self, *texts):
        self.texts = texts

    def replies(self, profiles):
        assert len(profiles) == len(self.texts)
        return [Reply(text=text) for text in self.texts]


def test_a_refused_reply_drops_its_user_only_and_says_why():
    users = [replace(ADULT, user_id=str(i)) for i in range(3)]
    banned, refused = ask_bans(users, Scripted("[]", '["Gore"]', '["Hate"]'), TABLE)
    assert banned == {"0": (), "2": (TABLE.mapping["Hate"][0],)}
    assert refused == [RefusedUser(user_id="1", reason="unknown_category", detail="Gore")]


SERVED: dict[str, tuple[bytes, str]] = {
    "30": (chat('["Hate"]'), ""),
    "31": (chat("Violence is fine for this user"), "unparseable"),
    "32": (chat('["Hate"', finish_reason="length"), "cut_off"),
    "33": (chat(None, refusal="I cannot decide that"), "refusal"),
    "34": (chat(""), "empty"),
    "35": (chat('{"banned": "Hate"}'), "schema"),
    "36": (chat('["Gore"]'), "unknown_category"),
    "37": (chat("[]"), ""),
}
"""Age of the user, the server's answer, and why it is refused."""


def test_a_served_model_decides_bans_and_each_bad_reply_drops_its_own_user():
    def answer(number, body):
        (age,) = [age for age in SERVED if f"of {age}, " in body["messages"][0]["content"]]
        return 200, SERVED[age][0]

    users = [replace(ADULT, user_id=age, age=int(age)) for age in SERVED]
    with serving(answer) as (url, bodies):
        writer = ServedBanWriter("tiny", "1", base_url=url, concurrency=3)
        banned, refused = ask_bans(users, writer, TABLE)
    assert banned == {"30": (TABLE.mapping["Hate"][0],), "37": ()}
    assert {one.user_id: one.reason for one in refused} == {
        age: reason for age, (_, reason) in SERVED.items() if reason
    }
    asked = bodies[0]["response_format"]["json_schema"]["schema"]
    assert asked["items"]["enum"] == list(PUBLISHED_CATEGORIES)
    assert {body["temperature"] for body in bodies} == {0}


def test_a_server_that_is_away_is_an_error_and_no_empty_list_of_bans():
    with serving(lambda number, body: (503, b"{}")) as (url, _):
        writer = ServedBanWriter("tiny", "1", base_url=url, max_retries=0)
        with pytest.raises(EngineError):
            ask_bans([ADULT], writer, TABLE)


def test_the_model_is_given_every_category_and_the_profile():
    text = INSTRUCTION.format(categories=", ".join(PUBLISHED_CATEGORIES), profile=sentence(ADULT))
    assert all(name in text for name in PUBLISHED_CATEGORIES)
    assert sentence(ADULT) in text
    assert "30" in sentence(ADULT)


def test_the_rules_ban_about_as_often_as_the_published_users_are_banned():
    """Of 1000 published users: Sexuality 811, Propaganda 752, Shocking 631, by a model that may
    add to the rules. The rules alone ban each of these for more than half of the users.
    """
    users = draw_users(1000, seed=42)
    for name in ("Sexuality", "Propaganda", "Shocking"):
        share = sum(TABLE.mapping[name][0] in TABLE.by_rules(user) for user in users) / 1000
        assert 0.5 < share < 0.9, (name, share)
