"""The arena's lines: keys, means over seeds, and the page that is drawn from them."""

from types import SimpleNamespace
from typing import Any

import pytest

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.standin.factory import taxonomy_file
from alignguard_data.taxonomy.parse import load_taxonomy
from alignguard_train.contracts.adapter_names import ALL_SINGLE, BASE, MERGED
from alignguard_train.contracts.peer_methods import PEERS
from research.arena import __main__ as command
from research.arena import defences as module
from research.arena import page
from research.arena.__main__ import RESULTS
from research.arena.__main__ import TIMES as TIMES_FILE
from research.arena.defences import SAFEGUARDED, Places, defences
from research.arena.measure import key_of
from research.arena.reading import arena_of_lines
from research.reemergence.lines import LINES as KEPT
from research.study import results


def line(defence: str, seed: int, *, flagged: str, right: str = "1101", **more: Any) -> dict:
    """Four prompts, of which the last is of an unseen concept."""
    attack = {"replay": flagged, "any_replay": "1111", "seen": "1110"}
    given = {
        "key": f"{defence} {seed}", "defence": defence, "seed": seed, "seeded": defence != BASE,
        "seen": "1110", "flagged": flagged, "right": right, "near_right": "11",
        "distance": [0.0, 0.1, 0.2, 0.3], "attacks": {"no_attack": attack, "zoo": attack},
    }  # fmt: skip
    return {**given, **more}


LINES = {
    one["key"]: one
    for one in (
        line(BASE, 0, flagged="1111"),
        line(MERGED, 0, flagged="0010"),
        line(MERGED, 1, flagged="0000", right="0101"),
    )
}


TIMES = {
    name: {
        "defence": name, "cpu_seconds_per_image": seconds, "base_cpu_seconds_per_image": 2.0,
        "training_cpu_seconds": trained,
    }
    for name, seconds, trained in ((BASE, 2.0, 0.0), (MERGED, 3.0, 10.5), ("peer:sld", 9.0, 1.0))
}  # fmt: skip


def fine_tuned(adapter: str, variant: str, seed: int, steps: int, flagged: str) -> dict:
    return {
        "key": f"{adapter}/{variant}/{seed}/{steps}", "condition": "own images",
        "adapter": adapter, "variant": variant, "seed": seed, "steps": steps,
        "flagged": flagged, "seen": "11110", "flagged_safe": "00000", "right": "11111",
        "losses": [0.5],
    }  # fmt: skip


TUNED = {
    one["key"]: one
    for one in (
        fine_tuned(BASE, "none", 0, 0, "11111"),
        fine_tuned(MERGED, "start", 0, 0, "00000"),
        fine_tuned(MERGED, "stacked", 0, 3, "11111"),
        fine_tuned(MERGED, "stacked", 0, 9, "11000"),
        fine_tuned(MERGED, "stacked", 1, 3, "11111"),
        fine_tuned(MERGED, "stacked", 1, 9, "10000"),
        fine_tuned(MERGED, "stacked", 2, 3, "11111"),  # its last step is not measured yet
        fine_tuned(MERGED, "modular", 0, 9, "00001"),
        fine_tuned(MERGED, "modular", 1, 9, "00000"),
        fine_tuned("merge:unheard", "stacked", 0, 9, "11111"),
        fine_tuned("merge:unheard", "stacked", 1, 9, "11111"),
    )
}


@pytest.mark.parametrize(
    ("column", "value", "n"),
    [
        ("ip_seen", 1 / 6, 3),
        ("ip_unseen", 0.0, 1),
        ("over_refusal", 1 / 6, 3),  # of the three that the base model draws as asked
        ("over_refusal:near-concepts", 0.0, 2),
        ("fidelity", 5 / 8, 4),
        ("distance", 0.15, 4),
        ("asr:zoo", 1 / 8, 4),
        ("ssr_n", 1.0, 4),
        ("seconds_ratio", 1.5, 1),
        ("training_seconds", 10.5, 1),
    ],
)
def test_a_figure_is_the_mean_over_seeds_and_prompts(column: str, value: float, n: int):
    cell = arena_of_lines(LINES, TIMES, {}).row(MERGED).cells[column].cell
    assert cell.value == pytest.approx(value)
    assert cell.n == n


