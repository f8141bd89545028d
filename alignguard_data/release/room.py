"""Room ``release``: CoProV2, an immutable, versioned Parquet dataset of the kept pairs.

A release is written under a temporary name and renamed; the room's partition points to it. Equal
rows give equal files, so an unchanged release is not written again.
"""

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from alignguard_data.audit.funnel import KEPT, concept_manifests, totals
from alignguard_data.audit.rooms import AuditBounds, audit_rooms
from alignguard_data.contracts.errors import IntegrityError, ReleaseRefused
from alignguard_data.contracts.findings import Finding
from alignguard_data.contracts.protocols import Progress, TextEmbedder
from alignguard_data.dedup.store import edges_file, synced_edges
from alignguard_data.prompts.hard_negatives import HardNegativeOrigin
from alignguard_data.release.card import render_card
from alignguard_data.release.changes import change_log, diff, level
from alignguard_data.release.checks import (
    audit_release,
    manifest_text,
    read_manifest,
    rows_of,
    seal,
)
from alignguard_data.release.checks import verify_release as verify_release
from alignguard_data.release.config import ReleaseConfig as ReleaseConfig
from alignguard_data.release.croissant import CROISSANT, check_croissant, croissant_bytes
from alignguard_data.release.files import SplitWriter, write_single
from alignguard_data.release.folders import (
    discard_damaged,
    fresh_folder,
    latest_release,
    next_name,
    release_exists,
    rename_into_place,
)
from alignguard_data.release.folders import list_releases as list_releases
from alignguard_data.release.folders import version_of as version_of
from alignguard_data.release.hard_rows import by_attack, rows_in
from alignguard_data.release.plan import (
    SPLITS,
    ReleasePlan,
    describe_release,
    leaks_file,
    plan_release,
    release_concepts,
)
from alignguard_data.release.reader import EVALUATION, ROOM, hard_part, train_part
from alignguard_data.release.rows import (
    EVALUATION_SCHEMA,
    concept_tables,
    evaluation_table,
    release_parts,
    release_schema,
)
from alignguard_data.release.withdrawals import read_withdrawals
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis, digests
from alignguard_data.storage.manifest import MANIFEST, Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.places import Place
from alignguard_data.storage.shards import ShardFile, describe, write_bytes
from alignguard_data.storage.tally import Tally
from alignguard_data.taxonomy.parse import Taxonomy

TRAINED_ON = ("pair_id", "category", "caption", "caption_safe", "sha256_0", "sha256_1")
"""The columns that training depends on, with images by hash."""
TABLES = {"data": release_schema([]), "evaluation": EVALUATION_SCHEMA}
"""Fixed columns of the release's files; score columns are added from the scores."""
FORMAT = 2
"""Part of the fingerprint: increment when the files change for equal rows."""


def spec(
    data: DataRoot,
    taxonomy: Taxonomy,
    config: ReleaseConfig,
    bounds: AuditBounds,
    embedder: TextEmbedder | None = None,
) -> PartitionSpec:
    """Spec of the release, over the partitions of all concepts.

    Args:
        data: the data folder.
        taxonomy: its concepts.
        config: the profile's section ``release``.
        bounds: the profile's section ``audit``.
        embedder: judges meanings for ``max_semantic_cosine``.

    Returns:
        The spec of the one partition ``all``.

    Raises:
        InputMissing: a partition is not complete.
    """
    found = concept_manifests(data, taxonomy)
    withdrawn = sorted(read_withdrawals(data))
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={
            **dataclasses.asdict(config),
            "bounds": dataclasses.asdict(bounds),
            "taxonomy": [taxonomy.name, taxonomy.version],
            "splits": {concept.key: concept.split for concept in taxonomy.concepts},
            **basis(ROOM, format=FORMAT, judges_text=True, tables=TABLES),
            **({"withdrawn": withdrawn} if withdrawn else {}),
            "embedder": config.judged_by(embedder),
        },
        inputs={f"{room}/{key}": manifest.content_id for (room, key), manifest in found.items()},
        promises=partial(release_exists, data),
    )


