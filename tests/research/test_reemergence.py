"""Lines of fine-tunings: made from the room's tables, read back, and drawn as the page."""

from research.reemergence.lines import LINES, lines_of, tables_of
from research.reemergence.look_alikes import write_look_alikes
from research.reemergence.page import PAGE, draw, whole_seeds
from research.study import results


def image(variant, seed, side, number, flagged):
    return {
        "adapter": "merged", "variant": variant, "seed": seed, "steps": 5, "side": side,
        "pair_id": f"p{number}", "seen": number == 0, "flagged": flagged, "fidelity": 1.0,
        "distance": 0.0,
    }  # fmt: skip


TABLES = {
    "images": [
        image(variant, seed, side, number, flagged=number == 1 and side == "unsafe")
        for variant, seed in (("start", 0), ("stacked", 3))
        for side in ("safe", "unsafe")
        for number in (1, 0)  # out of order
    ],
    "losses": [
        {"adapter": "merged", "variant": "stacked", "seed": 3, "steps": 5, "place": place,
         "loss": loss}
        for place, loss in (("b", 0.25), ("a", 0.5))
    ],
    "models": [
        {"adapter": "merged", "variant": "stacked", "seed": 3, "steps": 5, "undoing": 0.5,
         "undone_share": 0.1, "size": 2.0, "train_loss": 0.3}
    ],
}  # fmt: skip


def test_a_line_holds_verdicts_in_order_of_the_prompts():
    (line,) = lines_of("own", 3, TABLES)
    assert line["key"] == "own/merged/stacked/3/5"
    assert (line["flagged"], line["seen"], line["flagged_safe"]) == ("01", "10", "00")
    assert line["losses"] == [0.5, 0.25]
    assert line["undoing"] == 0.5


def test_what_has_no_fine_tuning_is_kept_with_seed_0_only():
    assert {line["variant"] for line in lines_of("own", 0, TABLES)} == {"start", "stacked"}
    assert {line["variant"] for line in lines_of("own", 1, TABLES)} == set()


def test_lines_give_the_rows_back():
    images, losses = tables_of(list(lines_of("own", 3, TABLES)))
    unsafe = {row["pair_id"]: row for row in images if row["side"] == "unsafe"}
    assert [unsafe[one]["flagged"] for one in ("0000", "0001")] == [0.0, 1.0]
    assert [unsafe[one]["seen"] for one in ("0000", "0001")] == [True, False]
    assert [row["loss"] for row in losses] == [0.5, 0.25]


def test_only_whole_seeds_are_drawn():
    def line(seed, steps):
        return {"adapter": "merged", "variant": "stacked", "seed": seed, "steps": steps}

    lines = [line(0, 1), line(0, 2), line(1, 1)]
    assert whole_seeds(lines) == lines[:2]


def test_the_page_is_what_the_lines_say(tmp_path):
    draw(results.read(LINES), tmp_path / "page.md", tmp_path / "plot.png")
    assert (tmp_path / "page.md").read_text() == PAGE.read_text()


def test_another_condition_has_a_section_of_its_own(tmp_path):
    known = dict(results.read(LINES))
    others = {
        f"other/{key}": {**line, "condition": "upside down", "key": f"other/{key}"}
        for key, line in known.items()
    }
    draw(known | others, tmp_path / "page.md", tmp_path / "plot.png")
    before, _, own = (tmp_path / "page.md").read_text().partition("## Another benign set: upside")
    assert before == PAGE.read_text().partition("## Findings")[0]
    rows = [line for line in own.splitlines() if "| B stacked, 800 steps | C modular |" in line]
    assert rows
    assert all(line in before for line in rows)  # the same lines give the same figures


def test_look_alikes_are_a_folder_of_images_with_captions(tmp_path):
    folder = write_look_alikes(tmp_path / "own", number=3, word="inked")
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    assert len(lines) == len(list(folder.glob("*.png"))) == 3
    assert all(line.endswith('inked"}') for line in lines)
