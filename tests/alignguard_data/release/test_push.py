"""Pushing a release, through huggingface_hub's real client, to a hub on this machine."""

import dataclasses
import json
import socket

import pytest
from typer.testing import CliRunner

from alignguard_data.contracts.errors import ConfigError, ReleaseRefused, StorageError
from alignguard_data.release.export import export_release
from alignguard_data.release.push import Push, push_release
from alignguard_data.release.room import show_release
from pipelines.cli.app import app
from tests.alignguard_data.conftest import flip_a_byte
from tests.alignguard_data.release.hub_double import TOKEN, Repository, serve_hub

# huggingface_hub hands httpx2 a file in a way that it wants to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "org/coprov2"
FULL = Push(address=f"hf://{NAME}", tier="full", gated=True)


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with serve_hub() as served:
        yield served
    from huggingface_hub.utils import close_session

    close_session()


def exported(folder, tmp_path, tier: str) -> dict[str, bytes]:
    to = tmp_path / f"expected-{tier}"
    export_release(folder, to, tier=tier, file_format="parquet")
    return {p.relative_to(to).as_posix(): p.read_bytes() for p in to.rglob("*") if p.is_file()}


@pytest.mark.parametrize("tier", ["card", "prompts", "full"])
def test_what_arrives_is_the_export_byte_for_byte(folder, hub, tmp_path, tier):
    push = Push(address=f"hf://{NAME}", tier=tier, gated=tier == "full")
    push_release(folder, push, endpoint=hub.url)
    assert hub.repositories[NAME].files == exported(folder, tmp_path, tier)


def test_it_is_private_and_gated_before_the_first_byte_of_an_image(folder, hub):
    push_release(folder, FULL, endpoint=hub.url)
    repository = hub.repositories[NAME]
    assert (repository.private, repository.gated) == (True, "manual")
    first = next(i for i, (_, _, body) in enumerate(hub.requests) if b"PAR1" in body[:512])
    before = hub.paths()[:first]
    assert f"PUT /api/datasets/{NAME}/settings" in before
    assert before.index("POST /api/repos/create") < before.index(
        f"PUT /api/datasets/{NAME}/settings"
    )
    assert not any(
        "/preupload/" in path
        for path in before[: before.index(f"PUT /api/datasets/{NAME}/settings")]
    )


def test_one_commit_and_a_tag_name_version_and_content(folder, hub):
    done = push_release(folder, FULL, endpoint=hub.url)
    (commit,) = hub.repositories[NAME].commits
    content = show_release(folder)["content_id"]
    assert commit["summary"] == f"coprov2-tiny-v0.1.0, tier full, content id {content}"
    assert hub.repositories[NAME].tags == {"v0.1.0": commit["oid"]}
    assert done.url.endswith(commit["oid"])


def earlier_push(*names: str) -> dict[str, bytes]:
    """What a push of ours left: files, and the manifest that lists them."""
    manifest = {
        "release": "coprov2-tiny-v0.0.9",
        "release_content_id": "0",
        "tier": "full",
        "files": [{"name": name, "bytes": 3, "sha256": "0"} for name in names],
    }
    return {**dict.fromkeys(names, b"old"), "manifest.json": json.dumps(manifest).encode()}


def test_files_of_an_older_version_go_in_the_same_commit(folder, hub, tmp_path):
    """A shard that is left over would be read together with the new ones."""
    there = {
        **earlier_push("data/train-00007-of-00008.parquet"),
        ".gitattributes": b"the hub's own",
    }
    hub.repositories[NAME] = Repository(private=True, files=dict(there))
    push_release(folder, FULL, endpoint=hub.url)
    expected = {**exported(folder, tmp_path, "full"), ".gitattributes": b"the hub's own"}
    assert hub.repositories[NAME].files == expected
    assert len(hub.repositories[NAME].commits) == 1


def test_a_file_that_is_not_ours_stays_beside_an_older_version(folder, hub, tmp_path):
    there = {**earlier_push("data/train-00007-of-00008.parquet"), "notes.txt": b"someone's"}
    hub.repositories[NAME] = Repository(private=True, files=dict(there))
    push_release(folder, FULL, endpoint=hub.url)
    expected = {**exported(folder, tmp_path, "full"), "notes.txt": b"someone's"}
    assert hub.repositories[NAME].files == expected


