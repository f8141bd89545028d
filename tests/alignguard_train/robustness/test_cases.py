"""Cases: held-out prompts, a concept in turn, fresh seeds; preparation from the train split."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.errors import IntegrityError, NothingMade
from alignguard_data.contracts.records import pair_id, pair_seed
from alignguard_train.evaluation.judge import evaluation_seed
from alignguard_train.robustness.cases import (
    attack_cases,
    preparation_cases,
    replay_seeds,
    search_seed,
    training_cases,
)

CONCEPTS = {"shape.dot": True, "shape.line": False, "tone.hum": True, "tone.low": True}


def rows(per_concept: int, label: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for concept, seen in CONCEPTS.items():
        for i in range(per_concept):
            texts = f"{label} {concept} scene {i}", f"{label} scene {i}"
            found.append(
                {"pair_id": pair_id(concept, *texts), "unsafe_prompt": texts[0],
                 "safe_prompt": texts[1], "concept": concept, "category": concept.split(".")[0],
                 "split": "train" if seen else "test", "seen": seen}
            )  # fmt: skip
    return found


def release(folder: Path, *, held_out: list[dict[str, object]], train: list[dict[str, object]]):
    (folder / "prompts").mkdir()
    (folder / "data").mkdir()
    schema = pa.Table.from_pylist(rows(1, "any")).schema
    pq.write_table(
        pa.Table.from_pylist(held_out, schema=schema), folder / "prompts" / "evaluation.parquet"
    )
    captions = pa.Table.from_pylist(train, schema=schema).rename_columns(
        {"unsafe_prompt": "caption", "safe_prompt": "caption_safe"}
    )
    pq.write_table(captions, folder / "data" / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return release(tmp_path, held_out=rows(3, "held"), train=rows(5, "train"))


def test_two_cases_are_of_a_seen_and_an_unseen_concept(made: Path) -> None:
    assert [(one.case.concept, one.seen) for one in attack_cases(made, 2)] == [
        ("shape.dot", True),
        ("shape.line", False),
    ]


def test_every_concept_comes_once_before_one_comes_twice(made: Path) -> None:
    concepts = [one.case.concept for one in attack_cases(made, 8)]
    assert set(concepts[:4]) == set(concepts[4:]) == set(CONCEPTS)


def test_a_case_is_a_held_out_pair_with_its_twin(made: Path) -> None:
    known = {row["pair_id"]: row for row in rows(3, "held")}
    cases = attack_cases(made, 100)
    assert len({one.case.case_id for one in cases}) == len(known) == len(cases)
    for one in cases:
        row = known[one.case.case_id]
        assert (one.case.prompt, one.case.safe_prompt) == (row["unsafe_prompt"], row["safe_prompt"])
        assert one.case.category == row["category"]


def test_a_training_row_is_never_attacked(tmp_path: Path) -> None:
    both = rows(1, "held")
    folder = release(tmp_path, held_out=both, train=both[:1])
    with pytest.raises(IntegrityError, match=str(both[0]["pair_id"])):
        attack_cases(folder, 2)


def test_a_release_without_evaluation_prompts_has_no_case(tmp_path: Path) -> None:
    folder = release(tmp_path, held_out=[], train=rows(1, "train"))
    with pytest.raises(NothingMade, match=r"no case to attack.*writing\.evaluation_share"):
        attack_cases(folder, 2)


def test_preparation_is_from_the_train_split_and_limited_by_concept(made: Path) -> None:
    known = {row["pair_id"] for row in rows(5, "train")}
    cases = preparation_cases(made, 3)
    assert len(cases) == 3 * len(CONCEPTS)
    assert {one.case_id for one in cases} <= known
    assert not {one.case_id for one in cases} & {
        one.case.case_id for one in attack_cases(made, 100)
    }


def test_a_release_without_a_train_split_is_named(tmp_path: Path) -> None:
    folder = release(tmp_path, held_out=rows(1, "held"), train=[])
    (folder / "data" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(IntegrityError, match=r"no train-\*\.parquet"):
        preparation_cases(folder)


def test_replays_are_fresh() -> None:
    fresh = replay_seeds("a", 8)
    known = {search_seed("a"), evaluation_seed("a"), pair_seed("a", "any-model")}
    assert len(set(fresh)) == 8
    assert not known & set(fresh)
    assert replay_seeds("a", 4) == fresh[:4]
    assert not set(replay_seeds("b", 8)) & set(fresh)


def test_no_held_out_prompt_is_attacked_for_data(made: Path) -> None:
    held = {one.case.case_id for one in attack_cases(made, 1000)}
    cases = training_cases(made, 1000)
    assert {one.case.case_id for one in cases} == {row["pair_id"] for row in rows(5, "train")}
    assert not held & {one.case.case_id for one in cases}
    searched = {one.case.seed for one in cases}
    measured = {seed for case in held for seed in [search_seed(case), *replay_seeds(case, 8)]}
    assert not searched & measured


def test_rounds_attack_other_prompts_and_each_concept_in_turn(made: Path) -> None:
    first, second = training_cases(made, 4), training_cases(made, 4, skip=4)
    assert {one.case.concept for one in first} == set(CONCEPTS)
    assert not {one.case.case_id for one in first} & {one.case.case_id for one in second}


def test_a_hard_negative_is_neither_attacked_nor_prepared_with(made: Path) -> None:
    hard = training_cases(made, 1)[0].case.case_id
    origin = dict.fromkeys(("source_pair_id", "attack", "target", "budget"), "x")
    listed = {"hard_negatives": [{"pair_id": hard, **origin, "round": 1}]}
    (made / "manifest.json").write_text(json.dumps(listed))
    assert hard not in {one.case.case_id for one in training_cases(made, 1000)}
    assert hard not in {case.case_id for case in preparation_cases(made)}
