"""Safe images as edits of the unsafe ones: verified, redrawn, dropped, resumed."""

import dataclasses
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from alignguard_data.contracts.errors import ConfigError, NothingMade
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.protocols import Edit, Pixels
from alignguard_data.contracts.records import edit_seed, pair_seed
from alignguard_data.images.config import EditedPairs
from alignguard_data.images.editing import Editing, background_distance
from alignguard_data.images.room import KIND, edit_pairs, render_pairs, spec
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionWork
from alignguard_data.storage.paths import DataRoot
from tests.alignguard_data.images.drawn_images import SAMPLING, DrawnImages
from tests.alignguard_data.images.test_room import CONCEPTS, write_pairs

CONCEPT = "shape.dot"
RULES = (FlagRule(scorer="square", key="black", at_least=0.5),)


class Squares:
    """Scores 1 for an image with a black corner: the unwanted thing of these tests."""

    name = "square"
    version = "1"
    keys = ("black",)

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        return [{"black": float(image[:4, :4].max() == 0)} for image in images]


class Editable(DrawnImages):
    """Unsafe images have a black corner, which an edit paints over.

    By the seeds of edits: ``stubborn`` ones leave it, ``wild`` ones give another image.
    """

    def __init__(self, *, stubborn=(), wild=(), clean: str = "", stop_after_edits=None) -> None:
        super().__init__()
        self.edits: list[Edit] = []
        self._stubborn, self._wild, self._clean = set(stubborn), set(wild), clean
        self._stop_after = None
        self._stop_after_edits = stop_after_edits

    def render(self, prompts, seeds, progress=None):
        images = super().render(prompts, seeds, progress)
        for image, prompt in zip(images, prompts, strict=True):
            if prompt.startswith("shape.") and not (self._clean and self._clean in prompt):
                image[:4, :4] = 0
        return images

    def edit(self, images: Pixels, edits: Sequence[Edit], strength: float) -> Pixels:
        if self._stop_after_edits is not None and len(self.edits) >= self._stop_after_edits:
            os.kill(os.getpid(), signal.SIGKILL)
        self.edits += edits
        out = images.copy()
        for image, one in zip(out, edits, strict=True):
            if one.seed in self._wild:
                image[:] = 255 - image
            if one.seed not in self._stubborn:
                image[:4, :4] = 1 + one.seed % 200
        return out


def editing(**fields) -> Editing:
    return Editing(EditedPairs(**fields), RULES, [Squares()])


@pytest.fixture
def data(tmp_path) -> DataRoot:
    root = DataRoot(root=tmp_path, profile="test")
    for concept, count in zip(CONCEPTS, (5, 4), strict=True):
        write_pairs(root, concept, count)
    return root


def ids(data: DataRoot) -> list[str]:
    table = manifests.read(data.partition("prompts", CONCEPT), "pairs").to_pylist()
    return sorted(row["pair_id"] for row in table if row["role"] == "train")


def seeds(pair: str, *attempts: int) -> list[int]:
    return [edit_seed(pair, "drawn", attempt) for attempt in attempts]


def edits_of(data: DataRoot) -> dict[str, dict]:
    rows = manifests.read(data.partition("images", CONCEPT), "edits").to_pylist()
    return {row["pair_id"]: row for row in rows}


def make(data: DataRoot, generator: Editable, **fields):
    return edit_pairs(data, [CONCEPT], generator, SAMPLING, editing(**fields))[CONCEPT]


def test_the_safe_image_is_the_unsafe_one_edited_with_the_safe_prompt(data):
    generator = Editable()
    made = make(data, generator)
    assert made.rows == 10
    rows = manifests.read(data.partition("images", CONCEPT), "images").to_pylist()
    unsafe = {row["pair_id"]: row for row in rows if row["side"] == "unsafe"}
    safe = {row["pair_id"]: row for row in rows if row["side"] == "safe"}
    assert set(unsafe) == set(safe) == set(ids(data))
    assert all(row["seed"] == pair_seed(row["pair_id"], "drawn") for row in rows)
    assert len(generator.rendered) == 5, "no safe prompt is drawn from noise"
    for one in generator.edits:
        assert one.negative_prompt == f"{CONCEPT} {one.prompt}"
    assert made.counts["pairs_edited"] == made.counts["edits_drawn"] == 5
    assert made.counts["edits_redrawn"] == 0
    assert [row["outcome"] for row in edits_of(data).values()] == ["edited"] * 5


