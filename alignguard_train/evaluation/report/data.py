"""Report data, from the evaluation's tables and the other rooms' manifests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_train.arena.sources import Source
from alignguard_train.arena.table import Arena, arena_of
from alignguard_train.contracts.adapter_names import (
    ALL_SINGLE,
    BASE,
    EXPERT,
    MERGED,
    PEER,
    expert_name,
)
from alignguard_train.contracts.intervals import Interval
from alignguard_train.evaluation.config import RELEASE_SET
from alignguard_train.evaluation.records import EvaluationRow
from alignguard_train.evaluation.report.defences import cells_of_tables

MAX_PAIRS = 16
"""Prompt pairs per grid."""

TABLES = ("metrics", "paired", "distributions", "pictures")
"""Evaluation tables of a report; also ``costs``, if peers were measured, and those of guards."""
GUARD_TABLES = ("guards", "guard_times", "guarded_pictures")
"""Where the section names guards."""

FUNNEL_ROOMS = (
    ("prompts", "prompt pairs accepted"),
    ("images", "images rendered"),
    ("pairs", "preference pairs kept"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of the funnel: rows kept, and rows lost per reason."""

    name: str
    kept: int
    lost: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One adapter minus another on the same prompts and seeds.

    ``more``, ``fewer`` and ``p`` as of :func:`alignguard_train.evaluation.statistics.mcnemar`, None
    unless values are yes or no.
    """

    interval: Interval
    more: int | None
    fewer: int | None
    p: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """All data of plots and report; holds no timestamp.

    Attributes:
        profile: name of the profile.
        release: name of the release.
        release_content_id: its content.
        config: of the room's manifest.
        models: revisions by model id.
        versions: of libraries, by name.
        adapters: names, in the order of the tables.
        funnel: stages of the dataset, from concepts to pairs.
        pictures: rows of images that are shown.
    """

    profile: str
    release: str
    release_content_id: str
    config: Mapping[str, Any]
    models: Mapping[str, str]
    versions: Mapping[str, str]
    adapters: tuple[str, ...]
    metrics: Mapping[tuple[str, str, str, str], Interval]
    """By adapter, side, subset and metric."""
    paired: Mapping[tuple[str, str, str, str, str], Difference] = field(default_factory=dict)
    """By adapter, the one it is compared with, side, subset and metric."""
    distributions: Mapping[tuple[str, str, str, str], Mapping[str, Any]] = field(
        default_factory=dict
    )
    """FID and KID with reference and n, by adapter, side, subset and metric."""
    funnel: tuple[Stage, ...] = ()
    histories: Mapping[str, pa.Table] = field(default_factory=dict)
    """Training history by adapter name."""
    pictures: tuple[dict[str, Any], ...] = ()
    peers: tuple[str, ...] = ()
    """Other published methods; they have a separate table."""
    arena: Arena | None = None
    """This evaluation's part of the arena; None if the images were not given."""
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """``seconds_per_image`` and ``training_seconds`` by adapter and peer."""
    guards: Mapping[tuple[str, str, str, str, str], Interval] = field(default_factory=dict)
    """By guard, adapter, side, subset and measure."""
    guard_times: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """``latency_p50_ms``, ``latency_p95_ms`` and ``encoder_share`` by guard."""
    guard_pictures: tuple[dict[str, Any], ...] = ()
    """Rows of the report's pairs behind guards, with the images that were drawn again."""

    def get(self, adapter: str, side: str, metric: str, subset: str = "all") -> Interval | None:
        """One metric, or None if it was not measured."""
        return self.metrics.get((adapter, side, subset, metric))

    @property
    def categories(self) -> tuple[str, ...]:
        """The evaluated categories, sorted."""
        subsets = {key[2] for key in self.metrics}
        return tuple(sorted(s.partition(":")[2] for s in subsets if s.startswith("category:")))

    @property
    def prompt_sets(self) -> dict[str, str]:
        """Name and kind of the prompt sets measured in addition to the release's."""
        return {chosen["name"]: chosen["kind"] for chosen in self.config.get("prompt_sets", ())}


