"""Reads the cost model for other rooms: its file, and the costs of a release's pairs."""

from pathlib import Path

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import cached_copy

ROOM = "cost_model"
FILE = "cost_model.safetensors"


def cost_model_file(data: DataRoot) -> Path:
    """The cost model's file, on this machine.

    Args:
        data: the data root.

    Returns:
        A local path; one in a bucket is copied to the cache first.

    Raises:
        InputMissing: it is not trained yet.
    """
    folder = data.partition(ROOM)
    file = manifests.require(folder).file(FILE)
    return cached_copy(folder / file.name, file.bytes)


def costs_input(data: DataRoot) -> dict[str, str]:
    """The content id of the costs, as an input of a fingerprint.

    Args:
        data: the data root.

    Returns:
        The id by the room's name.

    Raises:
        InputMissing: there is no cost model, or it is of another release.
    """
    return {ROOM: _manifest(data).content_id}


def costs_of(data: DataRoot) -> dict[str, tuple[float, float]]:
    """The costs of the newest release's train pairs.

    Args:
        data: the data root.

    Returns:
        Costs of the chosen and the rejected image by pair id.

    Raises:
        InputMissing: there is no cost model, or it is of another release.
    """
    _manifest(data)
    rows = manifests.read(data.partition(ROOM), "costs")
    names = ("pair_id", "cost_chosen", "cost_rejected")
    pair_ids, chosen, rejected = (rows[name].to_pylist() for name in names)
    return dict(zip(pair_ids, zip(chosen, rejected, strict=True), strict=True))


def _manifest(data: DataRoot) -> manifests.Manifest:
    found = manifests.require(data.partition(ROOM))
    release = manifests.require(data.partition("release")).content_id
    if found.inputs.get("release") != release:
        raise InputMissing(
            "the cost model was trained on another release than the newest: make the room "
            f"{ROOM} first"
        )
    return found
