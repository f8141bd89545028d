"""Benign rows: where they come from, what is left out, and what is refused before a training."""

import json
import weakref

import numpy as np
import pytest
from PIL import Image

from alignguard_data.contracts.errors import ConfigError, NothingMade
from alignguard_data.release.reader import release_folder
from alignguard_train.reemergence import benign
from alignguard_train.reemergence.benign import (
    BenignRow,
    benign_rows,
    divided,
    judged_benign,
    styled,
)
from alignguard_train.reemergence.config import BenignConfig
from tests.alignguard_train.reemergence.world import EVALUATION, Scorer, build

SIZE = (16, 16)


def write(folder, *lines, size=(20, 10)):
    folder.mkdir()
    Image.new("RGB", size, (10, 200, 30)).save(folder / "one.png")
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return BenignConfig(folder=str(folder))


def line(**values):
    return json.dumps({"file_name": "one.png", "text": "a ball"} | values)


def row(place, red=0):
    image = np.full((*SIZE, 3), (red, 0, 0), np.uint8)
    return BenignRow(place=place, caption="a ball", image=image)


def test_the_release_gives_chosen_images_with_safe_captions(tmp_path):
    data = build(tmp_path)
    rows, refused = benign_rows(release_folder(data), BenignConfig(rows=3, held_out=2), SIZE)
    assert [one.caption for one in rows] == [f"a ball {number}" for number in range(5)]
    assert all((one.image[..., 0] == 40).all() for one in rows)
    assert not refused


class Row(dict[str, object]):
    """A row to which a weak reference can be made."""


def test_of_a_release_few_rows_are_held_with_their_images(tmp_path, monkeypatch):
    data, refs, held = build(tmp_path), [], []
    whole = benign.stream_rows

    def watched(release):
        for row in whole(release):
            own = Row(row)
            refs.append(weakref.ref(own))
            held.append(sum(one() is not None for one in refs))
            yield own
            del own

    monkeypatch.setattr(benign, "stream_rows", watched)
    rows, _ = benign_rows(release_folder(data), BenignConfig(rows=1, held_out=1), SIZE)
    assert len(rows) == 2
    assert len(held) >= 5
    assert max(held) <= 3, "the loops' own names hold the last ones"


def test_of_a_folder_the_first_names_are_not_the_sample(tmp_path):
    """Names often begin with a kind."""
    folder = tmp_path / "own"
    folder.mkdir()
    names = [f"{kind} {number}.png" for kind in ("ball", "box") for number in range(20)]
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)
    (folder / "metadata.jsonl").write_text("\n".join(line(file_name=name) for name in names))
    rows, _ = benign_rows(tmp_path, BenignConfig(folder=str(folder), rows=8, held_out=8), SIZE)
    drawn = [one.place.split()[0] for one in rows]
    assert len(drawn) == 16
    assert min(drawn.count("ball"), drawn.count("box")) >= 4


def test_a_truncated_image_is_named(tmp_path):
    config = write(tmp_path / "own", line(), size=(64, 64))
    image = tmp_path / "own" / "one.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(image)
    image.write_bytes(image.read_bytes()[:-600])
    with pytest.raises(ConfigError, match=r"one\.png is not a readable image"):
        benign_rows(tmp_path, config, SIZE)


def test_a_folder_is_cut_to_the_models_size_and_takes_the_style_word(tmp_path):
    config = write(tmp_path / "own", line(), "")
    config = BenignConfig(folder=config.folder, style_word="inked")
    (one,), _ = benign_rows(tmp_path, config, SIZE)
    assert one.image.shape == (16, 16, 3)
    assert one.caption == "inked a ball"


FAULTY = {
    "no JSON": ("{", "line 1 is not JSON"),
    "no text": (json.dumps({"file_name": "one.png"}), "line 1 needs file_name and text"),
    "an empty text": (line(text=" "), "line 1 needs file_name and text"),
    "a list": ("[1]", "line 1 needs file_name and text"),
    "a missing image": (line(file_name="two.png"), "two.png is not a readable image"),
    "no image": (line(file_name="metadata.jsonl"), "metadata.jsonl is not a readable image"),
    "a file elsewhere": (line(file_name="../secret.png"), "'../secret.png' lies outside"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_folders_faults_are_named_with_field_file_and_line(tmp_path, fault):
    text, message = FAULTY[fault]
    with pytest.raises(ConfigError, match=r"reemergence\.benign\.folder") as raised:
        benign_rows(tmp_path, write(tmp_path / "own", text), SIZE)
    assert message in str(raised.value)


def test_all_lines_of_a_folder_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as raised:
        benign_rows(tmp_path, write(tmp_path / "own", "{", line(), line(text="")), SIZE)
    assert len(raised.value.faults) == 2


def test_a_folder_without_metadata_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"benign\.folder: .* has no metadata\.jsonl"):
        benign_rows(tmp_path, BenignConfig(folder=str(tmp_path)), SIZE)


def test_a_caption_that_the_safety_rules_refuse_is_left_out_by_its_place(tmp_path):
    config = write(tmp_path / "own", line(text="a child with a ball"), line(text="a ball"))
    rows, refused = benign_rows(tmp_path, config, SIZE)
    assert [one.caption for one in rows] == ["a ball"]
    assert [one.place for one in refused] == ["one.png"]
    assert refused[0].reason


def test_an_image_that_the_judge_flags_is_left_out():
    rows = [row("safe"), row("red", red=255)]
    kept, left = judged_benign(rows, [Scorer()], EVALUATION.flags)
    assert [one.place for one in kept] == ["safe"]
    assert [(one.place, one.reason) for one in left] == [("red", "flagged")]


@pytest.mark.parametrize(("rows", "sizes"), [(76, (60, 16)), (20, (16, 4)), (2, (1, 1))])
def test_a_part_is_held_out_however_few_there_are(rows, sizes):
    train, held = divided([row(str(number)) for number in range(rows)], BenignConfig())
    assert (len(train), len(held)) == sizes
    assert not {one.place for one in train} & {one.place for one in held}


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_benign_rows_are_refused(rows):
    with pytest.raises(NothingMade, match=f"{rows} benign rows in benign.folder own"):
        divided([row("one")] * rows, BenignConfig(folder="own"))


def test_styles_by_hand():
    """Grey of (100, 50, 200) is 29.9 + 29.35 + 22.8 = 82.05; sepia is (1, 0.8, 0.55) times that."""
    image = np.array([[[100, 50, 200]], [[0, 0, 0]]], np.uint8)
    assert styled(image, "grey")[0, 0].tolist() == [82, 82, 82]
    assert styled(image, "sepia")[0, 0].tolist() == [82, 66, 45]
    assert styled(image, "negative")[0, 0].tolist() == [155, 205, 55]
    assert styled(image, "upside-down")[1, 0].tolist() == [100, 50, 200]
    assert styled(image, "none") is image
