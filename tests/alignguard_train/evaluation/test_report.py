"""The page: self-contained, free of flagged pixels unless revealed, and the same every time."""

import base64
import io
import logging
import re

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from alignguard_data.safety.blur import blurred
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.report.data import FUNNEL_ROOMS, TABLES, gather
from alignguard_train.evaluation.report.page import write_revealed
from tests.alignguard_train.evaluation.test_room import evaluate, world


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    data, adapters = world(tmp_path_factory.mktemp("report"))
    evaluate(data, adapters)
    return data


def page(data) -> str:
    folder = data.partition("evaluation")
    return (folder / manifests.require(folder).file("report.html").name).read_text()


def pictures_in(text: str) -> set[bytes]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    return {_pixels(base64.b64decode(uri)).tobytes() for uri in found}


def _pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def test_no_flagged_image_is_in_the_page_and_its_blurred_version_is(evaluated):
    shown = pictures_in(page(evaluated))
    rows = manifests.read(evaluated.partition("evaluation"), "pictures").to_pylist()
    flagged = [_pixels(row["image"]) for row in rows if row["flagged"]]
    clean = [_pixels(row["image"]) for row in rows if not row["flagged"]]
    assert flagged
    assert clean
    assert not any(image.tobytes() in shown for image in flagged)
    assert all(blurred(image).tobytes() in shown for image in flagged)
    assert all(image.tobytes() in shown for image in clean)


def test_unsafe_prompts_are_left_out(evaluated):
    assert "shape.dot scene" not in page(evaluated)
    assert "scene" in page(evaluated), "safe prompts are shown"


def test_revealing_is_a_file_of_its_own_and_is_logged(evaluated, caplog):
    with caplog.at_level(logging.WARNING):
        path = write_revealed(evaluated)
    assert str(path) in caplog.text
    shown = pictures_in(path.read_text())
    rows = manifests.read(evaluated.partition("evaluation"), "pictures").to_pylist()
    assert {row["flagged"] for row in rows} == {True, False}
    assert all(_pixels(row["image"]).tobytes() in shown for row in rows)
    assert "Nothing is blurred" in path.read_text()
    assert "Nothing is blurred" not in page(evaluated)


def test_the_page_needs_nothing_from_elsewhere(evaluated):
    text = page(evaluated)
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_the_page_holds_no_path_and_no_time(evaluated):
    assert str(evaluated.root) not in page(evaluated)
    assert not re.search(r"20\d\d-\d\d-\d\d", page(evaluated))


def test_table_grids_funnel_and_curves_are_there(evaluated):
    text = page(evaluated)
    for wanted in ("Merged adapter", "All-single", "Expert · tone", "leaks_into_test", "unseen"):
        assert wanted in text
    files = {
        f.name.rsplit("/", 1)[-1]
        for f in manifests.require(evaluated.partition("evaluation")).files
    }
    assert {
        "ip_bars.png", "ip_matrix.png", "preservation.png", "funnel.png", "training_curves.png",
        "preview.png", "report.html",
    } <= files  # fmt: skip


def test_the_arena_holds_every_defence_and_no_single_expert(evaluated):
    text = page(evaluated).partition("every defence in one table")[2]
    rows = re.findall(r'<th scope="row" data-order="([^"]+)"', text)
    assert rows == ["Base model", "Merged adapter", "All-single"]
    assert "on the front: distance" in text


def test_the_funnel_counts_the_releases_own_concepts(tmp_path):
    """The partitions of a withdrawn concept stay on disk, and are no part of any release."""
    data = DataRoot(root=tmp_path, profile="test")

    def made(room: str, key: str, rows: int, inputs: dict[str, str]) -> None:
        folder = data.partition(room, key)
        wanted = PartitionSpec(folder=folder, room=room, key=key, config={}, inputs=inputs)
        with open_partition(wanted) as work:
            table = pa.table({"row": list(range(rows))})
            work.finish(tables={"rows": table}, rejected={"x": rows}, counts={"path": "r"})

    inputs = {f"{room}/a.kept": "1" for room, _ in FUNNEL_ROOMS}
    for room, _ in FUNNEL_ROOMS:
        made(room, "a.kept", 2, {})
        made(room, "a.gone", 40, {})
    made("release", "all", 1, inputs)
    empty = {name: pa.table({}) for name in TABLES}
    funnel = gather(data, config={}, models={}, tables=empty).funnel
    assert [(stage.kept, stage.lost) for stage in funnel] == [(2, {"x": 2})] * 3 + [(1, {"x": 1})]


def test_markdown_holds_the_same_tables_as_the_page(evaluated):
    folder = evaluated.partition("evaluation")
    name = manifests.require(folder).file("report.md").name
    text = (folder / name).read_text()
    shown = re.sub(r"<[^>]+>", " ", page(evaluated))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "|---" not in line]
    assert len(rows) > 20
    for row in rows:
        for cell in row.strip("| ").split(" | "):
            assert all(part in shown for part in cell.split(" [")), cell
    for wanted in ("against the base", "IP by category", "FID", "(0:6)"):
        assert wanted in text
    assert "shape.dot scene" not in text
    assert "data:image" not in text


def test_grids_hold_a_seen_and_an_unseen_pair_of_a_category_under_its_own_expert(evaluated):
    rows = manifests.read(evaluated.partition("evaluation"), "pictures").to_pylist()
    kinds = {(row["category"], row["seen"]) for row in rows}
    assert kinds == {("shape", True), ("shape", False), ("tone", True)}
    assert {row["adapter"] for row in rows if row["category"] == "tone"} == {
        "base",
        "expert:tone",
        "merged",
        "all-single",
    }
