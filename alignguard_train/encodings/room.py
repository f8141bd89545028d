"""Room `encodings`: latents and text states of a release, shared by every training.

<root>/<profile>/encodings/plain/      both images' latents, both captions' states
<root>/<profile>/encodings/mirrored/   both mirrored images' latents, where a recipe flips

A cache that may be deleted at any time. Each folder is one partition, fingerprinted by release,
base model, VAE and precision. Its safetensors shards hold one category each; readers map them into
memory.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from alignguard_data.contracts.errors import EngineError, IntegrityError, PartitionBusy
from alignguard_data.engines.diffusion.conditions import encode_unconditional
from alignguard_data.release.reader import release_folder, train_rows
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from alignguard_data.storage.shards import atomic_file, verify_file
from alignguard_data.storage.tally import Tally
from alignguard_train.base import BaseModel
from alignguard_train.encodings.encoder import (
    ENCODE_ROWS,
    ENCODED_PIXELS,
    EncodedPreferences,
    Preferences,
    count_rows,
    encode_mirrored,
    encode_plain,
    images_at_once,
    preferences_of,
    size_of,
    stream_rows,
)
from alignguard_train.encodings.mapped import MappedConditions, MappedRows

log = logging.getLogger(__name__)

ROOM = "encodings"
FORMAT = 3
"""Part of the fingerprint: raise it when the files of an equal release change."""
Kind = Literal["plain", "mirrored"]
SHARD_BATCHES = 8
"""Batches per shard: what a killed process loses at most, and what memory holds of each
category."""
ROWS = pa.schema(
    [
        ("place", pa.int64()),
        ("pair_id", pa.string()),
        ("concept", pa.string()),
        ("category", pa.string()),
        ("shard", pa.string()),
    ]
)
TABLES = {"rows": ROWS}
_EMPTY = "empty.safetensors"
_WAIT_SECONDS = 0.1

_ENCODERS: dict[Kind, Callable[[Preferences, BaseModel], dict[str, Tensor]]] = {
    "plain": encode_plain,
    "mirrored": encode_mirrored,
}


def spec(data: DataRoot, base: BaseModel, kind: Kind) -> PartitionSpec:
    """Spec of one cache; loads the base model, as the fingerprint includes its precision.

    Args:
        data: the data root.
        base: the base model.
        kind: plain or mirrored.

    Returns:
        What the partition is made of: the train rows, the model, and the precision of its denoiser
        and VAE.

    Raises:
        InputMissing: there is no release.
    """
    return PartitionSpec(
        folder=data.partition(ROOM, kind),
        room=ROOM,
        key=kind,
        config={
            **basis(ROOM, format=FORMAT, engine=base, tables=TABLES),
            base.family.denoiser: str(base.denoiser.dtype),
            "vae": str(base.pipe.vae.dtype),
            "batches": [ENCODE_ROWS, ENCODED_PIXELS, SHARD_BATCHES],
        },
        inputs=train_rows(data),
        models=base.models,
    )


def shared_encodings(
    data: DataRoot,
    base: BaseModel,
    categories: Sequence[str],
    *,
    flip: bool,
    repeats: Mapping[str, int] | None = None,
    costs: Mapping[str, tuple[float, float]] | None = None,
) -> EncodedPreferences:
    """The release's train pairs of ``categories`` in release order, memory-mapped.

    Missing encodings are made first, or waited for while another process makes them. If one shard
    is damaged, all are remade.

    Args:
        data: the data root.
        base: the base model.
        categories: keys of those that are read.
        flip: also read the mirrored images' latents.
        repeats: how often a pair is a row, by its id: once where it is not named, 0 leaves it out.
        costs: of the chosen and the rejected image by pair id, if the recipe reads them.

    Returns:
        One row per pair and repetition.

    Raises:
        InputMissing: there is no release.
        EngineError: it has no train pair of these categories.
        IntegrityError: an image of the release cannot be decoded.
    """
    plain, rows = _open(data, base, "plain", categories, repeats or {})
    if not rows:
        raise EngineError(f"the release has no train pair of {', '.join(categories)}")
    mirrored = _open(data, base, "mirrored", categories, repeats or {})[0] if flip else {}
    return EncodedPreferences(
        concepts=[row["concept"] for row in rows],
        categories=[row["category"] for row in rows],
        chosen=plain["chosen"],
        rejected=plain["rejected"],
        unsafe=_conditions(plain, "unsafe"),
        safe=_conditions(plain, "safe"),
        empty=_conditions(plain, "empty")[torch.tensor([0])],
        chosen_flipped=mirrored.get("chosen_flipped"),
        rejected_flipped=mirrored.get("rejected_flipped"),
        costs=None if costs is None else torch.tensor([costs[row["pair_id"]] for row in rows]),
    )


def _conditions(mapped: dict[str, MappedRows], name: str) -> MappedConditions:
    return MappedConditions(mapped[f"{name} states"], mapped.get(f"{name} pooled"))


def _open(
    data: DataRoot,
    base: BaseModel,
    kind: Kind,
    categories: Sequence[str],
    repeats: Mapping[str, int],
) -> tuple[dict[str, MappedRows], list[dict[str, str]]]:
    """Tensors by name, and their rows.

    Maps them under the lock, so a newer release cannot remove the files in between.
    """
    wanted = spec(data, base, kind)
    with _waiting(wanted) as work:
        if work.done:
            try:
                return _map(work.folder, work.done, categories, repeats)
            except IntegrityError as error:
                log.warning("encoding again: %s", error)
        return _map(work.folder, _make(data, base, kind, work), categories, repeats)


@contextmanager
def _waiting(wanted: PartitionSpec) -> Iterator[PartitionWork]:
    """The locked partition; waits while another process makes it."""
    with ExitStack() as stack:
        waited = 0
        while True:
            try:
                work = stack.enter_context(open_partition(wanted))
                break
            except PartitionBusy:
                if not waited:
                    log.info("waiting for another process to encode %s", wanted.folder)
                waited += 1
                time.sleep(_WAIT_SECONDS)
        yield work


def _make(data: DataRoot, base: BaseModel, kind: Kind, work: PartitionWork) -> Manifest:
    """Encode what is missing; a batch holds pairs of one category, as in ``encode.encode``."""
    work.partial.mkdir(parents=True, exist_ok=True)
    pending: dict[str, list[dict[str, object]]] = {}
    shards: dict[str, int] = {}
    rows: list[dict[str, object]] = []

    def save(category: str) -> None:
        name = f"{category}-{shards.get(category, 0):05d}.safetensors"
        shards[category] = shards.get(category, 0) + 1
        taken = pending.pop(category)
        rows.extend(
            {
                **{key: row[key] for key in ("place", "pair_id", "concept", "category")},
                "shard": name,
            }
            for row in taken
        )
        if not (work.partial / name).exists():  # else a killed process completed it
            _save(work.partial / name, _ENCODERS[kind](preferences_of(taken), base))

    left = count_rows(release_folder(data))
    for place, row in enumerate(stream_rows(release_folder(data))):
        category = str(row["category"])
        pending.setdefault(category, []).append({**row, "place": place})
        left[category] -= 1
        full = SHARD_BATCHES * images_at_once(*size_of(pending[category][0]))
        # A category's last rows are not held until the end: seven of them are gigabytes.
        if len(pending[category]) >= full or not left[category]:
            save(category)
    names = sorted({str(row["shard"]) for row in rows})
    if kind == "plain":
        names.append(_EMPTY)
        nothing = encode_unconditional(base.pipe).tensors()
        _save(work.partial / _EMPTY, {f"empty {name}": x for name, x in nothing.items()})
    return work.finish(
        tables={"rows": pa.Table.from_pylist(rows, schema=ROWS)},
        extra_files={name: work.partial / name for name in names},
        tally=Tally(wanted=len(rows), made=len(rows), unit="pairs"),
    )


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_file(path) as temporary:
        save_file({name: x.cpu().contiguous() for name, x in tensors.items()}, temporary)


def _map(
    folder: Place, manifest: Manifest, categories: Sequence[str], repeats: Mapping[str, int]
) -> tuple[dict[str, MappedRows], list[dict[str, str]]]:
    """Verify and map the shards of ``categories``.

    Raises:
        IntegrityError: a shard does not match its manifest.
    """
    table = manifests.read(folder, "rows").to_pylist()
    table = [row for row in table if row["category"] in set(categories)]
    parts: dict[str, list[Tensor]] = {}
    for shard in dict.fromkeys(row["shard"] for row in table):
        file = manifest.file(shard)
        verify_file(folder, file)
        for name, tensor in _mapped(Path(str(folder / file.name))).items():
            parts.setdefault(name, []).append(tensor)
    order = torch.tensor([row["place"] for row in table], dtype=torch.long).argsort()
    times = torch.tensor([repeats.get(row["pair_id"], 1) for row in table], dtype=torch.long)
    order = order.repeat_interleave(times[order])
    mapped = {name: MappedRows(tensors, order) for name, tensors in parts.items()}
    empty = [file for file in manifest.files if file.name.endswith(_EMPTY)]
    for file in empty:
        verify_file(folder, file)
        for name, tensor in _mapped(Path(str(folder / file.name))).items():
            mapped[name] = MappedRows([tensor], torch.tensor([0]))
    return mapped, [table[i] for i in order.tolist()]


def _mapped(path: Path) -> dict[str, Tensor]:
    """A safetensors file's tensors, memory-mapped."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