FOREIGN = {
    "a model": {"model.safetensors": b"x", "config.json": b"{}"},
    "a card alone": {"README.md": b"someone's"},
    "another manifest": {"manifest.json": b'{"name": "an app"}', "icon.png": b"x"},
    "a list as manifest": {"manifest.json": b"[1]"},
    "no JSON as manifest": {"manifest.json": b"\xff", "a.txt": b"x"},
    "a deep manifest": {"manifest.json": b"[" * 100_000, "a.txt": b"x"},
}


@pytest.mark.parametrize("there", FOREIGN.values(), ids=FOREIGN)
def test_a_repository_of_others_is_left_alone_unless_it_is_to_be_taken_over(
    folder, hub, tmp_path, there
):
    hub.repositories[NAME] = Repository(private=False, files=dict(there))
    with pytest.raises(ReleaseRefused, match="no push of ours wrote"):
        push_release(folder, FULL, endpoint=hub.url)
    kept = hub.repositories[NAME]
    assert (kept.files, kept.commits, kept.private, kept.gated) == (there, [], False, False)
    push_release(folder, dataclasses.replace(FULL, take_over=True), endpoint=hub.url)
    assert hub.repositories[NAME].files == {**there, **exported(folder, tmp_path, "full")}


@pytest.mark.parametrize("take_over", [False, True])
@pytest.mark.parametrize("ours", [{}, earlier_push("data/test-00000-of-00001.parquet")])
def test_rows_of_others_are_never_mixed_with_a_release_and_never_deleted(
    folder, hub, ours, take_over
):
    there = {**ours, "data/train-00003-of-00009.parquet": b"someone's"}
    hub.repositories[NAME] = Repository(private=True, files=dict(there))
    with pytest.raises(ReleaseRefused, match=r"data/train-00003-of-00009\.parquet is not ours"):
        push_release(folder, dataclasses.replace(FULL, take_over=take_over), endpoint=hub.url)
    assert hub.repositories[NAME].files == there


def test_a_card_of_others_beside_an_older_version_is_not_replaced_unasked(folder, hub):
    there = {**earlier_push("data/test-00000-of-00001.parquet"), "README.md": b"someone's"}
    hub.repositories[NAME] = Repository(private=True, files=dict(there))
    with pytest.raises(ReleaseRefused, match=r"README\.md would be replaced and is not ours"):
        push_release(folder, FULL, endpoint=hub.url)
    assert hub.repositories[NAME].files == there


@pytest.mark.parametrize(
    ("private", "was", "then"),
    [(None, None, True), (None, False, False), (True, False, True), (False, None, False)],
)
def test_who_may_see_it(folder, hub, private, was, then):
    """New repositories are private without a flag; existing ones stay as they are."""
    if was is not None:
        hub.repositories[NAME] = Repository(private=was)
    push = Push(address=f"hf://{NAME}", tier="card", private=private)
    push_release(folder, push, endpoint=hub.url)
    assert hub.repositories[NAME].private is then


def test_a_public_push_is_private_until_it_is_complete(folder, hub):
    push = Push(address=f"hf://{NAME}", tier="card", private=False)
    push_release(folder, push, endpoint=hub.url)
    order = [path for path in hub.paths() if "/commit/" in path or path.endswith("/settings")]
    assert [path.rsplit("/", 1)[1] for path in order] == ["main", "settings"]


