"""Croissant metadata of a finished release, read back through mlcroissant itself."""

import json
import logging
import warnings

import pyarrow.parquet as pq
import pytest

from alignguard_data.contracts.errors import ReleaseRefused
from alignguard_data.release import room as release
from alignguard_data.release.croissant import CROISSANT, check_croissant, licence_url
from alignguard_data.release.export import export_release
from tests.alignguard_data.tiny_rooms import BOUNDS, RELEASE


def records(folder, name: str) -> list[dict]:
    """Records with the names of columns, as any Croissant reader gets them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlcroissant's own use of rdflib and pandas
        import mlcroissant as mlc

        dataset = mlc.Dataset(jsonld=str(folder / CROISSANT))
        rows = list(dataset.records(name))
    return [{key.removeprefix(f"{name}/"): value for key, value in row.items()} for row in rows]


def plain(value):
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_row_and_column_of_a_split_is_read(folder, split):
    rows = pq.read_table(folder / "data" / f"{split}-00000-of-00001.parquet").to_pylist()
    found = records(folder, split)
    assert [set(row) for row in found] == [set(row) for row in rows]
    for row, expected in zip(found, rows, strict=True):
        assert row.pop("jpg_0").size == row.pop("jpg_1").size == (16, 16)
        wanted = {k: v for k, v in expected.items() if k not in ("jpg_0", "jpg_1")}
        assert {key: plain(value) for key, value in row.items()} == wanted


def test_evaluation_prompts_are_read(folder):
    rows = pq.read_table(folder / "prompts" / "evaluation.parquet").to_pylist()
    found = [
        {key: plain(value) for key, value in row.items()} for row in records(folder, "evaluation")
    ]
    assert found == rows


def test_every_file_is_listed_with_its_size_and_hash(folder):
    listed = {
        item["name"]: (item["contentSize"], item["sha256"])
        for item in json.loads((folder / CROISSANT).read_text())["distribution"]
        if item["@type"] == "cr:FileObject"
    }
    files = release.show_release(folder)["files"]
    wanted = {f["name"]: (f"{f['bytes']} B", f["sha256"]) for f in files if f["name"] != CROISSANT}
    assert listed == wanted


def test_it_names_version_licence_and_who_judged(folder):
    content = json.loads((folder / CROISSANT).read_text())
    assert content["version"] == "0.1.0"
    assert content["license"] == "https://spdx.org/licenses/Apache-2.0.html"
    assert content["rai:dataAnnotationProtocol"].endswith("ink/share at least 0.02.")
    assert content["rai:machineAnnotationTools"] == ["ink at 1", "twins at 1"]


def test_a_licence_is_an_spdx_id_or_an_address():
    assert licence_url("CC-BY-4.0") == "https://spdx.org/licenses/CC-BY-4.0.html"
    assert licence_url("https://example.org/terms") == "https://example.org/terms"


def test_what_is_not_croissant_is_found(folder, tmp_path):
    content = json.loads((folder / CROISSANT).read_text())
    field = content["recordSet"][0]["field"][0]
    field["source"]["fileSet"]["@id"] = "no-such-files"
    (tmp_path / CROISSANT).write_text(json.dumps(content))
    found = check_croissant(tmp_path / CROISSANT)
    assert not found.passed
    assert "no-such-files" in found.message
    assert check_croissant(folder / CROISSANT).passed


def test_metadata_that_is_not_croissant_refuses_the_release(filled, monkeypatch):
    """A build that writes nonsense is caught by reading it back."""
    monkeypatch.setattr(release, "croissant_bytes", lambda *_: b'{"@type": "sc:Dataset"}')
    with pytest.raises(ReleaseRefused, match=r"croissant: croissant\.json"):
        release.build_release(filled.data, filled.taxonomy, RELEASE, BOUNDS)
    assert release.list_releases(filled.data) == []


@pytest.mark.parametrize(("tier", "file_format"), [("prompts", "parquet"), ("prompts", "csv")])
def test_an_export_describes_its_own_files(folder, tmp_path, tier, file_format):
    export_release(folder, tmp_path / "out", tier=tier, file_format=file_format)
    first = records(tmp_path / "out", "train")[0]
    assert plain(first["caption_safe"]) in plain(first["caption"])
    assert "jpg_0" not in first
    assert check_croissant(tmp_path / "out" / CROISSANT).passed


@pytest.mark.parametrize("tier", ["card", "full"])
def test_other_tiers_are_croissant_too(folder, tmp_path, tier):
    export_release(folder, tmp_path / "out", tier=tier, file_format="parquet")
    numbers = check_croissant(tmp_path / "out" / CROISSANT).numbers
    assert numbers["record_sets"] == (0 if tier == "card" else 3)


def test_reading_back_leaves_the_callers_log_level_alone(folder):
    log = logging.getLogger("absl")
    before = log.level
    check_croissant(folder / CROISSANT)
    assert log.level == before
