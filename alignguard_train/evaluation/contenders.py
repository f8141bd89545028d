"""The contenders of an evaluation (adapters and peers), and the cost of rendering with each."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions at import, where no type checker sees them.

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionWork
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from alignguard_train.contracts.adapter_names import (
    ALL_SINGLE,
    EXPERT,
    MERGE,
    MERGED,
    peer_name,
)
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.judge import AdaptableGenerator
from alignguard_train.peers.concept import Concept, Peer
from alignguard_train.peers.registry import make_peer
from alignguard_train.peers.release_concepts import release_concepts

EXAMPLES = 8
"""Prompt pairs per concept that a peer may use."""
SECONDS = "seconds-"
"""Name prefix of saved batches that hold seconds instead of images."""

TIMINGS = "timings"
"""Key in the counts of an evaluation's manifest."""

_SCHEMA = pa.schema(
    [
        pa.field("adapter", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("training_seconds", pa.float64(), nullable=False),
    ]
)

COSTS_SCHEMA = pa.schema(
    [
        ("adapter", pa.string()),
        ("seconds_per_image", pa.float64()),
        ("training_seconds", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One row of the bench: a peer, a LoRA file, or neither for the base model."""

    name: str
    peer: Peer | None = None
    adapter: Path | None = None
    training_seconds: float = 0.0


class Entrant:
    """A contender on one generator. A peer is applied once, at first use, and timed."""

    def __init__(
        self, contender: Contender, generator: AdaptableGenerator, concepts: Sequence[Concept]
    ) -> None:
        self._contender, self._generator, self._concepts = contender, generator, concepts
        self._made: Any = None
        self.name = contender.name
        self.training_seconds = contender.training_seconds

    @contextmanager
    def on(self) -> Iterator[None]:
        """Render with the contender within the block.

        Raises:
            EngineError: the method does not support the base model.
        """
        generator = self._generator
        taken = (
            generator.changed(self._change)
            if self._contender.peer
            else (generator.adapted(self._contender.adapter))
        )
        with taken:
            yield

    def _change(self, pipe: Any) -> Any:
        assert self._contender.peer
        if self._made is None:
            started = time.perf_counter()
            self._made = self._contender.peer.apply(pipe, self._concepts)
            self.training_seconds = time.perf_counter() - started
        return self._made


def entrants(
    release: Place, config: EvaluationConfig, generator: AdaptableGenerator
) -> list[Entrant]:
    """The profile's peers in order, built with the release's train concepts.

    Args:
        release: folder of the release.
        config: names the peers and their parameters.
        generator: renders the base model.

    Returns:
        An entrant for each peer; none if the profile names none.

    Raises:
        ConfigError: a method's parameters are unknown or out of range.
        IntegrityError: the release's train split cannot be read.
    """
    if not config.peers:
        return []
    made: dict[str, Peer] = {}
    faults = []
    for name in config.peers:
        try:
            made[name] = make_peer(name, config.peer_params.get(name))
        except ValueError as error:
            faults.append(f"evaluation.peer_params.{name}: {error}")
    if faults:
        raise ConfigError("profile", faults)
    concepts = release_concepts(release, examples=EXAMPLES)
    return [
        Entrant(Contender(name=peer_name(name), peer=peer), generator, concepts)
        for name, peer in made.items()
    ]


def keep_seconds(
    work: PartitionWork, prefix: str, adapter: str, seconds: float, images: int, training: float
) -> None:
    """Save the rendering seconds of one adapter's or peer's images next to them."""
    row = dict(zip(_SCHEMA.names, (adapter, seconds, images, training), strict=True))
    work.save_batch(f"{SECONDS}{prefix}{images}", pa.Table.from_pylist([row], schema=_SCHEMA))


def costs(data: DataRoot, work: PartitionWork, adapters: Sequence[str]) -> pa.Table:
    """Measured seconds per image and of training, by adapter and peer.

    The batch in which an attempt was killed has no seconds.
    """
    kept = timed(data, work, adapters)
    rows = [{"adapter": name, **own} for name, own in kept.items()]
    return pa.Table.from_pylist(
        [{name: row[name] for name in COSTS_SCHEMA.names} for row in rows], schema=COSTS_SCHEMA
    )


def timed(
    data: DataRoot, work: PartitionWork, adapters: Sequence[str]
) -> dict[str, dict[str, float]]:
    """What :func:`costs` holds, with ``images``: the number that each mean is of.

    Kept in the manifest's counts and not in a file, as equal inputs give equal files.
    """
    parts = [work.load_batch(name) for name in work.saved_names() if name.startswith(SECONDS)]
    kept = pa.concat_tables([_SCHEMA.empty_table(), *parts])
    found = {}
    for name in adapters:
        own = kept.filter(pc.equal(kept["adapter"], name)).to_pylist()
        images = sum(row["images"] for row in own)
        trained = _trained(data, name, adapters)
        training = max([trained, *(row["training_seconds"] for row in own)])
        if images:
            each = sum(row["seconds"] for row in own) / images
            found[name] = {
                "seconds_per_image": each,
                "training_seconds": training,
                "images": images,
            }
    return found


def timings(counts: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """What :func:`timed` kept in an evaluation's counts; empty for one of an older version."""
    return counts.get(TIMINGS, {})


def _trained(data: DataRoot, name: str, adapters: Sequence[str]) -> float:
    """Seconds to make an adapter; a merge's include all its experts, one after another.

    Every strategy is merged in one making of the room, so each has the seconds of all of them.
    """
    experts = [key.removeprefix(EXPERT) for key in adapters if key.startswith(EXPERT)]
    if name == MERGED or name.startswith(MERGE):
        folders = [data.partition("experts", key) for key in experts] + [data.partition("merge")]
    elif name == ALL_SINGLE or name.startswith(EXPERT):
        folders = [data.partition("experts", name.removeprefix(EXPERT))]
    else:
        folders = []
    return sum(found.seconds for found in map(manifests.load, folders) if found)
