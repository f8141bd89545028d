"""The image side's lines and page: arms that train what they say, resuming, look-alikes, figures
from made-up lines.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignguard_train.contracts.recipes import standin_expert
from research.duo import __main__ as command
from research.duo import look_alikes, measure, page, tuning
from research.duo.measure import (
    ARMS,
    ATTACKS,
    AUTHORS_PRIOR,
    EDITED,
    IMAGE_SIDE,
    MEASURES,
    PROMPT_SIDE,
    TUNED,
    TUNED_STEPS,
    TUNED_WEIGHT,
    key_of,
    profile_of,
    recipe_of,
)
from research.duo.reading import Lines
from research.study import results

WANTED = {
    PROMPT_SIDE: {
        "layers": "attention", "caption_dropout": 0.0, "preservation": 3.0,
        "preservation_at": "same", "preservation_prompt": "safe", "t_max": 1.0,
    },
    IMAGE_SIDE: {
        "layers": "self-attention", "caption_dropout": 1.0, "preservation": 3.0,
        "preservation_at": "last", "preservation_prompt": "empty", "t_max": 0.75,
    },
    AUTHORS_PRIOR: {
        "layers": "self-attention", "caption_dropout": 1.0, "preservation": 25_000.0,
        "preservation_at": "last", "preservation_prompt": "empty", "t_max": 0.75,
    },
    TUNED: {
        "layers": "self-attention", "caption_dropout": 1.0, "preservation": 10_000.0,
        "preservation_at": "last", "preservation_prompt": "empty", "t_max": 0.75,
    },
}  # fmt: skip


@pytest.mark.parametrize("arm", WANTED)
def test_an_arm_trains_what_it_says(arm):
    recipe = recipe_of(arm, standin_expert())
    assert {name: getattr(recipe, name) for name in WANTED[arm]} == WANTED[arm]
    steps = 300 if arm == TUNED else 60
    assert (recipe.method, recipe.steps, recipe.beta, recipe.lr) == ("dpo", steps, 5.0, 3e-3)


def test_every_trained_arm_has_its_recipe_tested():
    assert {"base", *WANTED} == set(ARMS)


def test_only_the_image_side_has_edited_pairs():
    assert [arm for arm in ARMS if profile_of(arm).edited_pairs] == list(EDITED)


@pytest.fixture
def jobs(monkeypatch):
    """What is trained; each adapter is a text that names its number."""
    found: list[Any] = []

    def trained(job: Any, processes: int) -> Any:
        found.append(job)
        return [SimpleNamespace(lora=f"adapter {len(found)}")]

    monkeypatch.setattr(measure, "train_job", trained)
    monkeypatch.setattr(measure, "save_lora", lambda lora, path: path.write_text(lora))
    monkeypatch.setattr(measure, "merged_keys", lambda engines: ["lines", "shapes"])
    return found


def engines_of(profile: Any, root: Any) -> Any:
    return SimpleNamespace(profile=profile, data=f"data of {root}", base="base")


def test_an_adapter_is_of_all_categories_and_is_trained_once(jobs, tmp_path):
    engines = engines_of(profile_of(AUTHORS_PRIOR), "edited")
    first = measure.adapter_of(engines, AUTHORS_PRIOR, 3, tmp_path)
    assert measure.adapter_of(engines, AUTHORS_PRIOR, 3, tmp_path) == first
    measure.adapter_of(engines, AUTHORS_PRIOR, 4, tmp_path)
    measure.adapter_of(engines, IMAGE_SIDE, 3, tmp_path)
    assert [(job.seed, job.recipe.preservation) for job in jobs] == [
        (3, 25_000), (4, 25_000), (3, 3),
    ]  # fmt: skip
    assert {(job.categories, job.data) for job in jobs} == {(("lines", "shapes"), "data of edited")}
    assert measure.adapter_of(engines, "base", 3, tmp_path) is None


def line(arm: str, seed: int, name: str, **own: Any) -> dict[str, Any]:
    """Four prompts, scenes and cases; a test changes the fields that it is about."""
    common = {"key": key_of(arm, seed, name), "arm": arm, "seed": seed, "measure": name}
    kinds = {kind: [0.1, 0.2, 0.4, 0.5] for kind in look_alikes.KINDS}
    fields: dict[str, Any] = {
        "drawn": {"flagged": "0000", "right": "1111", "near": "1111"},
        "look-alikes": {
            "words": "1111", "redrawn": {"plain": "1111", "look-alike": "1111"},
            "errors": kinds, "errors captioned": kinds,
        },
    }  # fmt: skip
    attacked = {"first": "0000", "any": "0000", "coherent": 16, "images": 16}
    return {**common, **fields.get(name, attacked), **own}


def whole(arm: str, seed: int, **changed: dict[str, Any]) -> list[dict[str, Any]]:
    """Every line of an arm and seed; ``changed``: fields by measure, with _ for -."""
    return [line(arm, seed, name, **changed.get(name.replace("-", "_"), {})) for name in MEASURES]


DRAW = page.draw


def drawn(tmp_path: Path, lines: list[dict[str, Any]]) -> str:
    file = tmp_path / "duo" / "results.jsonl"
    file.parent.mkdir(exist_ok=True)
    DRAW({one["key"]: one for one in lines}, file)
    return (tmp_path / "duo.md").read_text()


def row(text: str, title: str, table: int = 0) -> list[str]:
    """Cells of the row with a title in the table of that number that has one."""
    found = [one for one in text.splitlines() if one.startswith(f"| {title} |")]
    return [cell.strip() for cell in found[table].strip("|").split("|")][1:]


LINES = [
    *whole("base", 0),
    *whole(PROMPT_SIDE, 0, mma={"first": "1110", "any": "1111", "coherent": 8}),
    *whole(PROMPT_SIDE, 1, mma={"first": "0010", "any": "0110"}),
    *whole(IMAGE_SIDE, 0, mma={"first": "0010"}, drawn={"right": "0011"}),
    *whole(IMAGE_SIDE, 1, drawn={"right": "0001"}),
]


def test_arms_stand_side_by_side_with_their_seeds_and_hand_computed_shares(tmp_path):
    text = drawn(tmp_path, LINES)
    assert "| share of | base (1 seed) | prompt side (2 seeds) | image side (2 seeds) |" in text
    cells = row(text, "broken, MMA-Diffusion")
    assert [cell.split(" %")[0] for cell in cells] == ["0.0", "50.0", "12.5"]
    assert row(text, "safe scenes right")[2].startswith("37.5 %")
    assert row(text, "broken at any of four seeds, MMA-Diffusion")[1].startswith("75.0 %")


def test_one_seed_has_wilsons_interval(tmp_path):
    text = drawn(tmp_path, [*whole("base", 0, drawn={"flagged": "0101010101" * 4})])
    assert row(text, "IP")[0] == "50.0 % [35.2, 64.8]"  # (p + z2/2n -+ ...) / (1 + z2/n) by hand


def test_the_difference_is_paired_over_the_seeds_of_both_arms(tmp_path):
    text = drawn(tmp_path, [*LINES, *whole(PROMPT_SIDE, 2, mma={"first": "1111"})])
    cells = row(text, "broken, MMA-Diffusion", table=1)
    assert cells[0].startswith("+37.5 [")  # (3 - 1 + 1 - 0) of 8; seed 2 has no image side
    assert cells[1] == page.NOTHING


def test_an_unfinished_seed_is_named_and_in_no_table(tmp_path):
    part = whole(IMAGE_SIDE, 2, mma={"first": "1111"})
    text = drawn(tmp_path, [*LINES, *(one for one in part if one["measure"] != "ring_a_bell")])
    assert "Not finished, and in no table: image side, seed 2 (without ring_a_bell)." in text
    assert "image side (2 seeds)" in text
    assert row(text, "broken, MMA-Diffusion")[2].startswith("12.5 %")
    assert "Not finished" not in drawn(tmp_path, [*LINES, *part])


def test_the_rise_of_the_denoising_error_is_over_the_base_models(tmp_path):
    errors = {
        "plain": [0.11, 0.22, 0.44, 0.55],
        "look-alike": [0.15, 0.3, 0.6, 0.75],
        "unsafe": [0.2, 0.4, 0.8, 1.0],
    }
    text = drawn(tmp_path, [*LINES, *whole(AUTHORS_PRIOR, 0, look_alikes={"errors": errors})])
    cells = row(text, f"{AUTHORS_PRIOR} | empty prompt")[1:]
    assert [cell.split(" [")[0] for cell in cells] == ["+0.030", "+0.150", "+0.300", "+0.120"]
    cells = row(text, f"{AUTHORS_PRIOR} | empty prompt", table=1)[1:]
    assert [cell.split(" %")[0] for cell in cells] == ["+10", "+50", "+100", "+40"]
    assert row(text, f"{AUTHORS_PRIOR} | its caption")[1].startswith("+0.000 [")


def test_the_rises_of_both_sides_are_compared_seed_by_seed(tmp_path):
    changed = {"plain": [0.1] * 4, "look-alike": [0.4] * 4, "unsafe": [0.5] * 4}
    kept = [one for one in LINES if one["arm"] != IMAGE_SIDE]
    text = drawn(tmp_path, [*kept, *whole(IMAGE_SIDE, 1, look_alikes={"errors": changed})])
    cells = row(text, "*image side minus prompt side* | empty prompt")[1:]
    assert [cell.split(" [")[0] for cell in cells] == ["-0.200", "+0.100", "+0.200", "+0.300"]


def test_settings_are_in_order_of_steps_and_weight_with_what_they_cost(tmp_path):
    file = tmp_path / "duo" / "tuning.jsonl"
    for steps, weight, flagged in ((300, 30, "0011"), (60, 300, "0000"), (60, 3, "0001")):
        key = f"weight {weight}, {steps} steps"
        own = {"steps": steps, "weight": weight, "flagged": flagged, "right": "0111"}
        results.add({"key": key, **own}, file)
    table = drawn(tmp_path, LINES).partition("| steps | weight |")[2].splitlines()[2:5]
    cells = [[cell.strip() for cell in text.split("|")[1:-1]] for text in table]
    assert [(own[0], own[1], own[4]) for own in cells] == [
        ("60", "3", "0.50"), ("60", "300", "0.25"), ("300", "30", "0.75"),
    ]  # fmt: skip
    assert cells[0][2].startswith("25.0 %")
    assert cells[0][3].startswith("75.0 %")


def test_of_equal_settings_the_one_with_fewer_steps_and_less_weight_is_chosen():
    own = {"flagged": "0001", "right": "1111"}
    tried = [
        {"steps": 300, "weight": 3.0, **own},
        {"steps": 60, "weight": 30.0, **own},
        {"steps": 60, "weight": 10.0, "flagged": "0000", "right": "0111"},
        {"steps": 60, "weight": 3.0, "flagged": "0001", "right": "0111"},
    ]
    assert tuning.best_of(tried) == tried[2]


def test_the_tuned_arm_is_what_the_kept_lines_choose():
    best = tuning.best_of(results.read(tuning.LINES).values())
    assert (best["steps"], best["weight"]) == (TUNED_STEPS, TUNED_WEIGHT)


def test_a_setting_with_a_line_is_not_measured_twice(tmp_path, monkeypatch):
    made: list[tuple[int, float, str]] = []

    def trained(engines: Any, recipe: Any, seed: int, file: Path) -> Path:
        made.append((recipe.steps, recipe.preservation, engines.data))
        return file

    monkeypatch.setattr(tuning, "trained", trained)
    monkeypatch.setattr(
        tuning, "Engines", lambda profile, root: SimpleNamespace(profile=profile, data=root)
    )
    monkeypatch.setattr(tuning, "rows_of", lambda engines: [])
    monkeypatch.setattr(tuning, "_measured", lambda *given: {"flagged": "01", "right": "11"})
    own = ["--plain", "plain", "--edited", "edited", "--work", str(tmp_path / "work")]
    for weights in (["30"], ["30", "300"]):
        tuning.main([*own, "--lines", str(tmp_path / "lines.jsonl"), "--weights", *weights])
    assert [(steps, weight, Path(data).name) for steps, weight, data in made] == [
        (60, 30, "edited"), (60, 300, "edited"),
    ]  # fmt: skip


def test_broken_images_are_counted(tmp_path):
    text = drawn(tmp_path, LINES)
    share = 100 * (1 - 8 / (2 * len(ATTACKS) * 16))
    assert f"base 100 %, prompt side {share:.0f} %, image side 100 %" in text


def test_an_arm_that_is_not_measured_has_no_column(tmp_path):
    text = drawn(tmp_path, [one for one in LINES if one["arm"] == PROMPT_SIDE])
    assert "| share of | prompt side (2 seeds) |" in text
    assert row(text, "prompt side | its caption")[1] == page.NOTHING  # no base model to compare


def test_without_a_whole_seed_nothing_is_drawn(tmp_path):
    file = tmp_path / "duo" / "results.jsonl"
    page.draw({LINES[0]["key"]: LINES[0]}, file)
    assert not list(tmp_path.iterdir())


def test_a_line_of_an_unknown_arm_is_refused():
    with pytest.raises(ValueError, match="middle side, seed 0, drawn"):
        Lines([line("middle side", 0, "drawn")])


def test_the_page_in_the_docs_is_what_the_lines_say(tmp_path):
    kept = results.read(command.RESULTS)
    assert len(Lines(kept.values()).seeds(IMAGE_SIDE)) >= 1
    (tmp_path / "duo").mkdir()
    shutil.copy(tuning.LINES, tmp_path / "duo")
    text = drawn(tmp_path, list(kept.values()))
    assert text == (command.RESULTS.parents[1] / "duo.md").read_text()
    assert (tmp_path / "duo" / page.PLOT).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Runs the command; what it asks for is counted, and a measure may fail."""
    asked: list[tuple[str, int, str]] = []
    roots: dict[str, Any] = {}
    fails: list[str] = []

    def lines_of(engines: Any, plain: Any, arm: str, seed: int, folder: Path) -> Iterator[Any]:
        roots[arm] = (engines.data, plain.data)
        asked.append((arm, seed, "adapter"))
        for name in MEASURES:
            yield name, lambda name=name: _answer(arm, seed, name)

    def _answer(arm: str, seed: int, name: str) -> dict[str, Any]:
        if name in fails:
            raise KeyboardInterrupt
        asked.append((arm, seed, name))
        return line(arm, seed, name)

    monkeypatch.setattr(command, "lines_of", lines_of)
    monkeypatch.setattr(command, "Engines", engines_of)
    monkeypatch.setattr(command.page, "draw", lambda known, file: None)  # a plot a line is slow
    file = tmp_path / "duo" / "lines.jsonl"

    def run(*more: str) -> dict[str, Any]:
        own = ["--plain", "plain", "--edited", "edited", "--work", str(tmp_path / "work")]
        command.main([*own, "--lines", str(file), *more])
        return results.read(file)

    return SimpleNamespace(run=run, asked=asked, roots=roots, fails=fails, file=file)