def test_a_label_says_how_many_trainings_it_is_of():
    labels = {row.name: row.label for row in arena_of_lines(LINES, TIMES, {}).rows}
    assert labels[BASE] == "Base model (1 attack seed)"
    assert labels[MERGED] == "Co-Merge (2 trainings)"


def test_an_adapter_without_a_line_has_a_row_that_says_so(tmp_path):
    page.draw(LINES, TIMES, {}, tmp_path)
    text = (tmp_path / "arena.md").read_text()
    assert "| All-single, safeguard 0.9 | not measured |" in text


def test_a_training_that_was_interrupted_has_no_seconds():
    cut = {**TIMES, MERGED: {**TIMES[MERGED], "training_cpu_seconds": None}}
    assert "training_seconds" not in arena_of_lines(LINES, cut, {}).row(MERGED).cells


def test_a_time_without_a_line_makes_no_row():
    names = [row.name for row in arena_of_lines(LINES, TIMES, {}).rows]
    assert "peer:sld" not in names


def test_a_guard_is_not_timed_as_the_base_model_that_it_stands_before(tmp_path, monkeypatch):
    guard = module.Defence(name="guard:sld", guard="sld", file=tmp_path / "guard")
    made = [module.Defence(name=BASE), guard]
    monkeypatch.setattr(command, "defences", lambda *given: made)
    lines = tmp_path / "results.jsonl"
    for one in made:
        results.add({"key": key_of(one, 0)}, lines)
    timed = SimpleNamespace(
        world=SimpleNamespace(concepts=()),
        times=lambda one, seed: {"key": key_of(one, seed), "defence": one.name},
    )
    command._time(timed, Places(), (), lines)
    assert [one["defence"] for one in results.read(tmp_path / TIMES_FILE).values()] == [BASE]
    kept = results.read(RESULTS.with_name(TIMES_FILE)).values()
    assert kept
    assert not [one for one in kept if one["defence"].startswith("guard")]


def test_no_line_at_all_gives_an_empty_table():
    assert arena_of_lines({}, TIMES, TUNED).rows == ()


def test_every_peer_and_all_single_with_and_without_safeguard_is_compared():
    names = [one.name for one in defences(load_taxonomy(taxonomy_file()).concepts, 0)]
    assert names[0] == BASE
    assert {f"peer:{name}" for name in PEERS} <= set(names)
    assert {MERGED, ALL_SINGLE, SAFEGUARDED} <= set(names)
    assert len(names) == len(set(names))


def test_hardened_adapters_and_guards_that_are_made_are_rows(tmp_path, monkeypatch):
    concepts = load_taxonomy(taxonomy_file()).concepts
    control = tmp_path / "seed-1" / "control" / "round-2"
    control.mkdir(parents=True)
    (control / "merged.safetensors").write_bytes(b"")
    made = tmp_path / "guard.safetensors"

    def guard_file(data, kind):
        if kind != "safeguider":
            raise InputMissing(kind)
        return made

    monkeypatch.setattr(module, "guard_file", guard_file)
    places = Places(hardened=tmp_path, guards=tmp_path)
    rows = {one.name: one for one in defences(concepts, 1, places)}
    assert rows["control"].file == control / "merged.safetensors"
    assert rows["control"].seeded
    assert "weak" not in rows
    assert not any(name.startswith("guard:") for name in rows)
    first = {one.name: one for one in defences(concepts, 0, places)}
    assert first["guard:safeguider"].file == made
    assert not first["guard:safeguider"].seeded
    assert "guard:latent-guard" not in first
    keys = [key_of(one, 0) for one in first.values()]
    assert len(keys) == len(set(keys))


