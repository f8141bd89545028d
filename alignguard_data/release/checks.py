"""Audits of a finished release, using only its folder."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.findings import Finding, finding, schema_fault
from alignguard_data.contracts.protocols import TextEmbedder
from alignguard_data.dedup.decide import LEAK_KINDS, count, leak_kinds, leaks, repeats
from alignguard_data.dedup.edges import Edge, Limits, Measured, Part, identity_of
from alignguard_data.dedup.store import edges_between
from alignguard_data.release.reader import EVALUATION
from alignguard_data.release.rows import EVALUATION_SCHEMA, release_schema
from alignguard_data.safety.tables import prompt_faults
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.parquet_files import open_parquet, read_columns
from alignguard_data.storage.places import Place, files, list_folder, read_bytes
from alignguard_data.storage.shards import ShardFile, verify_file

BATCH_ROWS = 10_000
COSINE_TOLERANCE = 1e-5
"""Tolerance: a prompt's vector differs in the last digits between batches and devices, and a row
kept just under the limit must not fail the audit."""

_LIGHT = ("pair_id", "concept", "category", "caption", "caption_safe", "phash_0", "phash_1")


def manifest_text(manifest: dict[str, Any]) -> str:
    """Canonical JSON of a release manifest, so any changed byte is detected."""
    return json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_manifest(folder: Place) -> dict[str, Any]:
    """Read a release's own manifest.

    Args:
        folder: folder of the release.

    Returns:
        Its content.

    Raises:
        IntegrityError: it is missing or was changed.
    """
    path = folder / MANIFEST
    try:
        text = read_bytes(path).decode()
        manifest = json.loads(text)
        sealed = manifest.pop("seal")
        if text == manifest_text({**manifest, "seal": sealed}) and sealed == seal(manifest):
            return manifest
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing") from error
    except (ValueError, KeyError, AttributeError) as error:
        raise IntegrityError(f"{path} is not a release manifest: {error!r}") from error
    raise IntegrityError(f"{path} was changed after it was written")


def seal(manifest: dict[str, Any]) -> str:
    """sha256 (hex) of the manifest without its seal: a checksum, not a signature."""
    return hashlib.sha256(manifest_text(manifest).encode()).hexdigest()


def verify_release(folder: Place) -> list[str]:
    """Check every file of a release.

    Args:
        folder: folder of the release.

    Returns:
        Messages for files that are missing, changed or not in the manifest; empty if intact.
    """
    try:
        manifest = read_manifest(folder)
    except IntegrityError as error:
        return [str(error)]
    faults = []
    expected = [ShardFile(**file) for file in manifest["files"]]
    for file in expected:
        try:
            verify_file(folder, file)
        except IntegrityError as error:
            faults.append(str(error))
    known = {MANIFEST, *(file.name for file in expected)}
    foreign = sorted(set(files(folder)) - known)
    return faults + [f"{folder / name} is not in the manifest" for name in foreign]


def audit_release(folder: Place, embedder: TextEmbedder | None = None) -> list[Finding]:
    """Check hashes, schema, funnel sums, split leaks, duplicates and minors of a release.

    Args:
        folder: folder of the release.
        embedder: tests semantic duplicates if it is the one that made the release; the numbers say
            whether they were tested.

    Returns:
        One finding per check.
    """
    faults = verify_release(folder)
    sound = finding("hashes", faults, {"files": len(files(folder))})
    if faults:  # damaged files cannot be audited further
        return [sound]
    manifest = read_manifest(folder)
    train, test = rows_of(folder, "train"), rows_of(folder, "test")
    evaluation = open_parquet(folder / EVALUATION).read()
    limits = audited_limits(manifest, embedder)
    edges = _edges(train, test, evaluation, limits, embedder)
    return [
        sound,
        _schema(folder, manifest),
        _funnel_sums(manifest, train.num_rows + test.num_rows),
        _split_leaks(limits, edges, train, test, evaluation),
        _duplicates(limits, edges, train, test),
        _minors([train, test], evaluation),
    ]


def rows_of(folder: Place, split: str, columns: Sequence[str] = _LIGHT) -> pa.Table:
    """Read some columns of one split's rows.

    Args:
        folder: folder of the release.
        split: ``train`` or ``test``.
        columns: names of the columns.

    Returns:
        The rows in release order.

    Raises:
        IntegrityError: there are no files of this split, or one is damaged; it is named.
    """
    shards = list_folder(folder / "data", f"{split}-*.parquet")
    if not shards:
        raise IntegrityError(f"{folder} has no rows of {split}: is it a release?")
    return pa.concat_tables([_columns(shard, columns) for shard in shards])


def _columns(shard: Place, columns: Sequence[str]) -> pa.Table:
    try:
        return read_columns(shard, columns).select(list(columns))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise IntegrityError(
            f"{shard} is damaged: {' '.join(str(error).split())}; `alignguard release verify` "
            "names every damaged file"
        ) from error


def audited_limits(manifest: dict[str, Any], embedder: TextEmbedder | None) -> Limits:
    """The limits that a release is checked with.

    Args:
        manifest: of the release.
        embedder: the one at hand, if any.

    Returns:
        Its own limits; that of meanings only if ``embedder`` is the one that the release used, and
        with :data:`COSINE_TOLERANCE` added.
    """
    stored = manifest.get("limits") or {"max_phash_distance": manifest.get("max_phash_distance")}
    limits = Limits(**stored)
    cosine, made_with = limits.max_semantic_cosine, manifest.get("embedder")
    same = embedder is not None and identity_of(embedder) == made_with
    allowed = cosine + COSINE_TOLERANCE if cosine is not None and same else None
    return dataclasses.replace(limits, max_semantic_cosine=allowed)


def measured_rows(table: pa.Table) -> list[Measured]:
    """Rows of :func:`rows_of` in the form of the duplicate search."""
    return [
        Measured(
            pair_id=row["pair_id"],
            concept=sys.intern(row["concept"]),  # one string for all rows
            category=sys.intern(row["category"]),
            captions=(row["caption"], row["caption_safe"]),
            unsafe_phash=row["phash_1"],
            safe_phash=row["phash_0"],
        )
        for row in table.to_pylist()
    ]


def measured_prompts(table: pa.Table) -> list[Measured]:
    """Evaluation prompts in the form of the duplicate search."""
    return [
        Measured(
            pair_id=row["pair_id"],
            concept=row["concept"],
            category=row["category"],
            captions=(row["unsafe_prompt"], row["safe_prompt"]),
        )
        for row in table.to_pylist()
    ]


def _schema(folder: Place, manifest: dict[str, Any]) -> Finding:
    expected = release_schema(manifest["score_columns"])
    faults, shards = [], list_folder(folder / "data", "*.parquet")
    for file in shards:
        actual = open_parquet(file).schema_arrow
        if problem := schema_fault(actual, expected):
            faults.append(f"{file.name}: {problem}")
        if actual.metadata:
            faults.append(f"{file.name}: carries metadata {sorted(actual.metadata)}")
    if problem := schema_fault(open_parquet(folder / EVALUATION).schema_arrow, EVALUATION_SCHEMA):
        faults.append(f"{EVALUATION}: {problem}")
    return finding("schema", faults, {"files": len(shards) + 1, "columns": len(expected)})


def _funnel_sums(manifest: dict[str, Any], rows: int) -> Finding:
    kept = {stage: n for stage, reason, n in manifest["funnel"] if reason == "kept"}
    released = sum(n for stage, _, n in manifest["funnel"] if stage == "release")
    faults = []
    if released != kept["pairs"]:
        faults.append(f"stage release sums to {released}, not {kept['pairs']}")
    if kept["release"] != rows:
        faults.append(f"{rows} rows are released, the funnel says {kept['release']}")
    return finding("funnel_sums", faults, {"released": rows, "kept_pairs": kept["pairs"]})


def _edges(
    train: pa.Table,
    test: pa.Table,
    evaluation: pa.Table,
    limits: Limits,
    embedder: TextEmbedder | None,
) -> list[Edge]:
    sources = (
        ("train", train, measured_rows),
        ("test", test, measured_rows),
        ("evaluation", evaluation, measured_prompts),
    )
    parts = [  # slices, since Python rows take far more memory than a table
        Part(
            name=f"{name}-{first}",
            content_id="",
            rows=partial(measured, table.slice(first, BATCH_ROWS)),
        )
        for name, table, measured in sources
        for first in range(0, table.num_rows, BATCH_ROWS)
    ]
    return edges_between(parts, limits, embedder)


def _split_leaks(
    limits: Limits, edges: Sequence[Edge], train: pa.Table, test: pa.Table, evaluation: pa.Table
) -> Finding:
    both = set(train["concept"].unique().to_pylist()) & set(test["concept"].unique().to_pylist())
    held_out = [*test["pair_id"].to_pylist(), *evaluation["pair_id"].to_pylist()]
    found = leaks(edges, train["pair_id"].to_pylist(), held_out)
    repeated = set(train["pair_id"].to_pylist()) & set(held_out)
    faults = [f"concept {key} is in both splits" for key in sorted(both)]
    faults += [
        f"train pair {row.pair_id} leaks ({kind} of {row.of}, {row.value:.6g})"
        for kind, rows in found.items()
        for row in rows
    ]
    faults += [f"pair {identity} is in both splits" for identity in sorted(repeated)]
    looked = leak_kinds(limits)
    numbers = {
        "train_rows": train.num_rows,
        "test_rows": test.num_rows,
        "evaluation_prompts": evaluation.num_rows,
        **{f"leaks_{kind}": len(found[kind]) for kind in looked},
        **{f"looked_for_{kind}": 0 for kind in LEAK_KINDS if kind not in looked},
    }
    return finding("split_leaks", faults, numbers)


def _duplicates(limits: Limits, edges: Sequence[Edge], train: pa.Table, test: pa.Table) -> Finding:
    found = [row for t in (train, test) for row in repeats(edges, t["pair_id"].to_pylist())]
    faults = [
        f"pair {row.pair_id} is a {row.reason} of {row.of} ({row.value:.6g})" for row in found
    ]
    numbers = {"rows": train.num_rows + test.num_rows, **count(found)}
    if limits.max_semantic_cosine is None:
        numbers["looked_for_semantic"] = 0
    return finding("duplicates", faults, numbers)


def _minors(data: Sequence[pa.Table], evaluation: pa.Table) -> Finding:
    tables = [table.select(["caption", "caption_safe"]) for table in data]
    tables.append(evaluation.select(["unsafe_prompt", "safe_prompt"]))
    faults = [fault for table in tables for fault in prompt_faults(table)]
    return finding("minors", faults, {"prompts": 2 * sum(t.num_rows for t in tables)})
