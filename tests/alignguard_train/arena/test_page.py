"""The page: no cell is blank, nothing comes from elsewhere, and its table sorts for everybody."""

import re

import pytest

from alignguard_data.storage.paths import DataRoot
from alignguard_train.arena.page import as_json, html, write_files
from tests.alignguard_train.arena.small import cell, source, table

CHROMIUM = "/usr/bin/chromium"


def made():
    cells = [
        cell("base", "ip_seen", 1.0), cell("base", "distance", 0.0), cell("base", "fidelity", 1.0),
        cell("merged", "ip_seen", 0.0), cell("merged", "distance", 0.03),
        cell("merged", "fidelity", 0.97), cell("merge:average", "ip_seen", 0.031),
        cell("merge:average", "distance", 0.01), cell("peer:sld", "ip_seen", 0.5, n=3),
        cell("peer:sld", "seconds_per_image", 2.5, low=None, high=None),
    ]  # fmt: skip
    late = source(cell("base", "asr:<b>zoo</b>", 0.0), room="robustness", stale="it is old")
    broken = source(room="hardening", fault="/data/hardening/summary.json is damaged: not JSON")
    return table(source(*cells), late, broken, always=("base", "merged", "all-single"))


def test_every_cell_has_a_figure_or_says_that_it_was_not_measured():
    rows = re.findall(r"<tr><th scope=\"row\" data-order.*?</tr>", html(made()), re.S)
    arena = made()
    assert len(rows) == len(arena.rows) == 5
    for row, shown in zip(rows, arena.rows, strict=True):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)
        assert len(cells) == len(arena.columns)
        missing = sum(text == "not measured" for text in cells)
        assert missing == len(arena.columns) - len(shown.cells)
        assert all("n = " in text for text in cells if text != "not measured")


def test_it_needs_nothing_from_elsewhere():
    page = html(made())
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert all(one.startswith("data:image/png;base64,") for one in sources)
    assert "@import" not in page
    assert "http" not in page


def test_what_rooms_say_is_text_and_never_markup():
    assert "<b>zoo" not in html(made())


def test_a_file_that_could_not_be_read_is_named():
    assert "/data/hardening/summary.json is damaged: not JSON" in html(made())


def test_equal_tables_give_equal_bytes():
    assert html(made()) == html(made())


def test_json_states_every_cell(tmp_path):
    data = DataRoot(root=tmp_path, profile="test")
    page, numbers = write_files(data, made())
    assert page.read_bytes()
    assert numbers.read_bytes()
    found = as_json(made())
    rows = {row["name"]: row["cells"] for row in found["rows"]}
    assert all(set(cells) == {c["key"] for c in found["columns"]} for cells in rows.values())
    assert rows["all-single"]["ip_seen"] == {"state": "not measured"}
    assert rows["base"]["ip_seen"]["state"] == "measured"
    assert rows["base"]["asr:<b>zoo</b>"]["state"] == "stale"
    assert rows["peer:sld"]["ip_seen"]["other_basis"] == "n = 3, the base model's 100"
    assert found["faults"] == ["/data/hardening/summary.json is damaged: not JSON"]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def opened(browser, tmp_path):
    file = tmp_path / "arena.html"
    file.write_text(html(made()))

    def open_at(width: int):
        page = browser.new_page(viewport={"width": width, "height": 844})
        page.goto(file.as_uri())
        return page

    return open_at


def order(page) -> list[str]:
    return page.evaluate(
        "[...document.querySelectorAll('#arena tbody th')].map(h => h.dataset.order)"
    )


@pytest.mark.browser
def test_a_key_press_sorts_both_ways_with_the_missing_last(opened):
    page = opened(1280)
    button = page.get_by_role("button", name="IP, seen concepts")
    button.focus()
    page.keyboard.press("Enter")
    assert order(page) == ["Merged adapter", "Merge · average", "SLD", "Base model", "All-single"]
    head = page.get_by_role("columnheader", name="IP, seen concepts")
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.get_by_role("status").inner_text() == "Sorted by IP, seen concepts, ascending"
    page.keyboard.press("Enter")
    assert order(page) == ["Base model", "SLD", "Merge · average", "Merged adapter", "All-single"]
    assert head.get_attribute("aria-sort") == "descending"


@pytest.mark.browser
def test_only_one_column_is_sorted_by_and_more_is_better_starts_at_the_top(opened):
    page = opened(1280)
    page.get_by_role("button", name="IP, seen concepts").click()
    page.get_by_role("button", name="Fidelity").click()
    assert page.locator("[aria-sort]").count() == 1
    assert order(page)[:2] == ["Base model", "Merged adapter"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways_and_its_table_does(opened, width: int):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    region = page.locator(".scroll").first
    assert region.get_attribute("tabindex") == "0"
    if width == 390:
        assert region.evaluate("box => box.scrollWidth > box.clientWidth")
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
