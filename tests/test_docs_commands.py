"""Every command that a page shows is one that the program takes."""

import pytest

from tests.documented import PAGES, Shown, commands_of, fault, shown


@pytest.mark.parametrize("one", shown(), ids=str)
def test_a_shown_command_is_taken_by_the_real_parser(one: Shown):
    assert not fault(one)


def test_commands_are_found_on_the_pages_that_have_them():
    found = {one.page for one in shown()}
    assert {"README.md", "docs/how-to/dataset.md", "docs/how-to/gpu.md"} <= found
    assert len(shown()) > 60
    assert len(PAGES) > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```console\n$ alignguard runn\n```", "runn"),
        ("```\nalignguard run --untill release\n```", "--untill"),
        ("```console\n$ alignguard release diff v0.1.0\n```", "new"),
        ("```console\n$ alignguard plan   # (--gpus h100)\n```", "--gpus"),
        ("```console\n$ X=1 alignguard --profil sd15 run && make run\n```", "--profil"),
        ("```console\n$ make runs\n```", "runs"),
        ("so `alignguard status --verifi` reads all", "--verifi"),
        ("so `alignguard withdraw` does it", "withdraw"),
        ("so `make benches` does it", "benches"),
    ],
)
def test_a_command_that_is_not_there_is_seen(text: str, message: str):
    faults = [fault(one) for one in commands_of(text, "page.md")]
    assert message in "".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        "so `alignguard release withdraw` does it",
        "```console\n$ pip install x && make run\n```",
        "```console\n$ alignguard plan   # costs  (--gpu h100)\n```",
    ],
)
def test_what_is_right_is_let_through(text: str):
    found = list(commands_of(text, "page.md"))
    assert found
    assert not any(map(fault, found))
