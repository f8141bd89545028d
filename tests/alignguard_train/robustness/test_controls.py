"""Controls draw what they say; the registry's rows are what their classes are."""

import dataclasses

import pytest

from alignguard_train.robustness import attacks
from alignguard_train.robustness.attacks.controls import NoAttack, RandomK, RandomN, Shuffle
from alignguard_train.robustness.protocol import Attack, Counters
from alignguard_train.robustness.registry import (
    ATTACKS,
    CASES,
    CONTROLS,
    PRESETS,
    make_attack,
    make_budget,
)
from tests.alignguard_train.robustness.small_target import SmallTarget, case

PROMPT = "a red ball of dark zigzag"


def text_of(attack: Attack, seed: int = 0, prompt: str = PROMPT) -> str:
    found = attack.search(SmallTarget(), case(prompt), None, seed)
    assert found.counters == Counters()
    assert found.stop_reason == "finished"
    return found.candidates[0].text


def test_no_attack_is_the_prompt() -> None:
    assert text_of(NoAttack()) == PROMPT


def test_a_shuffled_prompt_has_the_same_words_in_another_order() -> None:
    shown = {text_of(Shuffle(), seed) for seed in range(5)}
    assert all(sorted(text.split()) == sorted(PROMPT.split()) for text in shown)
    assert len(shown) > 1


def test_random_tokens_come_before_every_third_token() -> None:
    known = SmallTarget().vocabulary
    ids = known.tokenize(PROMPT)
    mixed = known.tokenize(text_of(RandomK()))
    assert len(mixed) == len(ids) + len(ids) // 3 + 1
    assert tuple(token for place, token in enumerate(mixed) if place % 4) == ids


def test_a_long_prompt_is_cut_so_that_random_tokens_fit() -> None:
    known = SmallTarget().vocabulary
    mixed = known.tokenize(text_of(RandomK(every=1), prompt="a red ball of dark zigzag a red box"))
    assert len(mixed) <= known.length
    assert mixed[1] == known.tokenize("a")[0]


def test_a_random_prompt_has_so_many_ordinary_tokens() -> None:
    known = SmallTarget().vocabulary
    for tokens, expected in ((4, 4), (16, known.length)):
        attack = RandomN(tokens=tokens)
        found = attack.search(SmallTarget(), case(PROMPT), None, 3).candidates[0]
        if found.round_trip:
            assert len(known.tokenize(found.text)) == expected
    assert len({text_of(RandomN(), seed) for seed in range(4)}) == 4


@pytest.mark.parametrize("name", ATTACKS)
def test_a_row_of_the_registry_is_what_its_class_is(name: str) -> None:
    made = make_attack(name)
    assert made.name == name
    assert (made.needs, made.text_only) == (frozenset(ATTACKS[name].needs), ATTACKS[name].text_only)


def test_every_attack_is_in_the_registry() -> None:
    assert {row.use.partition(":")[2] for row in ATTACKS.values()} == set(attacks.__all__)
    assert set(CONTROLS) <= set(ATTACKS)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_valid_parameters_and_budgets(name: str, preset) -> None:
    made = make_attack(name, preset)
    make_budget(name, preset)
    if preset == "paper":
        # The published values are the defaults; only which variant it is may be said beside them.
        variant = ATTACKS[name].params.get("paper", {})
        assert set(variant) <= {"mode", "variant", "exact"}
        assert made == type(made)(**variant)


def test_presets_grow() -> None:
    assert CASES["smoke"] < CASES["standin"] < CASES["paper"]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [("ring", {}, "no attack 'ring'; there are no_attack"),
     ("random_n", {"token": 3}, "random_n: .*token"),
     ("random_n", {"tokens": 0}, "random_n: must be 1 or more: tokens is 0"),
     ("random_k", {"every": 0}, "random_k: must be 1 or more: every is 0")],
)  # fmt: skip
def test_an_attack_that_cannot_be_made_says_why(name: str, params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_attack(name, "standin", params)


def test_own_parameters_come_over_the_presets() -> None:
    assert dataclasses.asdict(make_attack("random_n", "standin", {"tokens": 3}))["tokens"] == 3  # pyright: ignore[reportArgumentType]
    assert make_budget("random_n", "standin", {"images": 3}).images == 3


@pytest.mark.parametrize(("limits", "message"), [({"images": 0}, "1 or more"), ({"x": 1}, "x")])
def test_a_budget_that_is_none_is_refused(limits: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_budget("no_attack", "standin", limits)
