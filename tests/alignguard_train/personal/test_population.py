"""Users of a profile: by rules, by a model, by a file; and what a section refuses."""

import json

import pytest

from alignguard_data.contracts.errors import ConfigError, NothingMade
from alignguard_data.contracts.protocols import Reply
from alignguard_train.personal.config import (
    PersonalConfig,
    sd15_personal,
    sdxl_personal,
    standin_personal,
)
from alignguard_train.personal.population import ban_table, population

MAPPING = {"Hate": ("a",), "Sexuality": ("b",), "Shocking": ("c",)}
CONFIG = PersonalConfig(categories=MAPPING)
TABLE = ban_table(CONFIG, "abc")


class Always:
    model_id, revision = "always", "1"

    def __init__(self, text):
        self.text = text

    def replies(self, profiles):
        return [Reply(text=self.text) for _ in profiles]


def test_users_are_split_and_every_category_is_banned_or_allowed():
    users, refused = population(CONFIG, TABLE)
    assert not refused
    assert [sum(u.split == s for u in users) for s in ("seen", "unseen")] == [40, 10]
    for user in users:
        assert sorted((*user.banned, *user.allowed)) == ["a", "b", "c"]
        assert user.banned == TABLE.by_rules(user)


def test_a_model_decides_instead_of_the_rules_but_for_users_under_18():
    users, refused = population(CONFIG, TABLE, Always("[]"))
    assert not refused
    assert {user.banned for user in users if user.age >= 18} == {()}
    assert {user.banned for user in users if user.age < 18} == {("b",)}


def test_users_without_a_readable_reply_are_kept_apart_and_none_left_is_refused():
    with pytest.raises(NothingMade, match="50 refused"):
        population(CONFIG, TABLE, Always("Hate is fine"))


def test_a_file_of_users_states_profiles_and_may_state_bans(tmp_path):
    row = {
        "Age": 40, "Gender": "male", "Religion": "None", "Physical_Condition": "healthy",
        "Mental_Condition": "healthy",
    }  # fmt: skip
    rows = [row | {"User_ID": f"{n}"} for n in range(4)]
    rows[1]["Banned"] = ["Hate", "c"]
    file = tmp_path / "users.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    config = PersonalConfig(categories=MAPPING, users_file=str(file), unseen_share=0.25)
    users, _ = population(config, TABLE, Always('["Sexuality"]'))
    assert {user.user_id: user.banned for user in users} == {
        "0": ("b",), "1": ("a", "c"), "2": ("b",), "3": ("b",),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"users": 1}, "users must be at least 2, got 1"),
        ({"users_per_pair": 0}, "users_per_pair must be at least 1, got 0"),
        ({"unseen_share": 1.0}, r"unseen_share must lie in \(0, 1\), got 1.0"),
        ({"val_share": 1.0}, r"val_share must lie in \[0, 1\), got 1.0"),
        ({"prompts_measured": 0}, "prompts_measured"),
        ({"bootstrap_resamples": 10}, "bootstrap_resamples"),
    ],
)
def test_a_setting_out_of_range_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        PersonalConfig(categories=MAPPING, **change)


def test_a_mapping_that_does_not_fit_the_taxonomy_is_refused():
    with pytest.raises(ConfigError, match="d of the release is in no category"):
        ban_table(CONFIG, "abcd")


@pytest.mark.parametrize(
    ("recipe", "pairs", "optimizer"),
    [(sd15_personal, 192, "adamw"), (sdxl_personal, 128, "adafactor")],
)
def test_the_published_recipes(recipe, pairs, optimizer):
    made = recipe()
    assert made.batch_size * made.accumulation == pairs
    assert (made.optimizer, made.lr, made.steps, made.warmup_steps, made.beta) == (
        optimizer, 5e-6, 5000, 500, 5000.0,
    )  # fmt: skip
    assert (made.caption_dropout, made.lr_floor, made.preservation) == (0.2, 1.0, 0.0)
    assert standin_personal().preservation > 0


def test_of_a_sorted_file_the_first_users_are_no_longer_of_one_kind(tmp_path):
    """Of each split the first users are measured."""
    rows = [
        {
            "User_ID": f"{age}", "Age": age, "Gender": "male", "Religion": "None",
            "Physical_Condition": "healthy", "Mental_Condition": "healthy",
        }
        for age in range(20, 60)
    ]  # fmt: skip

    def ages(lines):
        file = tmp_path / "users.jsonl"
        file.write_text("\n".join(json.dumps(row) for row in lines))
        config = PersonalConfig(categories=MAPPING, users_file=str(file))
        return [user.age for user in population(config, TABLE)[0] if user.split == "seen"]

    found = ages(rows)
    assert ages(rows[::-1]) == found
    assert min(found[:10]) < 35 <= 45 < max(found[:10])
