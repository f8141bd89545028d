"""What is read from a release, which seeds are used, and how an image is judged."""

import dataclasses
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.errors import IntegrityError, NothingMade
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.pixels import encode_png
from alignguard_data.contracts.records import pair_seed
from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.config import EvaluationConfig, PromptSetConfig
from alignguard_train.evaluation.judge import (
    alike_sampled,
    distance,
    evaluation_rows,
    evaluation_seed,
    judge,
    read_rows,
)
from alignguard_train.evaluation.prompt_sets import read_prompt_sets
from tests.alignguard_data.images.drawn_images import SAMPLING
from tests.alignguard_train.evaluation.world import CONFIG, RedScorer, write_release


@pytest.fixture
def release(tmp_path):
    return write_release(DataRoot(root=tmp_path, profile="test"))


def test_at_most_so_many_pairs_a_concept_are_taken_both_sides_of_each(release):
    rows = read_rows(release, 2)
    assert len(rows) == 3 * 2 * 2
    assert {row.concept: row.seen for row in rows}["shape.line"] is False
    assert [row.pair_id for row in rows] == sorted(row.pair_id for row in rows)


def test_more_prompts_a_concept_keep_the_earlier_ones(release):
    few, many = read_rows(release, 1), read_rows(release, 3)
    assert few
    assert set(few) < set(many)


def test_both_sides_share_a_seed_that_no_training_image_has(release):
    by_pair: dict[str, set[int]] = {}
    for row in read_rows(release, 3):
        by_pair.setdefault(row.pair_id, set()).add(row.seed)
    assert all(len(seeds) == 1 for seeds in by_pair.values())
    assert len({seed for seeds in by_pair.values() for seed in seeds}) == 9
    assert evaluation_seed("a") != pair_seed("a", "drawn")


def test_without_an_unsafe_prompt_there_is_nothing_to_evaluate(release, tmp_path):
    file = release / "prompts" / "evaluation.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    (tmp_path / "set.csv").write_text("prompt\na field\n")
    benign = PromptSetConfig(name="s", path=str(tmp_path / "set.csv"), kind="benign")
    for sets in ([], read_prompt_sets([benign])):
        with pytest.raises(NothingMade, match="no unsafe prompt to measure"):
            evaluation_rows(release, CONFIG, sets, SAMPLING)


def test_rows_of_one_guidance_and_size_are_batched_together_and_none_is_lost(release, tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("prompt,guidance_scale,width,height\na,2,,\nb,1.0,32,16\nc,2,,\nd,,,\n")
    sets = read_prompt_sets([PromptSetConfig(name="s", path=str(path))])
    rows = evaluation_rows(release, CONFIG, sets, SAMPLING)
    groups = [(s, sorted(r.prompt for r in g)) for s, g in alike_sampled(rows, SAMPLING)]
    assert groups[0][0] == SAMPLING
    assert len(groups[0][1]) == 12 + 1
    found = {(s.guidance_scale, s.width, s.height): prompts for s, prompts in groups[1:]}
    assert found == {(2.0, 16, 16): ["a", "c"], (1.0, 32, 16): ["b"]}


@pytest.mark.parametrize("column", ["guidance_scale", "sd_guidance_scale"])
def test_a_guidance_of_zero_is_rendered_without_guidance(release, tmp_path, column):
    """0 is a choice of the file and not the lack of one."""
    path = tmp_path / "set.csv"
    path.write_text(f"prompt,{column}\na,0\nb,0.0\nc,\n")
    sets = read_prompt_sets([PromptSetConfig(name="s", path=str(path))])
    sampling = dataclasses.replace(SAMPLING, guidance_scale=7.5)
    rows = [r for r in evaluation_rows(release, CONFIG, sets, sampling) if r.prompt_set == "s"]
    assert {(r.prompt, r.guidance_scale) for r in rows} == {("a", 0.0), ("b", 0.0), ("c", 7.5)}
    drawn = {
        row.prompt: own.guidance_scale
        for own, alike in alike_sampled(rows, sampling)
        for row in alike
    }
    assert drawn == {"a": 0.0, "b": 0.0, "c": 7.5}


def test_a_prompt_set_knows_which_concepts_were_seen(release, tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("prompt,concept\na,shape.dot\nb,shape.line\nc,\n")
    sets = read_prompt_sets([PromptSetConfig(name="s", path=str(path), kind="benign")])
    rows = [r for r in evaluation_rows(release, CONFIG, sets, SAMPLING) if r.prompt_set == "s"]
    assert {(r.prompt, r.seen, r.category, r.side) for r in rows} == {
        ("a", True, "shape", "safe"),
        ("b", False, "shape", "safe"),
        ("c", False, "", "safe"),
    }


def test_two_sets_of_one_name_are_refused():
    one = PromptSetConfig(name="s", path="a.csv")
    with pytest.raises(ValueError, match="s again"):
        EvaluationConfig(flags=CONFIG.flags, prompt_sets=(one, one))


def test_a_release_without_evaluation_prompts_is_named(tmp_path):
    with pytest.raises(IntegrityError, match=r"evaluation\.parquet"):
        read_rows(tmp_path, 1)


def test_distance_is_the_root_mean_square_of_pixels_from_0_to_1():
    """A quarter of the values differ by 51 = 0.2 x 255: sqrt(0.25 x 0.04) = 0.1."""
    base = np.full((2, 2, 3), 100, np.uint8)
    other = base.copy()
    other[0, 0] += 51
    assert distance(other, encode_png(base)) == pytest.approx(0.1, abs=1e-9)
    assert distance(base, encode_png(base)) == 0


def test_an_image_is_flagged_from_the_threshold_on(release):
    rows = read_rows(release, 1)[:2]
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, ..., 0] = 128  # 0.50196, above 0.35
    images[1, ..., 0] = 64  # 0.25098, below
    judged = judge("base", rows, images, [RedScorer()], CONFIG, None)
    assert [image.flagged for image in judged] == [True, False]
    assert [image.residue for image in judged] == [1.0, 1.0]
    assert judged[1].fidelity == pytest.approx(64 / 255)
    assert [image.distance for image in judged] == [0.0, 0.0]


def test_what_was_not_asked_for_is_nan_not_zero(release):
    config = EvaluationConfig(flags=CONFIG.flags)
    rows = read_rows(release, 1)[:1]
    judged = judge("base", rows, np.ones((1, 4, 4, 3), np.uint8), [RedScorer()], config, None)
    assert math.isnan(judged[0].residue)
    assert math.isnan(judged[0].fidelity)


def test_a_rule_of_a_scorer_that_did_not_run_is_an_error_not_a_pass(release):
    config = EvaluationConfig(flags=(FlagRule(scorer="other", key="x", at_least=0.5),))
    rows = read_rows(release, 1)[:1]
    with pytest.raises(KeyError):
        judge("base", rows, np.ones((1, 4, 4, 3), np.uint8), [RedScorer()], config, None)


@pytest.mark.parametrize("wrong", [{"flags": ()}, {"prompts_per_concept": 0}, {"confidence": 1.0}])
def test_a_wrong_config_names_its_field(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EvaluationConfig(**({"flags": CONFIG.flags} | wrong))
