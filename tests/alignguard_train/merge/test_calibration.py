"""Which pairs a calibrated merge looks at: spread over a category's concepts, drawn by the seed."""

import dataclasses
from collections import Counter

import pytest
import torch

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.merge.calibration import calibrated_on, calibration_rows
from alignguard_train.merge.config import MergeConfig


def release_order(pairs: dict[str, int]) -> EncodedPreferences:
    """Rows as a release has them: by category, then concept; ``pairs`` a concept."""
    concepts = [key for key, number in sorted(pairs.items()) for _ in range(number)]
    rows = torch.zeros(len(concepts), 1, 1, 1)
    states = Conditions(states=torch.zeros(len(concepts), 1, 1))
    return EncodedPreferences(
        concepts=concepts, categories=[key.partition(".")[0] for key in concepts],
        chosen=rows, rejected=rows, unsafe=states, safe=states, empty=states,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "most", "wanted"),
    [
        ({"a.x": 40, "a.y": 40, "b.z": 40}, 8, {"a.x": 4, "a.y": 4}),
        ({"a.x": 40, "a.y": 40, "a.z": 40}, 9, {"a.x": 3, "a.y": 3, "a.z": 3}),
        ({"a.x": 1, "a.y": 40}, 8, {"a.x": 1, "a.y": 7}),
        ({"a.x": 2, "a.y": 1}, 8, {"a.x": 2, "a.y": 1}),
        ({"b.x": 5}, 8, {}),
    ],
)
def test_rows_are_spread_over_the_concepts_of_the_category(pairs, most, wanted):
    encoded = release_order(pairs)
    rows = calibration_rows(encoded, "a", most, seed=0)
    assert len(set(rows)) == len(rows)
    assert Counter(encoded.concepts[i] for i in rows) == wanted


def test_with_more_concepts_than_rows_the_seed_draws_the_concepts():
    """Not the first by name: over many seeds every concept is drawn about equally often."""
    encoded = release_order({f"a.{i:02d}": 3 for i in range(20)})
    drawn: Counter[str] = Counter()
    for seed in range(200):
        rows = calibration_rows(encoded, "a", 4, seed)
        assert len({encoded.concepts[i] for i in rows}) == 4
        drawn.update(encoded.concepts[i] for i in rows)
    assert len(drawn) == 20
    assert all(20 <= number <= 60 for number in drawn.values())  # 40 on average, sd 5.7


def test_other_categories_do_not_move_the_rows():
    both = release_order({"a.x": 9, "a.y": 9, "b.x": 9})
    own = calibration_rows(both, "a", 6, 1)
    kept = [i for i, category in enumerate(both.categories) if category == "a"]
    alone = dataclasses.replace(
        both,
        concepts=[both.concepts[i] for i in kept],
        categories=[both.categories[i] for i in kept],
    )
    assert calibration_rows(alone, "a", 6, 1) == own


def test_the_manifest_names_every_concept_with_its_rows():
    encoded = release_order({"a.x": 40, "a.y": 40, "b.z": 3})
    config = MergeConfig(calibration_pairs=8)
    assert calibrated_on(encoded, ["a", "b"], config) == {
        "a": {"a.x": 4, "a.y": 4},
        "b": {"b.z": 3},
    }
