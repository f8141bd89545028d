"""A Dagster home gets our dagster.yaml; one that a user wrote or edited there is never lost."""

import logging

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from pipelines.runtime import instance_file
from pipelines.runtime.materialize import open_instance
from tests.conftest import REPOSITORY


@pytest.fixture
def kept(tmp_path):
    home = tmp_path / "dagster"
    home.mkdir()
    return home / "dagster.yaml"


def test_an_empty_home_gets_ours(kept, tmp_path, caplog):
    with open_instance(tmp_path / "data") as instance:
        assert instance.run_monitoring_enabled
    assert kept.read_bytes() == instance_file.shipped()
    assert not caplog.records


def test_a_users_own_file_stays_and_one_line_says_so(kept, tmp_path, caplog):
    kept.write_text("concurrency: {runs: {max_concurrent_runs: 7}}\n")
    with caplog.at_level(logging.WARNING), open_instance(tmp_path / "data") as instance:
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 7
    assert [r.getMessage() for r in caplog.records] == [f"keeping your own {kept}"]


def test_a_users_own_run_launcher_is_the_instances(kept, tmp_path):
    launcher = {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    }
    kept.write_text(yaml.safe_dump({"run_launcher": launcher}))
    with open_instance(tmp_path / "data") as instance:
        assert type(instance.run_launcher).__name__ == "SyncInMemoryRunLauncher"


def test_an_edit_of_ours_is_kept(kept):
    instance_file.place(kept.parent)
    edited = kept.read_text().replace("max_concurrent_runs: 2", "max_concurrent_runs: 8")
    kept.write_text(edited)
    instance_file.place(kept.parent)
    assert kept.read_text() == edited


def test_an_older_one_of_ours_gives_way(kept):
    older = b"telemetry: {enabled: false}\n"
    kept.write_bytes(instance_file._MARK + instance_file._hash(older) + b"\n" + older)
    instance_file.place(kept.parent)
    assert kept.read_bytes() == instance_file.shipped()


def test_the_unmarked_file_of_an_earlier_version_gives_way(kept):
    kept.write_bytes(instance_file.shipped().partition(b"\n")[2])
    instance_file.place(kept.parent)
    assert kept.read_bytes() == instance_file.shipped()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("run_launcher: {modul: x}\n", "modul"),
        ("run_launcher: {module: nowhere_at_all, class: X}\n", "nowhere_at_all"),
        ("concurrency: [unclosed\n", "line 2: not YAML"),
        ("- a list\n", "must be a mapping of fields"),
        (
            "telemetry: {enabled: false}\nnux:\n  enabled: !ENV x\n",
            r"nux.enabled \(line 3\): has a tag",
        ),
        (
            "nux: {enabled: false}\ntelemetry: {}\nnux: {}\n",
            r"nux \(line 3\): is given twice in one mapping, first on line 1",
        ),
        ("telemetry: {enabled: =}\n", "could not determine a constructor"),
    ],
)
def test_a_faulty_file_is_named_with_its_faults(kept, tmp_path, content, message):
    kept.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        open_instance(tmp_path / "data")
    assert str(kept) in str(caught.value)


@pytest.mark.parametrize("content", ["", "# all as Dagster has it\n", "---\n"])
def test_a_users_file_may_hold_nothing(kept, tmp_path, content):
    kept.write_text(content)
    open_instance(tmp_path / "data").dispose()
    assert kept.read_text() == content


def test_no_shipped_code_brings_a_second_yaml_reader():
    """One reader means one meaning of `yes`, `010` and a key that is given twice."""
    named = {"import yaml", "from yaml"}
    found = [
        path
        for package in ("alignguard_data", "alignguard_train", "pipelines")
        for path in (REPOSITORY / package).rglob("*.py")
        if any(line.strip().startswith(tuple(named)) for line in path.read_text().splitlines())
    ]
    assert not found