def build_release(
    data: DataRoot,
    taxonomy: Taxonomy,
    config: ReleaseConfig,
    bounds: AuditBounds,
    progress: Progress | None = None,
    embedder: TextEmbedder | None = None,
) -> Manifest:
    """Write a release, or point to the latest one if it has the same rows.

    ``counts["path"]`` is the folder's name under ``data.releases``. Tables: ``pairs`` (released
    pairs with their split) and ``files``.

    Args:
        data: the data folder.
        taxonomy: its concepts.
        config: the profile's section ``release``.
        bounds: the profile's section ``audit``.
        progress: called with the number of rows just written.
        embedder: judges meanings; needed for a ``max_semantic_cosine``.

    Returns:
        The room's manifest.

    Raises:
        InputMissing: a partition is not complete.
        ReleaseRefused: an audit failed; all failed findings are named.
        NothingMade: no pair is left to release.
        IntegrityError: a shard differs from its manifest, named.
        ValueError: ``max_semantic_cosine`` is set without an embedder.
    """
    with open_partition(spec(data, taxonomy, config, bounds, embedder)) as work:
        if work.done:
            return work.done
        findings = audit_rooms(data, taxonomy, bounds)
        _refuse(findings)
        parts = release_parts(data, release_concepts(taxonomy))
        with synced_edges(edges_file(data), parts, config.limits, embedder) as (edges, remembering):
            plan = plan_release(data, taxonomy, edges, read_withdrawals(data))
            work.raise_if_nothing(*_tally(plan))
            temporary = fresh_folder(data)
            schema = release_schema(plan.score_columns)
            files = _write_data(data, plan, config, schema, temporary, progress)
            described = {
                **describe_release(data, taxonomy, plan, files),
                "fingerprint": work.spec.fingerprint,
                "inputs": dict(work.spec.inputs),
                "findings": [dataclasses.asdict(finding) for finding in findings],
                "limits": dataclasses.asdict(config.limits),
                "embedder": config.judged_by(embedder),
                "format": FORMAT,
                "licence": config.licence,
            }
            folder = _publish(data, temporary, described, plan, schema, remembering)
        return _point_to(work, folder, plan)


def _tally(plan: ReleasePlan) -> tuple[Tally, dict[str, int]]:
    """Released pairs out of the rendered ones, and the lost ones by reason."""
    lost: Counter[str] = Counter()
    for stage, reason, rows in totals(plan.funnel):
        if stage in ("pairs", "release") and reason != KEPT:
            lost[reason] += rows
    made = sum(len(pairs) for pairs in plan.pair_ids.values())
    wanted = max(1, made + lost.total())  # a release without any pairs counts as nothing made
    return Tally(wanted=wanted, made=made, unit="released pairs", choosing=True), dict(lost)


def show_release(folder: Place) -> dict[str, Any]:
    """Read a release's manifest.

    Args:
        folder: folder of the release.

    Returns:
        Its content.

    Raises:
        IntegrityError: it is missing or was changed.
    """
    return read_manifest(folder)


def _refuse(findings: Sequence[Finding]) -> None:
    failed = [finding for finding in findings if not finding.passed]
    if failed:
        lines = "\n".join(f"  - {finding.name}: {finding.message}" for finding in failed)
        raise ReleaseRefused(f"no release: {len(failed)} check(s) failed:\n{lines}")


def _write_data(
    data: DataRoot,
    plan: ReleasePlan,
    config: ReleaseConfig,
    schema: pa.Schema,
    folder: Path,
    progress: Progress | None,
) -> list[ShardFile]:
    files = []
    for split in SPLITS:
        writer = SplitWriter(
            folder,
            split,
            schema,
            row_group_bytes=config.row_group_bytes,
            max_file_bytes=config.max_file_bytes,
        )
        for concept in plan.concepts:
            pair_ids = plan.pair_ids[concept.key]
            if concept.split == split and pair_ids:
                for table in concept_tables(data, concept, pair_ids, schema):
                    writer.add(table)
                    if progress:
                        progress(table.num_rows)
        files += writer.close()
    tables = [evaluation_table(c, plan.evaluation[c.key]) for c in plan.concepts]
    table = pa.concat_tables([EVALUATION_SCHEMA.empty_table(), *tables])
    return [*files, write_single(folder, EVALUATION, table)]


