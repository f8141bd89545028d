"""The personal section of a profile: off by default, its room where it is on, its faults."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.records import to_table
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.tally import Tally
from alignguard_train.personal import PersonalConfig
from alignguard_train.personal.records import PersonalMeasure, RefusedUser, SageRow, User
from pipelines.cli.app import app
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.rooms import ALL_ROOMS, rooms_of
from tests.alignguard_train.personal.world import ADULT, write_release

GLYPHS = ("angular", "banded", "crossed", "curled", "gridded", "radial", "ringed")
NAMES = ("Hate", "Harassment", "Violence", "Self-Harm", "Sexuality", "Shocking", "Propaganda")
SECTION = {
    "recipe": "alignguard_train.personal:standin_personal",
    "users": {"categories": {n: [g] for n, g in zip(NAMES, GLYPHS, strict=True)}},
}


def written(folder, **section):
    path = folder / "my.yaml"
    path.write_text(yaml.safe_dump({"extends": "standin", "personal": SECTION | section}))
    return path


def test_the_room_is_there_only_if_the_profile_has_its_section(tmp_path):
    plain = Engines(load_profile("standin"), data_root())
    asked = Engines(load_profile(str(written(tmp_path))), data_root())
    assert rooms_of(plain) == ALL_ROOMS
    assert [room.name for room in rooms_of(asked)][-6:] == [
        "merge",
        "hardening",
        "personal",
        "evaluation",
        "robustness",
        "reemergence",
    ]
    for engines, there in ((plain, False), (asked, True)):
        keys = {key.path[-1] for key in build_definitions(engines).resolve_all_asset_keys()}
        assert ("personal_adapter" in keys) == there
        assert {room.asset for room in rooms_of(engines)} <= keys


def test_the_recipe_takes_overrides(tmp_path):
    personal = load_profile(str(written(tmp_path, overrides={"steps": 7}))).personal
    assert personal is not None
    assert personal.build_recipe().steps == 7
    assert isinstance(personal.users, PersonalConfig)


def test_a_file_of_users_lies_beside_the_profile(tmp_path):
    users = SECTION["users"] | {"users_file": "mine.jsonl"}
    personal = load_profile(str(written(tmp_path, users=users))).personal
    assert personal is not None
    assert personal.users.users_file == str(tmp_path / "mine.jsonl")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"overrides": {"step": 7}}, "personal.overrides.step: is not known"),
        ({"overrides": {"lr": -1.0}}, "lr must be positive"),
        ({"users": SECTION["users"] | {"users": 1}}, "users must be at least 2, got 1"),
        ({"users": {"users": 4}}, "personal.users.categories"),
        ({"colour": 1}, "personal.colour"),
        (
            {"users": SECTION["users"] | {"nobody": "base"}},
            "personal.users.nobody: is called personal.users.unconditional now (got 'base')",
        ),
        ({"encoder": {"use": "alignguard_train.personal:HfLLM"}}, "model: is needed"),
    ],
)
def test_a_faulty_section_is_refused_with_its_place(tmp_path, change, said):
    with pytest.raises(ConfigError) as refused:
        load_profile(str(written(tmp_path, **change)))
    assert said in str(refused.value)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A finished partition of two rows and one measure, and its release."""
    monkeypatch.setenv("ALIGNGUARD_PROFILE", str(written(tmp_path)))
    data = Engines(load_profile(), data_root()).data
    release = write_release(data.releases / "r-v0.1.0")
    rows = [
        SageRow(
            split="train", pair_id=f"train{n}", user_id="0", concept="c.x", category="angular",
            banned=True, caption="a", **images_of(release, f"train{n}"),
        )
        for n in range(2)
    ]  # fmt: skip
    measure = PersonalMeasure(
        adapter="personal", split="seen", metric="suppression", value=0.75, low=0.5, high=1.0,
        users=4, images=8,
    )  # fmt: skip
    for room, tables, counts in (
        ("release", {}, {"path": release.name}),
        (
            "personal",
            {
                "users": to_table(User, [ADULT]),
                "refused": to_table(RefusedUser, []),
                "rows": to_table(SageRow, rows),
                "measures": to_table(PersonalMeasure, [measure]),
            },
            {},
        ),
    ):
        spec = PartitionSpec(
            folder=data.partition(room), room=room, key="all", config={}, inputs={}
        )
        with open_partition(spec) as work:
            work.finish(tables=tables, counts=counts, tally=Tally(wanted=1, made=1, unit="rows"))
    (release / "manifest.json").write_text("{}")
    return tmp_path


def images_of(release, pair_id):
    import pyarrow.parquet as pq

    table = pq.read_table(release / "data" / "train-00000.parquet").to_pylist()
    pair = next(row for row in table if row["pair_id"] == pair_id)
    return {"chosen": pair["sha256_0"], "rejected": pair["sha256_1"]}


def test_the_commands_show_what_the_room_made(made):
    report = CliRunner().invoke(app, ["personal", "report"])
    assert report.exit_code == 0, report.output
    assert "0.750  [0.500, 1.000]" in report.output
    users = CliRunner().invoke(app, ["personal", "users", "--json"])
    assert json.loads(users.output)["users"][0]["banned"] == ["angular"]
    out = made / "sage"
    export = CliRunner().invoke(app, ["personal", "export", str(out)])
    assert export.exit_code == 0, export.output
    assert "2 train" in export.output
    assert "unblurred" in export.output
    assert len((out / "train" / "metadata.jsonl").read_text().splitlines()) == 2
