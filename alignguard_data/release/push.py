"""Pushes one tier of a release to a Hugging Face hub in one commit, gated before any image.

The repository is made private first, then gated. A single commit then uploads the export and
deletes files of the previous push that it no longer has. The tag comes last and marks a complete
push. Files from elsewhere are never deleted. ``HfApi.upload_folder`` is not used: with Xet it makes
many commits, between which readers would see a mix.
"""

import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignguard_data.contracts.errors import ConfigError, ReleaseRefused, StorageError
from alignguard_data.release.checks import read_manifest
from alignguard_data.release.export import TIERS, export_release
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.places import Place
from alignguard_data.storage.shards import ShardFile, describe

if TYPE_CHECKING:
    from huggingface_hub import HfApi

KEPT_ON_HUB = ".gitattributes"  # the hub's own file
READ_AS_DATA = ("data/", "prompts/")
"""Folders in which the card's configs find rows."""
SHOWN = 5
_ADDRESS = re.compile(r"hf://(?:datasets/)?([^/]+/[^/]+)/?")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Push:
    """A push: what to send, and where.

    Attributes:
        address: ``hf://datasets/org/name``.
        tier: how much of the release, ``card``, ``prompts`` or ``full``.
        gated: ask readers to accept terms; False keeps an existing gate.
        private: whether the repository is private; None makes new ones private and changes no
            other.
        take_over: push also into a repository with other files, and replace those of equal names.
    """

    address: str
    tier: str
    gated: bool = False
    private: bool | None = None
    take_over: bool = False

    @property
    def repository(self) -> str:
        """``org/name`` of the address; empty if the address is invalid."""
        match = _ADDRESS.fullmatch(self.address)
        return match[1] if match else ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """The result of a push.

    Attributes:
        repository: ``org/name``.
        tag: tag of the commit.
        message: message of the commit.
        files: its files.
        url: of the commit; empty for a dry run.
    """

    repository: str
    tag: str
    message: str
    files: tuple[ShardFile, ...]
    url: str


def push_release(
    folder: Place, push: Push, *, dry_run: bool = False, endpoint: str | None = None
) -> Pushed:
    """Export a tier of a release and push it to a repository of the Hub.

    The token is huggingface_hub's own (``HF_TOKEN``, or ``hf auth login``).

    Args:
        folder: folder of the release.
        push: what to send, and where.
        dry_run: only report what would be sent.
        endpoint: URL of the Hub, by default ``HF_ENDPOINT`` or huggingface.co.

    Returns:
        What was sent, or would be.

    Raises:
        ConfigError: the address is invalid, tier ``full`` has no gate, or there is no token; all
            faults at once, before any request.
        ReleaseRefused: the release is not what its manifest says.
        ReleaseRefused: the repository has other files and ``push.take_over`` is not set, or such
            files are where readers would take them for the release's.
        StorageError: the hub cannot be reached, refuses, or did not apply a setting.
    """
    _check(push, dry_run)
    with tempfile.TemporaryDirectory(prefix="alignguard-push-") as temporary:
        export = Path(temporary) / "export"
        exported = export_release(folder, export, tier=push.tier, file_format="parquet")
        files = (*exported, describe(export / MANIFEST, rows=0))
        manifest = read_manifest(folder)
        tag = f"v{manifest['version']}"
        done = Pushed(
            repository=push.repository,
            tag=tag,
            message=f"{folder.name}, tier {push.tier}, content id {manifest['content_id']}",
            files=files,
            url="",
        )
        return done if dry_run else _send(push, done, export, endpoint)


def settings_of(push: Push) -> str:
    """The repository settings of a push, in words."""
    visibility = {None: "private if new", True: "private", False: "public when complete"}
    gate = "gated, access by manual approval" if push.gated else "gate left as it is"
    return f"{visibility[push.private]}; {gate}"


def _check(push: Push, dry_run: bool) -> None:
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    faults = []
    try:
        validate_repo_id(push.repository)
    except HFValidationError as error:
        reason = f": {error}" if push.repository else ""
        faults.append(f"the address must be hf://org/name (got {push.address!r}){reason}")
    if push.tier not in TIERS:
        faults.append(f"--tier must be one of {', '.join(TIERS)} (got {push.tier!r})")
    if push.tier == "full" and not push.gated:
        faults.append("--tier full holds unsafe images, so it needs --gated")
    if not dry_run and not get_token():
        faults.append("no token: set HF_TOKEN, or run `hf auth login`")
    if faults:
        raise ConfigError("push", faults)


def _send(push: Push, planned: Pushed, export: Path, endpoint: str | None) -> Pushed:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint)
    with _one_line(api.endpoint):
        api.whoami()  # fails on a rejected token before anything is created
        stale = _stale_files(api, push, planned.files)
        _prepare(api, push, planned.tag)
        sent = api.create_commit(
            push.repository,
            [*_deletions(stale), *_additions(export, planned.files)],
            commit_message=planned.message,
            repo_type="dataset",
        )
        if push.private is False:
            api.update_repo_settings(push.repository, private=False, repo_type="dataset")
        api.create_tag(
            push.repository,
            tag=planned.tag,
            tag_message=planned.message,
            revision=sent.oid,
            repo_type="dataset",
        )
    return dataclasses.replace(planned, url=sent.commit_url)


