"""What is wrong with a summary is said in one line that names its file."""

import json
from dataclasses import asdict

import pytest

from alignguard_data.storage.paths import DataRoot
from alignguard_train.arena.cells import cells_block
from alignguard_train.arena.sources import read_sources
from tests.alignguard_train.arena.small import RELEASE, cell, write_room, write_summary

GOOD = cell("base", "ip_seen", 1.0)


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return DataRoot(root=tmp_path, profile="test")


def test_a_room_without_a_summary_is_left_out(data):
    write_summary(data, "robustness", GOOD)
    assert [source.room for source in read_sources(data)] == ["robustness"]


def test_a_written_block_is_read_as_it_was(data):
    write_summary(
        data, "evaluation", GOOD, cell("merged", "training_seconds", 3.0, low=None, high=None)
    )
    (source,) = read_sources(data)
    assert (source.fault, source.stale, source.release) == ("", "", RELEASE)
    assert source.cells[0] == GOOD
    assert source.cells[1].low is None


BLOCK = cells_block([GOOD], release=RELEASE, made_of="x")
ONE = asdict(GOOD)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is damaged: not JSON"),
        ('{"arena": {', "is damaged: not JSON"),
        ("\udce4".encode("utf-8", "surrogateescape"), "is damaged: not JSON"),
        ("[1]", "is damaged: list instead of an object"),
        ("null", "is damaged: NoneType instead of an object"),
        ("{}", "is of an older format"),
        ('{"arena": 3}', "is of an older format"),
        (json.dumps({"arena": {**BLOCK, "format": 0}}), "arena.format is 0, this version reads 1"),
        (json.dumps({"arena": {**BLOCK, "cells": None}}), "arena.cells is NoneType, not a list"),
        (json.dumps({"arena": {**BLOCK, "cells": [{}]}}), "arena.cells.0:"),
        (json.dumps({"arena": {**BLOCK, "cells": [3]}}), "arena.cells.0:"),
        (
            json.dumps({"arena": {**BLOCK, "cells": [ONE, {**ONE, "value": "much"}]}}),
            "arena.cells.1: value must be a finite number, got 'much'",
        ),
        (
            json.dumps({"arena": {**BLOCK, "cells": [{**ONE, "high": float("nan")}]}}),
            "arena.cells.0: high must be a finite number",
        ),
        (
            json.dumps({"arena": {**BLOCK, "cells": [{**ONE, "n": 0}]}}),
            "arena.cells.0: n must be 1 or more, got 0",
        ),
        (
            json.dumps({"arena": {**BLOCK, "cells": [{**ONE, "unit": "pears"}]}}),
            "arena.cells.0: unit must be one of",
        ),
        (
            json.dumps({"arena": {**BLOCK, "cells": [{**ONE, "more": 1}]}}),
            "arena.cells.0:",
        ),
    ],
)  # fmt: skip
def test_a_fault_names_the_file_and_the_command(data, text: str | bytes, said: str):
    path = write_summary(data, "robustness", GOOD)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (source,) = read_sources(data)
    assert str(path) in source.fault
    assert said in source.fault
    assert source.fault.endswith("; alignguard attack writes it again")
    assert not source.cells


def test_a_faulty_room_does_not_hide_another(data):
    write_summary(data, "evaluation", GOOD).write_text("{")
    write_summary(data, "robustness", GOOD)
    faulty, good = read_sources(data)
    assert faulty.fault
    assert good.cells == [GOOD]


def test_a_summary_of_an_earlier_partition_is_stale(data):
    write_summary(data, "evaluation", GOOD, made_of="another")
    assert read_sources(data)[0].stale == "the room was made again after its summary"


def test_a_summary_of_an_earlier_release_is_stale(data):
    write_room(data, "release", {"path": "coprov2-test-v0.2.0"})
    write_summary(data, "evaluation", GOOD)
    said = f"measured on {RELEASE}; the newest release is coprov2-test-v0.2.0"
    assert read_sources(data)[0].stale == said


@pytest.mark.parametrize("state", ["stale", "missing", "failed"])
def test_a_room_that_differs_from_its_settings_is_stale(data, state: str):
    write_summary(data, "evaluation", GOOD)
    assert read_sources(data, {"evaluation": state})[0].stale.startswith(f"the room is {state}")


@pytest.mark.parametrize("state", ["done", "short"])
def test_a_room_as_its_settings_say_is_not(data, state: str):
    write_summary(data, "evaluation", GOOD)
    assert read_sources(data, {"evaluation": state})[0].stale == ""