def test_an_edit_that_still_shows_the_concept_is_redrawn_with_another_seed(data):
    pair = ids(data)[1]
    made = make(data, Editable(stubborn=seeds(pair, 0, 1)))
    row = edits_of(data)[pair]
    assert (row["outcome"], row["attempts"]) == ("edited", 3)
    assert [row["seed"]] == seeds(pair, 2)
    assert (made.counts["edits_drawn"], made.counts["edits_redrawn"]) == (7, 2)
    assert made.rows == 10


def test_an_edit_with_another_background_is_redrawn(data):
    pair = ids(data)[0]
    make(data, Editable(wild=seeds(pair, 0)))
    row = edits_of(data)[pair]
    assert (row["outcome"], row["attempts"]) == ("edited", 2)
    assert row["background_distance"] < 0.1


@pytest.mark.parametrize(
    ("fault", "reason"), [("stubborn", "edit_is_flagged"), ("wild", "background_changed")]
)
def test_after_the_retries_the_pair_is_dropped_with_its_reason_and_counted(data, fault, reason):
    pair = ids(data)[2]
    bad = seeds(pair, 0, 1, 2, 3)
    generator = Editable(stubborn=bad) if fault == "stubborn" else Editable(wild=bad)
    made = make(data, generator, retries=3)
    assert made.rejected == {reason: 1}
    assert made.rows + sum(made.rejected.values()) == made.counts["images_asked"] == 10
    assert (made.counts["pairs_edited"], made.counts["made"], made.counts["wanted"]) == (4, 4, 5)
    row = edits_of(data)[pair]
    assert (row["outcome"], row["attempts"]) == (reason, 4)
    assert len([one for one in generator.edits if one.seed in seeds(pair, *range(9))]) == 4
    (rejected,) = manifests.read(data.partition("images", CONCEPT), "rejected").to_pylist()
    assert (rejected["pair_id"], rejected["side"], rejected["reason"]) == (pair, "safe", reason)


def test_without_retries_there_is_one_edit(data):
    pair = ids(data)[0]
    make(data, Editable(stubborn=seeds(pair, 0)), retries=0)
    assert edits_of(data)[pair]["attempts"] == 1


def test_a_clean_unsafe_image_is_not_edited(data):
    generator = Editable(clean="picture 3")
    made = make(data, generator)
    assert made.rejected == {"unsafe_image_is_clean": 1}
    assert len(generator.edits) == 4
    (row,) = (row for row in edits_of(data).values() if row["outcome"] != "edited")
    assert row["attempts"] == 0


def test_a_room_where_nothing_passes_is_an_error_that_names_the_field(data):
    every = [seed for pair in ids(data) for seed in seeds(pair, 0, 1)]
    with pytest.raises(
        NothingMade, match=r"0 of 5 edited pairs; .*edit_is_flagged \(5 of 5\)"
    ) as e:
        make(data, Editable(stubborn=every), retries=1)
    assert "edited_pairs.strength" in str(e.value)
    assert "after 2 edits" in str(e.value)
    assert not (data.partition("images", CONCEPT) / manifests.MANIFEST).exists()


def test_the_other_concepts_of_a_run_are_made(data):
    every = [seed for pair in ids(data) for seed in seeds(pair, 0)]
    with pytest.raises(NothingMade):
        edit_pairs(data, CONCEPTS, Editable(stubborn=every), SAMPLING, editing(retries=0))
    assert manifests.require(data.partition("images", "shape.line")).rows == 8


def test_batches_do_not_change_the_bytes(data, tmp_path):
    other = DataRoot(root=tmp_path / "alone", profile="test")
    write_pairs(other, CONCEPT, 5)
    one_by_one = Editable()
    one_by_one.images_per_call = 1
    alone = make(other, one_by_one)
    together = edit_pairs(data, CONCEPTS, Editable(), SAMPLING, editing())[CONCEPT]
    assert alone.content_id == together.content_id


KILLED = """
import sys
from pathlib import Path
from alignguard_data.storage.paths import DataRoot
from tests.alignguard_data.images.test_editing import run_and_die
run_and_die(DataRoot(root=Path(sys.argv[1]), profile="test"), sys.argv[2])
"""


def run_and_die(data: DataRoot, moment: str) -> None:
    """Make the room and die of SIGKILL: in an edit, or between a batch's files."""
    save = PartitionWork.save_batch

    def dying(self, name, table):
        if moment != "edit" and name.startswith(moment) and self.saved_names():
            os.kill(os.getpid(), signal.SIGKILL)
        return save(self, name, table)

    PartitionWork.save_batch = dying
    generator = Editable(stop_after_edits=4 if moment == "edit" else None)
    generator.images_per_call = 2
    edit_pairs(data, CONCEPTS, generator, SAMPLING, editing())