def _prepare(api: "HfApi", push: Push, tag: str) -> None:
    """Create the repository, make it private and gated, and check that the hub did so."""
    name = push.repository
    api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
    asked: dict[str, Any] = {"gated": "manual"} if push.gated else {}
    if push.private:
        asked["private"] = True
    if asked:
        api.update_repo_settings(name, repo_type="dataset", **asked)
    found = api.dataset_info(name, expand=["gated", "private"])
    if push.gated and not found.gated:
        raise StorageError(f"{name} is not gated although this was requested: nothing was sent")
    if push.private and not found.private:
        raise StorageError(f"{name} is not private although this was requested: nothing was sent")
    refs = api.list_repo_refs(name, repo_type="dataset")
    if tag in [ref.name for ref in refs.tags]:
        raise StorageError(
            f"{name} holds {tag} already, and a published version does not change: push another "
            "version, or another tier to a separate repository"
        )


def _stale_files(api: "HfApi", push: Push, files: Sequence[ShardFile]) -> list[str]:
    """Files of an earlier push that this one does not replace.

    Raises:
        ReleaseRefused: see :func:`push_release`; nothing was changed.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        there = set(api.list_repo_files(push.repository, repo_type="dataset")) - {KEPT_ON_HUB}
    except RepositoryNotFoundError:
        return []
    earlier = _earlier_push(api, push) if MANIFEST in there else None
    ours = {MANIFEST, *earlier} & there if earlier is not None else set()
    wanted = {file.name for file in files}
    foreign = there - ours
    mixed = sorted(n for n in foreign - wanted if n.startswith(READ_AS_DATA))
    faults = [
        f"{n} is not ours, and readers would take it for the release's: remove it" for n in mixed
    ]
    if foreign and earlier is None and not push.take_over:
        shown = ", ".join(sorted(foreign)[:SHOWN]) + (", ..." if len(foreign) > SHOWN else "")
        faults.append(
            f"it holds {len(foreign)} file(s) that no push of ours wrote ({shown}): push to a "
            "repository of its own, or give --take-over, which replaces those of equal names and "
            "leaves the others"
        )
    elif replaced := sorted(foreign & wanted if not push.take_over else ()):
        faults.append(f"{', '.join(replaced)} would be replaced and is not ours: give --take-over")
    if faults:
        lines = "\n".join(f"  - {fault}" for fault in faults)
        raise ReleaseRefused(f"nothing was sent to {push.repository}:\n{lines}")
    return sorted(ours - wanted)


def _earlier_push(api: "HfApi", push: Push) -> set[str] | None:
    """The files of the previous push by its manifest; None if the manifest is not ours."""
    with tempfile.TemporaryDirectory(prefix="alignguard-pushed-") as folder:
        place = api.hf_hub_download(
            push.repository, MANIFEST, repo_type="dataset", local_dir=folder
        )
        try:
            manifest = json.loads(Path(place).read_bytes())
            if {"release", "release_content_id", "tier"} <= manifest.keys():
                return {str(file["name"]) for file in manifest["files"]}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
    return None


def _deletions(names: Sequence[str]) -> list[Any]:
    from huggingface_hub import CommitOperationDelete

    return [CommitOperationDelete(name) for name in names]


def _additions(export: Path, files: Sequence[ShardFile]) -> list[Any]:
    from huggingface_hub import CommitOperationAdd

    return [CommitOperationAdd(file.name, export / file.name) for file in files]


@contextmanager
def _one_line(endpoint: str) -> Iterator[None]:
    """Turn the hub's errors into one line that shows neither token nor files."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        yield
    except HfHubHTTPError as error:
        raise StorageError(_refused(endpoint, error)) from error
    except (httpx2.HTTPError, ConnectionError) as error:  # ConnectionError: HF_HUB_OFFLINE is set
        raise StorageError(f"cannot reach the hub at {endpoint}: {error}") from error
    except (RuntimeError, ValueError) as error:  # an interrupted upload, or a refused card
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError):
            raise StorageError(_refused(endpoint, cause)) from error
        line = " ".join(f"{error} {cause or ''}".split())
        raise StorageError(f"the hub at {endpoint} refused the release: {line}") from error


def _refused(endpoint: str, error: Any) -> str:
    status = error.response.status_code
    where = error.response.request.url.path
    said = " ".join((error.server_message or "").split())
    later = status >= 500 or status == 429
    reason = {
        401: "it does not accept the token: check HF_TOKEN, or run `hf auth login`",
        403: "the token may not write there: it needs write access to the namespace",
        404: "it does not know the repository, or the token may not see it",
    }.get(status, "try again later" if later else "the request was refused")
    detail = f" ({said})" if said else ""
    return f"the hub at {endpoint} answered {status} to {where}{detail}: {reason}"