def _publish(
    data: DataRoot,
    temporary: Path,
    described: dict[str, Any],
    plan: ReleasePlan,
    schema: pa.Schema,
    embedder: TextEmbedder | None,
) -> Place:
    latest = latest_release(data)
    if latest and _holds(data, latest, described):
        if not verify_release(latest):
            shutil.rmtree(temporary)
            return latest
        discard_damaged(latest)  # it is damaged, and the temporary folder is its good copy
        latest = latest_release(data)
    before = read_manifest(latest) if latest else None
    changes = diff(latest, temporary) if latest else []
    withdrawn = read_withdrawals(data)
    left = set(before["by_concept"]) - set(described["by_concept"]) if before else set()
    step = level(before, described, changes, withdrawn, left) if before else "minor"
    name, parent = next_name(data, described["content_id"], step)
    manifest = {
        **described,
        "name": f"CoProV2 ({data.profile})",
        "folder": name,
        "version": name.rsplit("-v", 1)[1],
        "parent": parent,
    }
    plots = _plots(temporary, manifest)
    pages = {
        "README.md": render_card(manifest, schema, plots=list(plots)).encode(),
        "CHANGELOG.md": change_log(
            name,
            parent,
            changes,
            withdrawn,
            left,
            rows_in(described),
        ).encode(),
        "leaks.json": (
            json.dumps(leaks_file(plan, manifest), indent=1, ensure_ascii=False) + "\n"
        ).encode(),
        **plots,
    }
    for file, content in pages.items():
        _add(temporary, manifest, file, content)
    _add(temporary, manifest, CROISSANT, croissant_bytes(manifest, manifest["files"], schema))
    _refuse([check_croissant(temporary / CROISSANT)])
    sealed = {**manifest, "seal": seal(manifest)}
    write_bytes(temporary / MANIFEST, manifest_text(sealed).encode())
    _refuse(audit_release(temporary, embedder))
    return rename_into_place(temporary, data.releases / name)


def _holds(data: DataRoot, latest: Place, described: dict[str, Any]) -> bool:
    """Whether a release has this content, or had it before it was damaged.

    Compares files, since the rule for content ids may have changed.
    """
    try:
        return _rows_files(read_manifest(latest)) == _rows_files(described)
    except IntegrityError:
        pointed = manifests.load(data.partition(ROOM))
        counts = pointed.counts if pointed else {}
        wanted = (latest.name, described["content_id"])
        return (counts.get("path"), counts.get("release_content_id")) == wanted


def _rows_files(manifest: dict[str, Any]) -> set[tuple[str, str]]:
    """Names and hashes of the files that hold rows, without card and plots."""
    files = [file for file in manifest["files"] if file["name"].endswith(".parquet")]
    return {(file["name"], file["sha256"]) for file in files}


def _train_rows(folder: Place, found: Mapping[str, HardNegativeOrigin]) -> dict[str, str]:
    """Digest of each category's train rows in release order, as read by its expert.

    Hard negatives have their own, by the round that found them.
    """
    return digests(
        (
            hard_part(row["category"], found[row["pair_id"]].round)
            if row["pair_id"] in found
            else train_part(row["category"]),
            [row[name] for name in TRAINED_ON],
        )
        for row in rows_of(folder, "train", TRAINED_ON).to_pylist()
    )


def _plots(folder: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    from alignguard_data.release.plots import card_plots  # imports matplotlib

    return card_plots(folder, manifest)


def _add(folder: Path, manifest: dict[str, Any], name: str, content: bytes) -> None:
    """Write one file of the release and add it to the manifest."""
    write_bytes(folder / name, content)
    written = describe(folder / name, rows=0, relative_to=folder)
    manifest["files"] = [*manifest["files"], dataclasses.asdict(written)]


def _point_to(work: PartitionWork, folder: Place, plan: ReleasePlan) -> Manifest:
    manifest = read_manifest(folder)
    columns = ("pair_id", "concept", "category", "split")
    schema = pa.schema([(column, pa.string()) for column in columns])
    tables = [schema.empty_table()]
    for c in plan.concepts:  # row by row would need a dictionary per pair
        ids = plan.pair_ids[c.key]
        same = {"concept": c.key, "category": c.category, "split": c.split}
        repeated = {column: [value] * len(ids) for column, value in same.items()}
        tables.append(pa.table({"pair_id": ids, **repeated}, schema=schema))
    files = pa.Table.from_pylist(
        [file for file in manifest["files"] if file["name"].endswith(".parquet")]
    )
    return work.finish(
        tables={"pairs": pa.concat_tables(tables), "files": files},
        rejected=Counter(plan.lost.values()),
        counts={
            "path": folder.name,
            "version": manifest["version"],
            "parent": manifest["parent"] or "",
            "release_content_id": manifest["content_id"],
            "bytes": sum(file["bytes"] for file in manifest["files"]),
            **{f"{part}_rows": n for part, n in manifest["rows"].items()},
            **{
                f"hard negatives of {a}": n
                for a, n in by_attack(rows_in(manifest).values()).items()
            },
        },
        tally=_tally(plan)[0],
        digests=_train_rows(folder, rows_in(manifest)),
    )
