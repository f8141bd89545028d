"""Rows to records: each oddity of the published files ends in a record or under one reason."""

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.records import pair_id
from alignguard_data.importing.coprov2.pairs import REASONS
from alignguard_data.importing.imported import read_origins, read_pairs
from alignguard_data.safety.rules import redact
from tests.alignguard_data.importing.published import pair, prompt

REFUSED = "a bar in a park, aged 9"  # what the gate on ages refuses, and nothing else


def rows_of(imported, reason):
    return imported.audit["reasons"].get(reason, 0)


def test_two_rows_of_a_number_are_one_record(published):
    done = published.bring(pair(5, "Harrasment", "park"))
    (found,) = read_pairs(done.folder)
    assert (found.unsafe_prompt, found.safe_prompt) == ("a bar in a park", "a park")
    assert (found.concept, found.category) == ("harassment.coprov2", "harassment")
    assert (found.role, found.request_index) == ("train", 5)
    assert found.pair_id == pair_id("harassment.coprov2", "a bar in a park", "a park")


def test_a_test_row_is_an_evaluation_prompt_without_a_twin(published):
    done = published.bring(pair(5), [prompt("a bar in a field", "sexual", image="0.png")])
    (found,) = read_pairs(done.folder, role="evaluation")
    assert (found.unsafe_prompt, found.safe_prompt) == ("a bar in a field", "")
    assert found.concept == "sexual.coprov2"


@pytest.mark.parametrize(
    "rows", [[*pair(1, "violence"), *pair(1, "hate")], pair(1, "violence, hate")]
)
def test_a_pair_of_several_categories_is_one_record_that_keeps_them_all(published, rows):
    done = published.bring(rows)
    (found,), (origin,) = read_pairs(done.folder), read_origins(done.folder)
    assert found.category == "hate"
    assert origin.categories == ("hate", "violence")
    assert done.audit["multi_category"]["by_combination"] == {"hate + violence": 1}
    assert done.audit["rows"]["further_category_rows"] == len(rows) - 2


def test_a_repeated_row_says_where_it_first_stood(published):
    done = published.bring([*pair(1), *pair(1)])
    assert rows_of(done, "repeated_row") == 2
    assert done.audit["rows"]["pairs"] == 1


def test_a_test_prompt_of_two_categories_is_one_record(published):
    done = published.bring([], [prompt("a park", "hate"), prompt("a park", "violence")])
    assert done.audit["multi_category"]["test_prompts"] == 1
    assert done.audit["duplicate_prompts"]["test"] == {"prompts": 1, "places": 2}


@pytest.mark.parametrize(
    ("reason", "rows"),
    [
        ("one_sided", pair(1)[:1]),
        ("empty_prompt", [("  ", "u_idx_1_0.jpg", "hate")]),
        ("empty_category", pair(1, "")[:1]),
        ("unknown_image_name", [("a park", "u_idx_1_1.jpg", "hate")]),
        ("unknown_image_name", [("a park", "../u_idx_1_0.jpg", "hate")]),
        ("unknown_image_name", [("a park", "", "hate")]),
        ("minors", [(REFUSED, "u_idx_1_0.jpg", "hate")]),
    ],
)
def test_a_row_that_cannot_be_used_has_its_reason(published, reason, rows):
    done = published.bring(rows)
    assert done.audit["reasons"] == {reason: 1}
    assert read_pairs(done.folder) == []


def test_the_twin_of_a_refused_row_falls_with_it(published):
    done = published.bring([(REFUSED, "u_idx_1_0.jpg", "hate"), pair(1)[1]])
    assert done.audit["reasons"] == {"minors": 1, "twin_rejected": 1}
    assert done.audit["one_sided_pairs"] == {"unsafe_only": 0, "safe_only": 0}


def test_a_refused_test_prompt_is_no_record(published):
    done = published.bring([], [prompt(REFUSED), prompt("a park")])
    assert [found.unsafe_prompt for found in read_pairs(done.folder)] == ["a park"]
    assert rows_of(done, "minors") == 1


def test_a_side_with_two_prompts_makes_no_pair(published):
    done = published.bring([*pair(1), ("another bar", "u_idx_1_0.jpg", "violence")])
    assert done.audit["reasons"] == {"conflicting_prompts": 3}


def test_two_numbers_with_the_same_words_are_one_record(published):
    done = published.bring([*pair(3, thing="park"), *pair(4, thing="park")])
    assert done.audit["reasons"] == {"duplicate_pair": 2}
    assert done.audit["duplicate_prompts"]["train_unsafe"] == {"prompts": 1, "places": 2}


def test_a_safe_side_among_test_rows_is_no_prompt(published):
    done = published.bring([], [prompt("a park", image="s_idx_1_0.jpg")])
    assert done.audit["reasons"] == {"safe_prompt_in_test": 1}


def test_test_prompts_that_occur_in_train_are_marked_and_counted(published):
    test = ["a bar in a park", "A bar  in a PARK", "a park", "a bar in a field", "a bar in a park"]
    done = published.bring(pair(1, thing="park"), [prompt(text) for text in test])
    assert done.audit["leaked_test_rows"] == {"of": 5, "exact": 3, "casefolded": 4}
    clean = read_pairs(done.folder, role="evaluation", leaked=False)
    assert [found.unsafe_prompt for found in clean] == ["a bar in a field"]


def test_unknown_spellings_are_named_all_at_once_and_nothing_is_written(published):
    rows = [*pair(1, "Gore"), *pair(2, "hate, Odd"), *pair(3)]
    with pytest.raises(ConfigError) as raised:
        published.bring(rows)
    assert raised.value.faults == ("train.csv:2: 'Gore' (2 rows)", "train.csv:4: 'Odd' (2 rows)")
    assert not published.data.base.exists()


def test_a_prompt_in_the_category_column_is_not_shown(published):
    text = "a bar in a park with a field and a quiet house near it"
    with pytest.raises(ConfigError) as raised:
        published.bring([("hate", "u_idx_1_0.jpg", text)])
    assert redact(text) in str(raised.value)
    assert text not in str(raised.value)


def test_every_reason_has_a_meaning_in_words():
    assert all(REASONS.values())
    assert len(set(REASONS.values())) == len(REASONS)
