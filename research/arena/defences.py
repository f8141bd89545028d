"""What the arena compares: the base model, adapters of the study, peers, hardened adapters, guards.

Adapters have the study's keys, so a folder that `make study` left is used and nothing is trained
twice. Hardened adapters and guards are read from the data roots that made them.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.contracts.records import Concept
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import atomic_file
from alignguard_train.adapters.lora import save_lora
from alignguard_train.contracts.adapter_names import (
    ALL_SINGLE,
    BASE,
    GUARD,
    MERGED,
    hardened_name,
    merge_name,
    peer_name,
)
from alignguard_train.evaluation.contenders import Contender
from alignguard_train.guards.config import GUARDS
from alignguard_train.guards.reader import guard_file
from alignguard_train.hardening.reader import hardened_weights
from alignguard_train.merge.config import Strategy
from alignguard_train.merge.room import merged_weights
from alignguard_train.peers.registry import make_peer
from benchmarks.peers import TRAINED as TRAINED_PEERS
from benchmarks.peers import chosen
from research.hardening.measure import ROUNDS
from research.study import laboratory
from research.study.glyph_trials import FULL, SAFEGUARD, train_concepts
from research.study.trial import Merged, Trained, adapter_key, parts_of
from research.study.world import World

PROFILE = "standin"
SAFEGUARDED = "all-single-safeguard"
WEAK, CONTROL = "weak", "control"
"""The merge that `python -m research.hardening` hardens, and its control."""
LABELS = {
    MERGED: "Co-Merge",
    merge_name("average"): "Average of the experts",
    merge_name("regmean"): "RegMean",
    ALL_SINGLE: "All-single, no safeguard",
    SAFEGUARDED: "All-single, safeguard 0.9",
    WEAK: "Weak merge, experts of 30 steps",
    hardened_name(ROUNDS): f"Weak merge, hardened {ROUNDS} rounds",
    CONTROL: f"Weak merge, as many steps as {ROUNDS} rounds",
}
"""Labels where the name in an evaluation does not say enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defence:
    """One row: ``adapter`` of the study, ``peer`` or ``guard`` by name, or ``file``.

    None of them is the base model; a guard is in front of it.
    """

    name: str
    adapter: Trained | Merged | None = None
    peer: str = ""
    guard: str = ""
    file: Path | None = None

    @property
    def seeded(self) -> bool:
        """Whether a training seed changes it."""
        return (bool(self.adapter or self.file) and not self.guard) or self.peer in TRAINED_PEERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where defences are read that the study's folder does not hold.

    Attributes:
        hardened: folder of `python -m research.hardening`; None leaves its rows out.
        guards: data root with trained guards; None leaves theirs out.
    """

    hardened: Path | None = None
    guards: Path | None = None


def defences(concepts: Sequence[Concept], seed: int, places: Places | None = None) -> list[Defence]:
    """Every defence with the trainings of one seed, those that need no long training first.

    Args:
        concepts: of the study's world.
        seed: of trainings and attacks.
        places: of hardened adapters and guards; what is not there yet has no row.

    Returns:
        The defences; guards, which have no training seed, with seed 0 only.
    """
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
    peers = ("negative_prompt", "sld", "safree", "uce", "esd", "casg", "adv_unlearn")
    made += [Defence(name=peer_name(peer), peer=peer) for peer in peers]
    found = places or Places()
    return [
        *made,
        *_guards(found.guards if seed == 0 else None),
        *_hardened(found.hardened, seed),
        Defence(name=ALL_SINGLE, adapter=single),
        Defence(name=SAFEGUARDED, adapter=dataclasses.replace(single, recipe=SAFEGUARD)),
    ]


def _guards(root: Path | None) -> list[Defence]:
    if root is None:
        return []
    found = []
    for kind in GUARDS:
        with contextlib.suppress(InputMissing):
            file = guard_file(DataRoot(root=root, profile=PROFILE), kind)
            found.append(Defence(name=GUARD + kind, guard=kind, file=file))
    return found


def _hardened(folder: Path | None, seed: int) -> list[Defence]:
    """The weak merge, its last round, and its control, of those that are made."""
    if folder is None:
        return []
    data = DataRoot(root=folder / f"seed-{seed}", profile=PROFILE)
    control = folder / f"seed-{seed}" / "control" / f"round-{ROUNDS}" / "merged.safetensors"
    found = []
    with contextlib.suppress(InputMissing):
        found.append(Defence(name=WEAK, file=merged_weights(data, "co-merge")))
    with contextlib.suppress(InputMissing):
        found.append(Defence(name=hardened_name(ROUNDS), file=hardened_weights(data, ROUNDS)))
    if control.is_file():
        found.append(Defence(name=CONTROL, file=control))
    return found


def contender(world: World, defence: Defence, seed: int) -> Contender:
    """The defence, ready to render with: trained if it is missing, at one thread."""
    if defence.peer:
        given: dict[str, Any] = chosen(defence.peer)
        if defence.peer in TRAINED_PEERS:
            given = {**given, "seed": seed}
        return Contender(name=defence.name, peer=make_peer(defence.peer, given))
    if defence.file and not defence.guard:
        return Contender(name=defence.name, adapter=defence.file)
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