BAD = {
    "full without a gate": (Push(address=f"hf://{NAME}", tier="full"), "so it needs --gated"),
    "another scheme": (Push(address="s3://org/name", tier="card"), "must be hf://org/name"),
    "no organisation": (Push(address="hf://name", tier="card"), "must be hf://org/name"),
    "a bad name": (Push(address="hf://org/a..b", tier="card"), "must be hf://org/name"),
    "tier": (Push(address=f"hf://{NAME}", tier="all"), "--tier must be one of"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_refused_sends_nothing(folder, hub, kind):
    push, message = BAD[kind]
    with pytest.raises(ConfigError, match=message):
        push_release(folder, push, endpoint=hub.url)
    assert hub.requests == []


def test_all_faults_are_named_at_once(folder, hub, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError) as caught:
        push_release(folder, Push(address="name", tier="full"), endpoint=hub.url)
    assert len(caught.value.faults) == 3
    assert "HF_TOKEN" in caught.value.faults[-1]
    assert hub.requests == []


def test_a_damaged_release_sends_nothing(folder, hub):
    flip_a_byte(next((folder / "data").glob("train-*.parquet")))
    with pytest.raises(ReleaseRefused, match="train-"):
        push_release(folder, FULL, endpoint=hub.url)
    assert hub.requests == []


def test_a_hub_that_does_not_gate_gets_nothing(folder, hub):
    hub.ignores_settings = True
    with pytest.raises(StorageError, match="not gated although"):
        push_release(folder, FULL, endpoint=hub.url)
    assert hub.repositories[NAME].files == {}
    assert hub.blobs == {}


def test_a_version_that_is_there_is_not_pushed_again(folder, hub):
    push_release(folder, FULL, endpoint=hub.url)
    sent = len(hub.requests)
    with pytest.raises(StorageError, match="already, and a published version"):
        push_release(folder, FULL, endpoint=hub.url)
    assert not any("/commit/" in path for path in hub.paths()[sent:])


def one_line(error: StorageError) -> str:
    assert "\n" not in str(error)
    assert TOKEN not in str(error)
    return str(error)


def test_a_rejected_token_is_one_line_and_makes_nothing(folder, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(StorageError) as caught:
        push_release(folder, FULL, endpoint=hub.url)
    assert "does not accept the token" in one_line(caught.value)
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("part", "status", "said"),
    [("/repos/create", 403, "needs write access"), ("/settings", 503, "try again later"),
     ("/commit/", 500, "try again later"), ("/tag/", 429, "try again later")],
)  # fmt: skip
def test_a_hub_that_refuses_is_one_line(folder, hub, part, status, said):
    hub.faults[part] = status
    with pytest.raises(StorageError) as caught:
        push_release(folder, FULL, endpoint=hub.url)
    assert str(status) in one_line(caught.value)
    assert said in one_line(caught.value)
    assert "v0.1.0" not in getattr(hub.repositories.get(NAME), "tags", {})


def test_a_refused_upload_is_one_line_and_no_commit(folder, hub):
    hub.faults["/lfs/"] = 403
    with pytest.raises(StorageError) as caught:
        push_release(folder, FULL, endpoint=hub.url)
    assert "403" in one_line(caught.value)
    assert hub.repositories[NAME].commits == []


def test_after_a_failed_commit_the_next_push_finishes(folder, hub, tmp_path):
    hub.faults["/commit/"] = 500
    with pytest.raises(StorageError):
        push_release(folder, FULL, endpoint=hub.url)
    hub.faults.clear()
    push_release(folder, FULL, endpoint=hub.url)
    assert hub.repositories[NAME].files == exported(folder, tmp_path, "full")


def test_a_hub_that_cannot_be_reached_is_one_line(folder, hub):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(StorageError) as caught:
        push_release(folder, FULL, endpoint=nowhere)
    assert f"cannot reach the hub at {nowhere}" in one_line(caught.value)


def test_the_command_shows_a_dry_run_and_sends_nothing(folder, hub, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    arguments = ["release", "push", f"hf://{NAME}", str(folder), "--tier", "full", "--gated"]
    shown = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "data/train-00000-of-00001.parquet" in shown.output
    assert f"to {NAME} (private if new; gated, access by manual approval), tag v0.1.0" in (
        shown.output
    )
    assert "nothing was sent" in shown.output
    assert hub.requests == []


def test_the_command_pushes(folder, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
    done = CliRunner().invoke(app, ["release", "push", f"hf://datasets/{NAME}", str(folder)])
    assert done.exit_code == 0, done.output
    assert f"{NAME} v0.1.0: " in done.output
    assert "plots/pairs.png" in hub.repositories[NAME].files