def test_a_blocked_prompt_has_no_distance_and_the_cell_says_so():
    lines = {
        one["key"]: one
        for one in (
            line(BASE, 0, flagged="1111"),
            line("guard:safeguider", 0, flagged="0000", distance=[0.0, None, 0.0, None]),
        )
    }
    shown = arena_of_lines(lines, {}, {}).row("guard:safeguider").cells["distance"]
    assert shown.cell.n == 2
    assert "that the guard lets through" in shown.cell.over


def test_every_defence_and_seed_has_a_key_of_its_own():
    concepts = load_taxonomy(taxonomy_file()).concepts
    keys = [key_of(one, seed) for seed in (0, 1) for one in defences(concepts, seed)]
    assert len(keys) == len(set(keys))


def test_the_page_has_every_defence_and_its_plots(tmp_path):
    page.draw(LINES, TIMES, {}, tmp_path)
    text = (tmp_path / "arena.md").read_text()
    assert "| Co-Merge (2 trainings) | 16.7 %" in text
    assert (tmp_path / "arena" / "distance.png").read_bytes()
    assert "Co-Merge (2 trainings)" in (tmp_path / "arena" / "table.html").read_text()
    for name in ("arena/distance.png", "arena/seconds_ratio.png", "arena/table.html"):
        assert name in text


@pytest.mark.parametrize(("variant", "value"), [("stacked", 3 / 10), ("modular", 1 / 10)])
def test_re_emergence_is_ip_after_the_last_step_over_whole_fine_tunings(variant: str, value: float):
    cell = arena_of_lines(LINES, TIMES, TUNED).row(MERGED).cells[f"reemergence:{variant}"].cell
    assert cell.value == pytest.approx(value)
    assert cell.low is not None
    assert cell.high is not None
    assert cell.low < value < cell.high
    assert (cell.n, cell.over) == (
        5, "5 unsafe evaluation prompts after 9 steps, fine-tunings: 2",
    )  # fmt: skip


def test_another_set_of_benign_images_is_not_in_the_table():
    other = {key: {**one, "condition": "upside down"} for key, one in TUNED.items()}
    assert "reemergence:stacked" not in arena_of_lines(LINES, TIMES, other).row(MERGED).cells


def test_a_fine_tuning_of_a_defence_without_a_line_makes_no_row():
    assert "merge:unheard" not in {row.name for row in arena_of_lines(LINES, TIMES, TUNED).rows}


def test_re_emergence_says_that_it_is_of_another_training():
    marks = arena_of_lines(LINES, TIMES, TUNED).row(MERGED).marks
    assert any("a run of the stand-in profile" in mark for mark in marks)


def test_the_page_has_re_emergence_with_a_dash_where_it_was_not_measured(tmp_path):
    page.draw(LINES, TIMES, TUNED, tmp_path)
    text = (tmp_path / "arena.md").read_text()
    first = next(line for line in text.splitlines() if line.startswith("| defence"))
    place = [one.strip() for one in first.split("|")].index("Re-emergence, stacked")
    shown = {
        line.split("|")[1].strip(): line.split("|")[place].strip()
        for line in text.split(first)[1].split("\n\n")[0].splitlines()[2:]
    }
    assert shown["Co-Merge (2 trainings)"].startswith("30.0 % [")
    assert shown["Co-Merge (2 trainings)"].endswith("], 5")
    assert shown["Base model (1 attack seed)"] == "–"
    assert "after 9 steps of fine-tuning" in text
    assert "over 5 unsafe prompts and\n2 fine-tunings" in text
    assert "experts trained for 60 steps" in text
    assert "experts of 120 steps" in text


def test_the_page_says_nothing_of_re_emergence_without_lines(tmp_path):
    page.draw(LINES, TIMES, {}, tmp_path)
    assert "Re-emergence, stacked" not in (tmp_path / "arena.md").read_text()
    assert "steps of fine-tuning" not in (tmp_path / "arena.md").read_text()


def test_the_kept_page_is_what_the_kept_lines_give(tmp_path):
    lines = results.read(RESULTS)
    page.draw(lines, results.read(RESULTS.with_name(TIMES_FILE)), results.read(KEPT), tmp_path)
    assert (tmp_path / "arena.md").read_text() == (page.DOCS / "arena.md").read_text()
