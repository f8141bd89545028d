"""The page on a phone: Chromium at 390 pixels; wide tables scroll inside themselves."""

import dataclasses

import pytest

from alignguard_data.storage import manifest as manifests
from alignguard_train.evaluation.config import PromptSetConfig
from alignguard_train.evaluation.room import evaluate_all
from tests.alignguard_data.images.drawn_images import DrawnImages
from tests.alignguard_train.evaluation.test_room import world
from tests.alignguard_train.evaluation.world import CONFIG, ColourFeatures, RedScorer

CHROMIUM = "/usr/bin/chromium"
PHONE = {"width": 390, "height": 844}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phone")
    data, adapters = world(folder)
    benign = folder / "near.csv"
    benign.write_text("prompt,concept\na box,shape.dot\na ball,shape.line\n")
    near = PromptSetConfig(name="near", path=str(benign), kind="benign")
    config = dataclasses.replace(CONFIG, prompt_sets=(near,))
    manifest = evaluate_all(
        data, adapters, DrawnImages(), [RedScorer()], config, extractor=ColourFeatures()
    )
    return data.partition("evaluation") / manifest.file("report.html").name


def test_the_page_does_not_scroll_sideways_and_its_tables_do(page_file):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=PHONE)
        page.goto(page_file.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        boxes = page.evaluate(
            "[...document.querySelectorAll('.scroll')].map(b => [b.clientWidth, b.scrollWidth])"
        )
        images = page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        browser.close()
    assert wide <= PHONE["width"]
    assert len(boxes) >= 7
    assert any(inside > shown for shown, inside in boxes)
    assert all(shown < PHONE["width"] for shown, _ in boxes)
    assert images


def test_a_table_is_named_for_every_prompt_set(page_file):
    assert manifests.load(page_file.parent.parent)
    assert "Prompt set near" in page_file.read_text()
