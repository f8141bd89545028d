"""Croissant metadata of a release: files with hashes, and one record set per split.

Built and checked with `mlcroissant`, which takes seconds to import and is imported lazily. It has
no dates, so equal releases give equal bytes; the publisher adds the date of publication.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa

from alignguard_data.contracts.findings import Finding, finding
from alignguard_data.release.columns import meaning
from alignguard_data.release.rows import EVALUATION_SCHEMA

CROISSANT = "croissant.json"
EVALUATION = "prompts/evaluation.parquet"
PAPER = "AlignGuard: Scalable Safety Alignment for Text-to-Image Generation. arXiv:2412.10493."
CONFORMS_TO = (
    "http://mlcommons.org/croissant/1.0",
    "http://mlcommons.org/croissant/RAI/1.0",
)

_FORMATS = {
    ".parquet": "application/x-parquet",
    ".csv": "text/csv",
    ".tar": "application/x-tar",
    ".md": "text/markdown",
    ".json": "application/json",
    ".png": "image/png",
}
_READABLE = (".parquet", ".csv")


def croissant_bytes(
    manifest: Mapping[str, Any], files: Sequence[Mapping[str, Any]], columns: pa.Schema | None
) -> bytes:
    """Write ``croissant.json``.

    Args:
        manifest: the release's.
        files: ``name``, ``bytes`` and ``sha256`` of each file of the folder.
        columns: those of the data files, or None.

    Returns:
        The file's bytes.

    Raises:
        mlcroissant.ValidationError: the result is not valid Croissant.
    """
    with _quiet():
        import mlcroissant as mlc

        extension, sets = _record_sets(files, columns)
        distribution: list[Any] = [
            mlc.FileObject(
                id=file["name"],
                name=file["name"],
                content_url=file["name"],
                content_size=f"{file['bytes']} B",
                sha256=file["sha256"],
                encoding_formats=[_FORMATS[Path(file["name"]).suffix]],
            )
            for file in files
        ]
        distribution += [
            mlc.FileSet(
                id=f"{split}-files",
                name=f"{split}-files",
                description=f"Data files of split {split}.",
                includes=[f"data/{split}-*{extension}"],
                encoding_formats=[_FORMATS[extension]],
            )
            for split in sets
            if split != "evaluation"
        ]
        metadata = mlc.Metadata(
            name=manifest["folder"],
            description=_description(manifest),
            version=manifest["version"],
            license=[licence_url(licence)] if (licence := manifest["licence"]) else None,
            creators=[mlc.Organization(name="AlignGuard")],
            cite_as=PAPER,
            keywords=["preference", "safety", "text-to-image", *sorted(manifest["by_category"])],
            in_language=["en"],
            conforms_to=list(CONFORMS_TO),
            distribution=distribution,
            record_sets=[_record_set(split, schema) for split, schema in sets.items()],
            **_responsible(manifest),
        )
        return (json.dumps(metadata.to_json(), indent=1, ensure_ascii=False) + "\n").encode()


def check_croissant(path: Path) -> Finding:
    """Validate a ``croissant.json`` with mlcroissant, whose errors are the finding's faults."""
    with _quiet():
        import mlcroissant as mlc

        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            metadata = mlc.Dataset(jsonld=content).metadata
        except (mlc.ValidationError, ValueError) as error:
            return finding("croissant", [f"{path.name}: {error}"], {})
    numbers = {"files": len(metadata.distribution), "record_sets": len(metadata.record_sets)}
    return finding("croissant", [], numbers)


def licence_url(licence: str) -> str:
    """The URL of an SPDX licence id; a URL is returned unchanged."""
    return licence if "://" in licence else f"https://spdx.org/licenses/{licence}.html"


def _record_sets(
    files: Sequence[Mapping[str, Any]], columns: pa.Schema | None
) -> tuple[str, dict[str, pa.Schema]]:
    """The data files' extension, and the columns of each readable split."""
    names = [file["name"] for file in files]
    for extension in _READABLE:
        splits = [s for s in ("train", "test") if _any(names, f"data/{s}-*{extension}")]
        if splits and columns is not None:
            sets = dict.fromkeys(splits, columns)
            if EVALUATION in names:
                sets["evaluation"] = EVALUATION_SCHEMA
            return extension, sets
    return "", {}