def gather(
    data: DataRoot,
    *,
    config: Mapping[str, Any],
    models: Mapping[str, str],
    tables: Mapping[str, pa.Table],
) -> ReportData:
    """Build it from an evaluation's configuration and models, and its tables."""
    release = manifests.require(data.partition("release"))
    metrics = _intervals(tables["metrics"])
    names = tuple(dict.fromkeys(key[0] for key in metrics))
    adapters = tuple(name for name in names if not name.startswith(PEER))
    return ReportData(
        profile=data.profile,
        release=str(release.counts["path"]),
        release_content_id=release.content_id,
        config=config,
        models=models,
        versions=manifests.library_versions(),
        adapters=adapters,
        metrics=metrics,
        paired=_differences(tables["paired"]),
        distributions={_place(row): row for row in tables["distributions"].to_pylist()},
        funnel=(*_funnel(data, release), _release_stage(release)),
        histories=_histories(data, adapters),
        pictures=tuple(tables["pictures"].to_pylist()),
        peers=tuple(name for name in names if name.startswith(PEER)),
        arena=_arena(data, str(release.counts["path"]), config, tables),
        costs={row.pop("adapter"): row for row in tables["costs"].to_pylist()}
        if "costs" in tables
        else {},
        **_guards(tables),
    )


def _guards(tables: Mapping[str, pa.Table]) -> dict[str, Any]:
    if "guards" not in tables:
        return {}
    names = ("guard", "adapter", "side", "subset", "measure")
    return {
        "guards": {
            tuple(row[name] for name in names): _interval(row)
            for row in tables["guards"].to_pylist()
        },
        "guard_times": {row.pop("guard"): row for row in tables["guard_times"].to_pylist()},
        "guard_pictures": tuple(tables["guarded_pictures"].to_pylist()),
    }


def _arena(
    data: DataRoot, release: str, config: Mapping[str, Any], tables: Mapping[str, pa.Table]
) -> Arena | None:
    if "images" not in tables or not tables["metrics"].num_rows:
        return None
    cells = cells_of_tables(tables, config)
    source = Source(room="evaluation", file="", cells=cells, release=release)
    return arena_of([source], profile=data.profile, release=release, always=())


def _intervals(table: pa.Table) -> dict[tuple[str, str, str, str], Interval]:
    return {_place(row): _interval(row) for row in table.to_pylist()}


def _differences(table: pa.Table) -> dict[tuple[str, str, str, str, str], Difference]:
    return {
        (row["adapter"], row["against"], *_place(row)[1:]): Difference(
            interval=_interval(row), more=row["more"], fewer=row["fewer"], p=row["p"]
        )
        for row in table.to_pylist()
    }


def _place(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return row["adapter"], row["side"], row["subset"], row["metric"]


def _interval(row: Mapping[str, Any]) -> Interval:
    return Interval(value=row["value"], low=row["low"], high=row["high"], n=row["n"])


def picture_pairs(rows: Iterable[EvaluationRow]) -> frozenset[str]:
    """Ids of the pairs in the grids: one seen and one unseen pair per category."""
    safe = [row for row in rows if row.prompt_set == RELEASE_SET and row.side == "safe"]
    chosen: dict[tuple[bool, str], str] = {}
    for row in sorted(safe, key=lambda row: row.pair_id):
        chosen.setdefault((not row.seen, row.category), row.pair_id)
    return frozenset([chosen[key] for key in sorted(chosen)][:MAX_PAIRS])


def shows(adapter: str, category: str) -> bool:
    """Whether the grids show an adapter.

    They show the base model, the category's expert, the merged adapter and All-single.
    """
    return adapter in (BASE, MERGED, ALL_SINGLE) or adapter == expert_name(category)


def _funnel(data: DataRoot, release: Manifest) -> list[Stage]:
    """The stages before the release, for its concepts only (removed ones keep their partitions)."""
    stages = []
    for room, name in FUNNEL_ROOMS:
        keys = [
            key.removeprefix(f"{room}/") for key in release.inputs if key.startswith(f"{room}/")
        ]
        parts = [m for key in sorted(keys) if (m := manifests.load(data.partition(room, key)))]
        lost: dict[str, int] = {}
        for part in parts:
            for reason, rows in part.rejected.items():
                lost[reason] = lost.get(reason, 0) + rows
        if parts:
            kept = sum(part.rows for part in parts)
            stages.append(Stage(name=name, kept=kept, lost=dict(sorted(lost.items()))))
    return stages


def _release_stage(release: Manifest) -> Stage:
    return Stage(name="pairs released", kept=release.rows, lost=dict(release.rejected))


def _histories(data: DataRoot, adapters: tuple[str, ...]) -> dict[str, pa.Table]:
    found = {}
    for name in adapters:
        if name.startswith(EXPERT) or name == ALL_SINGLE:
            folder = data.partition("experts", name.removeprefix(EXPERT))
            if manifests.load(folder):
                found[name] = manifests.read(folder, "history")
    return found