def test_a_killed_measurement_goes_on_at_the_missing_line(measured):
    measured.fails.append("mma")
    arms = ["--arms", PROMPT_SIDE, IMAGE_SIDE, "--seeds", "0", "1"]
    with pytest.raises(KeyboardInterrupt):
        measured.run(*arms)
    before = list(results.read(measured.file))
    assert before[-1] == key_of(PROMPT_SIDE, 0, MEASURES[MEASURES.index("mma") - 1])
    measured.fails.clear()
    measured.run(*arms)
    counted = [one for one in measured.asked if one[2] != "adapter"]
    wanted = [(arm, s, m) for s in (0, 1) for arm in (PROMPT_SIDE, IMAGE_SIDE) for m in MEASURES]
    assert counted == wanted
    assert len(measured.file.read_text().splitlines()) == len(wanted)


def test_a_seed_with_every_line_loads_and_trains_nothing(measured):
    measured.run("--arms", IMAGE_SIDE)
    number = len(measured.asked)
    measured.run("--arms", IMAGE_SIDE)
    assert len(measured.asked) == number


def test_only_the_chosen_measures_get_a_line(measured):
    found = measured.run("--arms", IMAGE_SIDE, "--measures", "look-alikes")
    assert list(found) == [key_of(IMAGE_SIDE, 0, "look-alikes")]


def test_arms_of_the_image_side_train_on_edited_pairs_and_all_are_measured_on_plain_ones(measured):
    measured.run()
    assert {arm: Path(own).name for arm, (own, _) in measured.roots.items()} == {
        arm: "edited" if arm in EDITED else "plain" for arm in ARMS
    }
    assert {Path(other).name for _, other in measured.roots.values()} == {"plain"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "middle side"], "invalid choice: 'middle side'"),
        (["--measures", "guessing"], "invalid choice: 'guessing'"),
        (["--plain", "plain", "--arms", IMAGE_SIDE], "--edited is missing"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_measured(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_kept_lines_name_no_path():
    text = command.RESULTS.read_text()
    assert all("/" not in json.dumps(json.loads(one)) for one in text.splitlines())
