"""A room that made nothing is not done: what the command says, its exit code, and the next run."""

import json
import subprocess
import sys
from pathlib import Path

from alignguard_data.taxonomy.parse import load_taxonomy
from tests.conftest import command_environment, reduced_profile

SILENT, SHORT = "angular.zigzag", "angular.bolt"


class Deployment:
    """A reduced profile whose writer is faulty as a file says, and its commands."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.faults = folder / "faults.json"
        self.root = folder / "data"
        writer = {
            "use": "tests.pipelines.faulty_engines:FaultyWriter",
            "params": {"faults": str(self.faults)},
        }
        self.profile = reduced_profile(folder / "profile", writer=writer, **changes)
        self.keys = [c.key for c in load_taxonomy(folder / "profile" / "taxonomy.yaml").concepts]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            env=command_environment(self.root, self.profile),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done

    def answer(self, **of_six: int) -> None:
        self.faults.write_text(json.dumps({k.replace("__", "."): v for k, v in of_six.items()}))

    def states(self, room: str) -> dict[str, str]:
        return json.loads(self.run("status", "--json").stdout)["rooms"][room]

    def content(self, room: str, key: str) -> str:
        path = self.root / "reduced" / room / key / "manifest.json"
        return json.loads(path.read_text())["content_id"]


def test_a_writer_of_garbage_fails_the_run_and_is_asked_again_when_it_is_mended(tmp_path):
    made = Deployment(tmp_path)
    made.faults.write_text(json.dumps({"*": 0}))
    done = made.run("run")
    assert done.returncode == 1
    assert "✗ prompts" in done.stdout
    assert "0 of 6 made" in done.stdout
    assert "✓ images" not in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "commonest reason" in line]
    assert line.startswith(f"✗ prompts {made.keys[0]} and 5 more: 0 of 60 prompt pairs; ")
    assert "commonest reason unparseable (180 of 180)" in line
    assert "for example `<think>[/xxxx] xx xxxx 0`" in line
    assert "INST" not in done.stdout + done.stderr
    assert made.run("status").returncode == 1
    assert set(made.states("prompts").values()) == {"empty"}

    made.faults.unlink()
    mended = made.run("run", "--until", "prompts")
    assert mended.returncode == 0, mended.stdout
    assert "✓ prompts     6 made" in mended.stdout
    assert set(made.states("prompts").values()) == {"done"}


def test_one_silent_concept_fails_and_the_others_go_on_to_their_pairs(tmp_path):
    made = Deployment(tmp_path)
    made.faults.write_text(json.dumps({SILENT: 0}))
    done = made.run("run")
    assert done.returncode == 1
    assert f"✗ prompts {SILENT}: 0 of 10 prompt pairs" in done.stdout
    for room in ("prompts", "images", "scores", "pairs"):
        assert f"✗ {room:<11} 5 of 6 made" in done.stdout
    assert "index" not in done.stdout
    others = {key for key, state in made.states("pairs").items() if state == "done"}
    assert others == set(made.keys) - {SILENT}
    before = made.content("pairs", SHORT)
    made.faults.unlink()
    assert made.run("run", "--until", "pairs").returncode == 0
    assert set(made.states("pairs").values()) == {"done"}
    assert made.content("pairs", SHORT) == before


def test_a_short_concept_warns_in_the_last_lines_and_is_asked_again(tmp_path):
    made = Deployment(tmp_path)
    made.faults.write_text(json.dumps({SHORT: 1}))
    done = made.run("run", "--until", "prompts")
    assert done.returncode == 0
    warned = (
        f"! prompts: {SHORT} has 5 of 10 prompt pairs, commonest reason unparseable (25 of 25); "
        "the next run requests the rest"
    )
    assert done.stdout.splitlines()[-1] == warned
    assert made.states("prompts")[SHORT] == "short"
    before = made.content("prompts", SHORT)
    again = made.run("run", "--until", "prompts")
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, warned)
    assert made.content("prompts", SHORT) == before, "the same writer gives the same content"
    made.faults.unlink()
    mended = made.run("run", "--until", "prompts")
    assert "! " not in mended.stdout
    assert made.states("prompts")[SHORT] == "done"


def test_a_filter_that_drops_all_fails_each_run(tmp_path):
    rule = {"scorer": "glyphs", "key": "any", "at_least": 2.0}
    made = Deployment(tmp_path, filter__flags=[rule], writing__pairs_per_concept=6)
    for _ in range(2):
        done = made.run("run", "--until", "release")
        assert done.returncode == 1
        assert "kept pairs; commonest reason unsafe_image_is_clean" in done.stdout
        assert "0 of 6 made" in done.stdout
        assert "index" not in done.stdout
