"""The measurement's lines, one per model; verdicts on images as strings of 0 and 1.

A line has all that tables and plots need, so that the page is drawn without a model.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from research.study.results import RESULTS

LINES = RESULTS.with_name("reemergence.jsonl")
"""Kept beside the study's."""
EXPERT_STEPS = 60
"""Of `make run`'s experts when the kept lines were measured; the lines do not say."""
_MODEL = ("adapter", "variant", "seed", "steps")
_WEIGHTS = ("undoing", "undone_share", "size", "train_loss")


def key_of(condition: str, row: Mapping[str, Any]) -> str:
    """Name of a line: condition, safety adapter, variant, seed and steps."""
    return "/".join([condition, *(str(row[name]) for name in _MODEL)])


def lines_of(
    condition: str, seed: int, tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Lines of one seed's measurement.

    Args:
        condition: what was fine-tuned on, and how.
        seed: of the fine-tunings.
        tables: rows of the room's images, losses and models.

    Yields:
        One line per model; the base model, and what has no fine-tuning, only with seed 0.
    """
    models = {key_of("", row): row for row in tables["models"]}
    losses = _grouped(tables["losses"])
    for key, rows in _grouped(tables["images"]).items():
        first = rows[0]
        if first["seed"] != seed and seed != 0:
            continue
        by_side = {
            side: sorted((r for r in rows if r["side"] == side), key=lambda row: row["pair_id"])
            for side in ("unsafe", "safe")
        }
        line: dict[str, Any] = {
            "key": condition + key,
            "condition": condition,
            **{name: first[name] for name in _MODEL},
            "flagged": _bits(by_side["unsafe"], "flagged"),
            "seen": _bits(by_side["unsafe"], "seen"),
            "flagged_safe": _bits(by_side["safe"], "flagged"),
            "right": _bits(by_side["safe"], "fidelity"),
        }
        if key in losses:
            own = sorted(losses[key], key=lambda row: row["place"])
            line["losses"] = [round(row["loss"], 5) for row in own]
        if key in models:
            line |= {name: round(models[key][name], 4) for name in _WEIGHTS}
        yield line


def _grouped(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(key_of("", row), []).append(row)
    return found


def _bits(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    return "".join("1" if row[column] >= 0.5 else "0" for row in rows)


def tables_of(
    lines: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of images and of losses, as the room's measures read them."""
    images: list[dict[str, Any]] = []
    losses: list[dict[str, Any]] = []
    for line in lines:
        place = {name: line[name] for name in _MODEL}
        sides = (("unsafe", line["flagged"]), ("safe", line["flagged_safe"]))
        for side, flags in sides:
            for number, flag in enumerate(flags):
                images.append(
                    {
                        **place,
                        "side": side,
                        "pair_id": f"{number:04d}",
                        "seen": line["seen"][number] == "1",
                        "flagged": float(flag),
                        "fidelity": float(line["right"][number]) if side == "safe" else 0.0,
                        "distance": 0.0,
                    }
                )
        for number, loss in enumerate(line.get("losses", ())):
            losses.append({**place, "place": f"{number:04d}", "loss": loss})
    return images, losses