@pytest.mark.parametrize("moment", ["edit", "images-", "rejected-", "edits-"])
def test_a_killed_room_goes_on_to_the_same_bytes(data, tmp_path, moment):
    calm = DataRoot(root=tmp_path / "calm", profile="test")
    for concept, count in zip(CONCEPTS, (5, 4), strict=True):
        write_pairs(calm, concept, count)
    wanted = edit_pairs(calm, CONCEPTS, Editable(), SAMPLING, editing())

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(data.root), moment],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    resumed = Editable()
    resumed.images_per_call = 3  # other batches than before
    made = edit_pairs(data, CONCEPTS, resumed, SAMPLING, editing())
    if moment == "edit":
        assert len(resumed.rendered) < 9, "what was saved is not made again"
    assert {c: m.content_id for c, m in made.items()} == {
        c: m.content_id for c, m in wanted.items()
    }


def test_further_pairs_leave_earlier_edits_as_they_are(data):
    make(data, Editable())
    before = edits_of(data)
    write_pairs(data, CONCEPT, 7)
    again = Editable()
    make(data, again)
    assert len(again.rendered) == 2
    assert before.items() <= edits_of(data).items()


def test_edited_images_are_a_partition_of_another_kind(data):
    plain = render_pairs(data, [CONCEPT], Editable(), SAMPLING)[CONCEPT]
    assert KIND not in plain.config
    wanted = spec(data, CONCEPT, Editable(), SAMPLING, editing())
    assert wanted.state() == "stale"
    made = make(data, Editable())
    assert made.config[KIND]["strength"] == 0.75
    assert made.config[KIND]["scorers"] == {"square": "1"}
    assert spec(data, CONCEPT, Editable(), SAMPLING, editing()).state() == "done"
    for other in ({"strength": 0.8}, {"retries": 2}, {"max_background_distance": 0.2}):
        assert spec(data, CONCEPT, Editable(), SAMPLING, editing(**other)).state() == "stale"


def test_background_distance_by_hand():
    one = np.zeros((4, 4, 3), np.uint8)
    other = one.copy()
    other[0] = 255  # a quarter of the image: the concept
    assert background_distance(one, other) == 0
    other[..., 1] = np.maximum(other[..., 1], 51)
    assert background_distance(one, other) == pytest.approx(51 / 255)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"strength": 0.0}, r"strength must lie in \(0, 1\], got 0.0"),
        ({"strength": -0.5}, r"strength must lie in \(0, 1\], got -0.5"),
        ({"strength": 1.01}, r"strength must lie in \(0, 1\], got 1.01"),
        ({"strength": math.nan}, r"strength must lie in \(0, 1\], got nan"),
        ({"retries": -1}, "retries must not be negative, got -1"),
        ({"max_background_distance": -0.1}, "max_background_distance must lie in"),
        ({"max_background_distance": 1.5}, "max_background_distance must lie in .* got 1.5"),
        ({"max_background_distance": math.nan}, "max_background_distance must lie in .* got nan"),
        ({"strength": 2.0, "retries": -3}, r"strength must .* got 2.0; retries must .* got -3"),
    ],
)
def test_a_wrong_section_names_field_and_value(fields, fault):
    with pytest.raises(ValueError, match=fault):
        EditedPairs(**fields)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (
            FlagRule(scorer="circle", key="black", at_least=0.5),
            r"edited_pairs\.flags\.0\.scorer: image_scorers has no 'circle'; there are square",
        ),
        (
            FlagRule(scorer="square", key="red", at_least=0.5),
            r"edited_pairs\.flags\.0\.key: square gives no 'red'; there are black",
        ),
        (
            FlagRule(scorer="square", key="black", at_least=0.5, version="0"),
            "calibrated with version 0, and the scores are of version 1",
        ),
    ],
)
def test_a_rule_that_cannot_verify_is_refused(rule, fault):
    with pytest.raises(ConfigError, match=fault):
        Editing(EditedPairs(flags=(rule,)), RULES, [Squares()])


def test_its_own_rules_come_before_those_of_the_filter():
    own = dataclasses.replace(RULES[0], at_least=0.9)
    assert Editing(EditedPairs(flags=(own,)), RULES, [Squares()]).flags == (own,)
    assert editing().flags == RULES
