"""One path, however it is spelt and wherever a command is started, means one place."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alignguard_data.contracts.errors import ConfigError, InputMissing, StorageError
from alignguard_data.engines.text.vllm_writer import VLLMWriter
from alignguard_data.index.sql import query
from alignguard_data.release.room import list_releases, verify_release
from alignguard_data.storage import places as storage
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import parse_root
from pipelines.cli import release as release_commands
from pipelines.cli.app import app
from pipelines.cli.report import read_summary
from pipelines.profile import Profile, load_profile, settled
from pipelines.profile_paths import ENGINES, FILES, MODELS, place_paths, placed
from pipelines.resources import Engines, data_root
from pipelines.runtime.materialize import open_instance
from tests.alignguard_data.tiny_rooms import TinyRooms
from tests.conftest import reduced_profile

GOOD_NAMES = ["plain", "two words", "ünïcödé 雪", "a#b", "100% x", "a'b", "[x]*", "a&b=c", "a:b"]
MISREAD_NAMES = ["a%41b", "a?b", "a\\b", "a\nb"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def places(folder: Path) -> list[tuple[str, Path]]:
    """Spellings of ``folder/my.yaml`` from a neighbouring folder, which is also the home folder."""
    return [
        ("my.yaml", folder / "my.yaml"),
        ("./my.yaml", folder / "my.yaml"),
        ("sub/../my.yaml", folder / "my.yaml"),
        ("~/my.yaml", folder / "my.yaml"),
        (str(folder / "my.yaml"), folder / "my.yaml"),
    ]


@pytest.mark.parametrize("number", range(5))
def test_every_spelling_of_a_profile_is_the_same_file(number, home, monkeypatch):
    (home / "sub").mkdir()
    shutil.move(reduced_profile(home), home / "my.yaml")
    monkeypatch.chdir(home)
    spelling, place = places(home)[number]
    lasting = settled(spelling)
    monkeypatch.chdir("/")
    assert Path(lasting).resolve() == place.resolve()
    assert load_profile(lasting).name == "reduced"


@pytest.mark.parametrize("placed_before", [True, False])
def test_the_ui_opens_the_profile_that_a_relative_path_names(placed_before, home, monkeypatch):
    """`ui` leaves the working directory, and its code location is another process again."""
    reduced_profile(home / "work", taxonomy="taxonomy.yaml").rename(home / "work" / "my.yaml")
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("ALIGNGUARD_PROFILE", "standin" if placed_before else "my.yaml")
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, command: started.append(command))
    chosen = ["--profile", "./my.yaml"] if placed_before else []
    done = CliRunner().invoke(app, [*chosen, "--root", "here", "ui"], catch_exceptions=False)
    assert done.exit_code == 0
    assert started
    monkeypatch.chdir("/")
    engines = Engines(load_profile(), data_root())
    assert engines.profile.name == "reduced"
    assert len(engines.taxonomy.categories) == 2
    assert engines.data.root == home / "work" / "here"
    assert Path(VLLMWriter(model=str(home)).interpreter).is_absolute()


def test_a_shipped_name_stays_a_name():
    assert settled("sd15") == "sd15"


@pytest.mark.parametrize("spelling", ["other.yaml", "./other.yaml", "sub/../other.yaml"])
def test_a_relative_taxonomy_lies_beside_the_profile(spelling, home, monkeypatch):
    profile = reduced_profile(home / "place", taxonomy=spelling)
    (home / "place" / "sub").mkdir()
    (home / "place" / "taxonomy.yaml").rename(home / "place" / "other.yaml")
    for elsewhere in (home, home / "place", Path("/")):
        monkeypatch.chdir(elsewhere)
        loaded = load_profile(os.path.relpath(profile))
        monkeypatch.chdir("/")
        assert len(Engines(loaded, home / "data").taxonomy.categories) == 2


DOCUMENT = """
taxonomy: {path}
base_model: {{model: {path}, vae: {path}}}
writer: {{params: {{interpreter: {path}, engine: {{chat_template: {path}}}}}}}
concept_check: {{params: {{model: {path}}}}}
embedder: {{params: {{model: {path}}}}}
evaluation_features: {{params: {{weights: {path}}}}}
image_scorers: [{{params: {{vectors: {path}}}}}]
pair_scorers: [{{params: {{model: {path}}}}}]
evaluation_scorers: [{{params: {{files: [{path}]}}}}]
filter: {{flags: [{{calibrated: {path}}}]}}
evaluation: {{prompt_sets: [{{path: {path}}}], flags: [{{calibrated: {path}}}]}}
"""


def leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in leaves(one)]
    if isinstance(value, list):
        return [leaf for one in value for leaf in leaves(one)]
    return [value]


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        ("./x", "/place/x"),
        ("../x", "/x"),
        ("~/x", "/home/x"),
        ("/abs/x", "/abs/x"),
        ("./a b/ü#?%41", "/place/a b/ü#?%41"),
    ],
)
def test_every_path_of_a_profile_is_placed_alike(spelling, meant, monkeypatch):
    monkeypatch.setenv("HOME", "/home")
    content = yaml.safe_load(DOCUMENT.format(path=json.dumps(spelling)))
    place_paths(content, Path("/place"))
    found = leaves(content)
    assert len(found) == 14
    assert set(found) == {meant}


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("org/name", "org/name"),
        ("name", "name"),
        ("mine/base", "{place}/mine/base"),
        ("models/a/b", "{place}/models/a/b"),
        ("package:pipelines/profiles", "package:pipelines/profiles"),
    ],
)
def test_a_model_is_a_folder_beside_the_profile_or_a_hub_id(model, meant, tmp_path):
    (tmp_path / "mine" / "base").mkdir(parents=True)
    content = {
        "base_model": {"model": model},
        "embedder": {"params": {"model": model}},
        "writer": {"params": {"model": "mine/base", "served_revision": "1"}},
        "concept_check": {"params": {"instruction": "own.yaml"}},
    }
    place_paths(content, tmp_path)
    wanted = meant.format(place=tmp_path)
    assert content["base_model"]["model"] == content["embedder"]["params"]["model"] == wanted
    assert content["writer"]["params"]["model"] == "mine/base"  # the server's own name for it
    assert content["concept_check"]["params"]["instruction"] == str(tmp_path / "own.yaml")


def test_every_engine_of_a_profile_is_looked_at():
    """A field of another engine or path would be read from the working directory in silence."""
    texts = {name: str(field.annotation) for name, field in Profile.model_fields.items()}
    engines = {name for name, text in texts.items() if "Engine" in text}
    nested = {(name, *path) for name, *path in ENGINES if path and path[0] != "*"}
    assert nested == {
        ("cost_model", "features"),
        ("personal", "encoder"),
        ("personal", "ban_writer"),
    }
    assert engines == {engine[0] for engine in ENGINES} - {"personal", "cost_model"}
    assert {place[0] for place in FILES} | {place[0] for place in MODELS} <= set(texts)


def test_a_folder_that_is_not_there_is_a_fault_of_the_field(tmp_path):
    path = reduced_profile(tmp_path, base_model__model="./nowhere", base_model__vae="~/nowhere")
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    assert len(caught.value.faults) == 2
    assert "base_model.model" in str(caught.value)
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_what_is_no_text_is_left_to_the_profiles_own_checks(tmp_path):
    assert placed(3, tmp_path) == 3
    with pytest.raises(ConfigError, match=r"taxonomy: .*\(got 3\)"):
        load_profile(str(reduced_profile(tmp_path, taxonomy=3)))


@pytest.mark.parametrize("variable", ["ALIGNGUARD_ROOT", "DAGSTER_HOME", "ALIGNGUARD_SCRATCH"])
def test_a_tilde_of_an_env_file_is_the_home_folder(variable, home, monkeypatch, reduced):
    """As `docker run --env-file` gives it: no shell has seen it."""
    monkeypatch.chdir(home)
    monkeypatch.setenv(variable, "~/deep/x")
    if variable == "ALIGNGUARD_ROOT":
        assert parse_root(os.environ[variable]) == home / "deep/x"
    elif variable == "DAGSTER_HOME":
        with open_instance(home / "data") as instance:
            assert instance.root_directory == str(home / "deep/x")
    else:
        assert storage._scratch_base() == home / "deep/x/alignguard"
    assert not (home / "~").exists()
    with pytest.raises(StorageError, match="no such home folder"):
        parse_root("~nobody-here/x")


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_root_of_any_good_name_holds_all_that_is_made(name, tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME")
    root = tmp_path / name
    rooms = TinyRooms(parse_root(str(root))).fill("release")  # type: ignore[arg-type]
    assert query(rooms.data, "select count(*) from release_pairs")[1][0][0] > 0
    assert verify_release(list_releases(rooms.data)[-1]) == []
    with open_instance(root) as instance:
        instance.add_dynamic_partitions("p", ["a"])
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", MISREAD_NAMES)
@pytest.mark.parametrize("command", ["status", "plan", "run", "release list", "sql x", "ui"])
def test_a_root_that_databases_misread_is_refused_before_anything_is_made(
    name, command, tmp_path, monkeypatch
):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    done = CliRunner().invoke(app, ["--root", name, *command.split()])
    assert isinstance(done.exception, StorageError)
    assert "ALIGNGUARD_ROOT" in str(done.exception)
    assert repr(str(work / name)) in str(done.exception)
    assert list(work.iterdir()) == []


def test_a_moved_root_tells_its_new_place(tmp_path):
    old = DataRoot(root=tmp_path / "old", profile="p")
    inside = {
        "ip": {},
        "preservation": {},
        "seconds": {},
        "release": "v0.1.0",
        "adapter": old.inside(old.base / "merge" / "a.safetensors"),
        "report": old.inside(old.base / "evaluation" / "report.html"),
    }
    (old.base / "evaluation").mkdir(parents=True)
    (old.base / "evaluation" / "summary.json").write_text(json.dumps(inside))
    (tmp_path / "old").rename(tmp_path / "new")
    found = read_summary(DataRoot(root=tmp_path / "new", profile="p"))
    assert found["adapter"] == str(tmp_path / "new/p/merge/a.safetensors")
    assert found["report"] == str(tmp_path / "new/p/evaluation/report.html")


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> DataRoot:
    return TinyRooms(tmp_path_factory.mktemp("released")).fill("release").data


@pytest.mark.parametrize("spelling", ["copy", "./copy", "sub/../copy", "~/copy", "{home}/copy/"])
def test_a_release_is_verified_by_any_spelling_of_its_folder(spelling, released, home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "sub").mkdir()
    shutil.copytree(list_releases(released)[-1], home / "copy")
    monkeypatch.setattr(release_commands, "_data", lambda: released)
    folder = release_commands._folder(spelling.format(home=home))
    assert verify_release(folder) == []
    (home / "copy" / "README.md").unlink()
    assert len(verify_release(folder)) == 1


def test_files_are_named_relative_to_a_relative_folder(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c?.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert storage.files(Path("a")) == storage.files(tmp_path / "a") == ["b/c?.txt"]


@pytest.mark.parametrize("version", ["0.1.0", "v0.1.0", "coprov2-tiny-v0.1.0", None])
def test_a_release_is_named_by_exactly_its_version(version, released, monkeypatch):
    monkeypatch.setattr(release_commands, "_data", lambda: released)
    assert release_commands._folder(version) == list_releases(released)[-1]


@pytest.mark.parametrize("version", ["0", "1.0", ".1.0", "v0.1", "-v0.1.0", "", "tiny-v0.1.0"])
def test_a_part_of_a_version_names_no_release(version, released, monkeypatch):
    monkeypatch.setattr(release_commands, "_data", lambda: released)
    with pytest.raises(InputMissing, match=r"there: coprov2-tiny-v0\.1\.0"):
        release_commands._folder(version)