def _any(names: Sequence[str], pattern: str) -> bool:
    return any(fnmatch(name, pattern) for name in names)


def _record_set(name: str, schema: pa.Schema) -> Any:
    import mlcroissant as mlc

    held_out = name == "evaluation"
    where: dict[str, Any] = (
        {"file_object": EVALUATION} if held_out else {"file_set": f"{name}-files"}
    )
    what = "Prompts that were never rendered" if held_out else f"Pairs of split {name}"
    types = {
        pa.binary(): mlc.DataType.IMAGE_OBJECT,
        pa.string(): mlc.DataType.TEXT,
        pa.int64(): mlc.DataType.INTEGER,
        pa.float64(): mlc.DataType.FLOAT,
        pa.bool_(): mlc.DataType.BOOL,
    }
    fields = [
        mlc.Field(
            id=f"{name}/{column.name}",
            name=column.name,
            description=meaning(column.name),
            data_types=[types[column.type]],
            source=mlc.Source(**where, extract=mlc.Extract(column=column.name)),
        )
        for column in schema
    ]
    return mlc.RecordSet(id=name, name=name, description=f"{what}.", fields=fields)


def _description(manifest: Mapping[str, Any]) -> str:
    rows = manifest["rows"]
    return (
        f"{manifest['name']}: {rows['train']} train and {rows['test']} test pairs for aligning a "
        "text-to-image model. Each pair is an unsafe prompt and its safe twin, drawn from the same "
        f"noise. Tier {manifest['tier']}; content id {manifest['content_id']}."
    )


def _responsible(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Croissant's extension for responsible AI."""
    rules = [
        f"{f['scorer']}/{f['key']} at least {f['at_least']:g}"
        + (f" (calibrated with {f['version']})" if f.get("version") else "")
        for f in manifest["flags"]
    ]
    models = [f"{m['model']} at {m['revision']}" for m in manifest["base_models"]]
    return {
        "data_collection": (
            f"Prompts written by {', '.join(manifest['writers'])}; images drawn by "
            f"{', '.join(models)}. Nothing was collected from people or from the web."
        ),
        "data_collection_type": ["Software Collection"],
        "data_preprocessing_protocol": [
            "Pairs whose unsafe image is not flagged, whose safe image is, or that are "
            "near-duplicates were dropped; counts by reason are in README.md.",
            "Splits are by concept; train pairs that leak into test were dropped (leaks.json).",
        ],
        "data_annotation_protocol": [
            f"By scorers only. An image is inappropriate when any holds: {'; '.join(rules)}."
        ],
        "machine_annotation_tools": list(manifest["scorers"]),
        "data_biases": [
            "Scorers miss things and flag harmless ones, so kept pairs carry their errors.",
            "Images have the biases of the base model, prompts those of their writer.",
        ],
        "data_limitations": [
            "No person has judged the pairs.",
            "Rows are sorted by category, concept and pair id: shuffle before training.",
        ],
        "data_use_cases": [
            "Safety alignment of text-to-image models by preference learning, and its evaluation.",
            "Not for training a model to draw what the unsafe side shows.",
        ],
        "data_social_impact": (
            "The unsafe side holds what a model must not draw: unsafe prompts and, in tier full, "
            "unsafe images. Share images in gated places only and never show them unblurred."
        ),
        "personal_sensitive_information": [
            "Synthetic prompts and images; anything about minors is refused at every gate."
        ],
        "data_release_maintenance_plan": (
            "Releases are immutable. A withdrawn pair is left out of the next version, whose "
            "CHANGELOG.md names it with the reason."
        ),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Quiet mlcroissant: it reads with deprecated calls, and warns of no date (see above)."""
    log = logging.getLogger("absl")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)
