"""The Dagster UI as a person uses it, in headless Chromium."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import command_environment, reduced_profile
from tests.test_end_to_end import ALIGNGUARD, run

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 120_000  # ms: a run starts a process that imports everything

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome on the PATH"),
]


@contextmanager
def ui(root: Path, profile: Path) -> Iterator[str]:
    """`alignguard ui` on a free port; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*ALIGNGUARD, "ui", "--port", str(port)],
        env=command_environment(root, profile),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, "the UI ended"
                time.sleep(0.5)
        else:
            pytest.fail("the UI did not answer in two minutes")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def page(tmp_path: Path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        opened = browser.new_page(viewport={"width": 1500, "height": 1000})
        opened.set_default_timeout(PATIENCE)
        yield opened
        browser.close()


def test_one_concept_is_materialized_by_hand_and_shows_its_numbers(page, tmp_path):
    root = tmp_path / "data"
    profile = reduced_profile(tmp_path / "profile")
    assert run(root, profile, "run", "--until", "taxonomy").returncode == 0
    with ui(root, profile) as address:
        page.goto(f"{address}/assets/reduced/prompt_pairs")
        page.get_by_role("button", name="Materialize").first.click()
        page.get_by_text("Select a partition or create one").click()
        page.keyboard.type("angular.bolt")
        page.get_by_text("angular.bolt", exact=True).first.click()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Launch").last.click()
        for _ in range(PATIENCE // 1000):
            page.wait_for_timeout(1000)
            if made := [path.parent.name for path in root.glob("reduced/prompts/*/manifest.json")]:
                break
        page.wait_for_timeout(5000)  # its event follows the manifest
        page.goto(f"{address}/assets/reduced/prompt_pairs?view=partitions&partition=angular.bolt")
        page.get_by_text("accepted_share").wait_for()
        page.get_by_text("Materialized", exact=True).first.wait_for()
    assert made == ["angular.bolt"]


def test_a_blocking_check_stops_a_release_and_says_why(page, tmp_path):
    root = tmp_path / "data"
    bounds = {"min_pairs_per_concept": 99}
    profile = reduced_profile(tmp_path / "profile", writing__pairs_per_concept=4, audit=bounds)
    assert yaml.safe_load(profile.read_text())["audit"] == bounds
    stopped = run(root, profile, "run", "--until", "release")
    assert stopped.returncode == 1
    with ui(root, profile) as address:
        page.goto(f"{address}/asset-groups")
        for group in ("dataset", "alignment"):
            page.get_by_text(group, exact=True).first.wait_for()
        page.goto(f"{address}/assets/reduced/index?view=checks")
        page.get_by_text("prompts", exact=True).first.click()
        page.get_by_text("fewer than 99").first.wait_for()
        page.goto(f"{address}/assets/reduced/release")
        page.get_by_text("Never materialized").first.wait_for()
    assert not list((root / "reduced").glob("releases/coprov2*"))
