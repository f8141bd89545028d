"""What the arena compares: the base model, adapters of the study, and peers.

Adapters have the study's keys, so a folder that `make study` left is used and nothing is trained
twice.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignguard_data.contracts.records import Concept
from alignguard_data.storage.shards import atomic_file
from alignguard_train.adapters.lora import save_lora
from alignguard_train.contracts.adapter_names import ALL_SINGLE, BASE, MERGED, merge_name, peer_name
from alignguard_train.evaluation.contenders import Contender
from alignguard_train.merge.config import Strategy
from alignguard_train.peers.registry import make_peer
from benchmarks.peers import chosen
from research.study import laboratory
from research.study.glyph_trials import FULL, SAFEGUARD, train_concepts
from research.study.trial import Merged, Trained, adapter_key, parts_of
from research.study.world import World

SAFEGUARDED = "all-single-safeguard"
LABELS = {
    MERGED: "Co-Merge",
    merge_name("average"): "Average of the experts",
    merge_name("regmean"): "RegMean",
    ALL_SINGLE: "All-single, no safeguard",
    SAFEGUARDED: "All-single, safeguard 0.9",
}
"""Labels where the name in an evaluation does not say enough."""
TRAINED_PEERS = ("esd",)
"""Peers with a training seed; the others have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defence:
    """One row: ``adapter`` of the study, or ``peer`` by name, or neither for the base model."""

    name: str
    adapter: Trained | Merged | None = None
    peer: str = ""

    @property
    def seeded(self) -> bool:
        """Whether a training seed changes it."""
        return self.adapter is not None or self.peer in TRAINED_PEERS


def defences(concepts: Sequence[Concept], seed: int) -> list[Defence]:
    """Every defence with the trainings of one seed, those that need no long training first."""
    seen = tuple(train_concepts(concepts).values())
    flat = tuple(key for own in seen for key in own)
    parts = tuple(Trained(concepts=own, steps=FULL, seed=seed) for own in seen)
    single = Trained(concepts=flat, steps=FULL * len(seen), seed=seed)
    merges: dict[str, Strategy] = {
        MERGED: "co-merge",
        merge_name("average"): "average",
        merge_name("regmean"): "regmean",
    }
    made = [Defence(name=BASE)]
    made += [
        Defence(name=name, adapter=Merged(parts=parts, strategy=strategy, seed=seed))
        for name, strategy in merges.items()
    ]
    peers = ("negative_prompt", "sld", "safree", "uce", "esd", "casg")
    made += [Defence(name=peer_name(peer), peer=peer) for peer in peers]
    return [
        *made,
        Defence(name=ALL_SINGLE, adapter=single),
        Defence(name=SAFEGUARDED, adapter=dataclasses.replace(single, recipe=SAFEGUARD)),
    ]


def contender(world: World, defence: Defence, seed: int) -> Contender:
    """The defence, ready to render with: trained if it is missing, at one thread."""
    if defence.peer:
        given: dict[str, Any] = chosen(defence.peer)
        if defence.peer in TRAINED_PEERS:
            given = {**given, "seed": seed}
        return Contender(name=defence.name, peer=make_peer(defence.peer, given))
    if defence.adapter is None:
        return Contender(name=defence.name)
    return Contender(name=defence.name, adapter=_file(world, defence.adapter))


def training_seconds(world: World, defence: Defence) -> float | None:
    """CPU seconds of all trainings behind an adapter; None if one was interrupted."""
    seconds = [laboratory.training_seconds(world, part) for part in parts_of(defence.adapter)]
    return None if None in seconds else sum(one for one in seconds if one is not None)


def _file(world: World, adapter: Trained | Merged) -> Path:
    if isinstance(adapter, Trained):
        return laboratory.train(world, adapter)
    file = world.folder / "arena" / f"{adapter_key(adapter)}.safetensors"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        lora = laboratory.merged(world, adapter)
        with atomic_file(file) as path:
            save_lora(lora, path)
    return file
