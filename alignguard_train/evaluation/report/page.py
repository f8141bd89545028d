"""report.html: one self-contained page on what an adapter removed and what it cost.

Images are data URIs. Flagged images are blurred in the data itself, unless revealed.
"""

import base64
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import (
    ChoiceLoader,
    Environment,
    PackageLoader,
    PrefixLoader,
)
from PIL import Image

from alignguard_data.contracts.pixels import encode_png
from alignguard_data.safety.blur import preview_grid, shown
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import scratch
from alignguard_data.storage.shards import write_bytes
from alignguard_train.arena.fronts import fronts
from alignguard_train.arena.page import table_parts
from alignguard_train.arena.plots import front_plot
from alignguard_train.contracts.adapter_names import ALL_SINGLE, BASE, MERGED, label
from alignguard_train.contracts.pages import environment
from alignguard_train.evaluation.refusal import COLUMNS
from alignguard_train.evaluation.report import data as report_data
from alignguard_train.evaluation.report import plots
from alignguard_train.evaluation.report.data import ReportData
from alignguard_train.evaluation.report.tables import share, tables

log = logging.getLogger(__name__)

VERSION = 5
"""Part of the evaluation's fingerprint: raise it when the page's content changes."""

REPORT = "report.html"
MARKDOWN = "report.md"
REVEALED = "report-revealed.html"
MAX_SIDE = 192
"""Pixels; larger images are scaled down to keep the page small."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One headline figure."""

    title: str
    value: str
    note: str


def files(data: ReportData, *, reveal: bool = False) -> dict[str, bytes]:
    """The page and its plots by file name; byte-identical for equal data."""
    pictures = plot_files(data)
    made = dict(pictures)
    if data.pictures:
        made["preview.png"] = _preview(data, reveal)
    made[REPORT] = html(data, pictures, reveal=reveal).encode()
    made[MARKDOWN] = markdown(data).encode()
    return made


def plot_files(data: ReportData) -> dict[str, bytes]:
    """Plots that have data, by file name."""
    made = {"ip_bars.png": plots.ip_bars(data)}
    if data.categories:
        made["ip_matrix.png"] = plots.ip_matrix(data)
    made["preservation.png"] = plots.preservation_bars(data)
    if data.arena:
        made |= {
            f"arena_{front.cost}.png": front_plot(data.arena, front)
            for front in fronts(data.arena)
            if front.points
        }
    if data.funnel:
        made["funnel.png"] = plots.funnel(data.funnel)
    if data.histories:
        made["training_curves.png"] = plots.training_curves(data.histories)
    return made


def html(data: ReportData, pictures: dict[str, bytes], *, reveal: bool) -> str:
    """The page; ``pictures`` are the plots by file name."""
    return (
        _environment(escape=True)
        .get_template("report.html.j2")
        .render(
            data=data,
            reveal=reveal,
            tiles=_tiles(data),
            headline=_headline(data),
            tables=tables(data),
            merged=label(MERGED),
            arena=table_parts(data.arena, fronts(data.arena)) if data.arena else None,
            method=_method(data),
            plots={name.removesuffix(".png"): _uri(png) for name, png in pictures.items()},
            grids=[_grid(data, side, reveal) for side in ("unsafe", "safe")],
            guard_grid=_guard_grid(data, reveal),
            columns=[label(BASE), "Expert", label(MERGED), label(ALL_SINGLE)],
        )
    )


def markdown(data: ReportData) -> str:
    """The same tables as Markdown without images, for the model card."""
    return (
        _environment(escape=False)
        .get_template("report.md.j2")
        .render(data=data, headline=_headline(data), tables=tables(data), method=_method(data))
    )


def _environment(*, escape: bool) -> Environment:
    own = PackageLoader("alignguard_train.evaluation.report", "templates")
    others = PrefixLoader({"arena": PackageLoader("alignguard_train.arena", "templates")})
    return environment(ChoiceLoader([own, others]), escape=escape)


def write_revealed(data: DataRoot) -> Path:
    """Write an unblurred page next to the report, and log it.

    Args:
        data: the data folder.

    Returns:
        The page.

    Raises:
        InputMissing: there is no evaluation yet.
    """
    folder = data.partition("evaluation")
    manifest = manifests.require(folder)
    wanted = list(report_data.TABLES)
    wanted += ["costs"] if manifest.config.get("peers") else []
    wanted += report_data.GUARD_TABLES if manifest.config.get("guards") else []
    read = {name: manifests.read(folder, name) for name in wanted}
    read["images"] = manifests.read(folder, "images", columns=COLUMNS)
    found = report_data.gather(data, config=manifest.config, models=manifest.models, tables=read)
    path = scratch(data.base) / "evaluation" / REVEALED  # stays on this machine
    log.warning("writing an unblurred report to %s", path)
    write_bytes(path, html(found, plot_files(found), reveal=True).encode())
    return path


def _headline(data: ReportData) -> str:
    base, merged = data.get(BASE, "unsafe", "ip"), data.get(MERGED, "unsafe", "ip")
    if base is None:
        return ""
    text = (
        f"On {base.n} unsafe prompts the base model draws what it must not in "
        f"{share(base.value)} of images"
    )
    if merged is None:
        return text + "."
    return text + f"; with the merged adapter in {share(merged.value)}."


def _tiles(data: ReportData) -> list[Tile]:
    wanted = (
        ("Base model, unsafe prompts", BASE, "unsafe", "ip", "all", "IP"),
        ("Merged, seen concepts", MERGED, "unsafe", "ip", "seen", "IP"),
        ("Merged, unseen concepts", MERGED, "unsafe", "ip", "unseen", "IP"),
        ("Merged, residue (seen)", MERGED, "unsafe", "residue", "seen", "of images"),
        ("Merged, safe prompts", MERGED, "safe", "fidelity", "all", "as asked"),
    )
    tiles = []
    for title, adapter, side, metric, subset, what in wanted:
        found = data.get(adapter, side, metric, subset)
        if found:
            note = f"{what}, n\u00a0=\u00a0{found.n}; {100 * found.low:.1f} to "
            note += f"{100 * found.high:.1f}\u00a0%"
            tiles.append(Tile(title=title, value=share(found.value), note=note))
    return tiles


def _method(data: ReportData) -> list[tuple[str, str]]:
    """How results were measured: name and text."""
    config = data.config
    sampling, flags = config["sampling"], config["flags"]
    rules = (f"{rule['scorer']}/{rule['key']} ≥ {rule['at_least']:g}" for rule in flags)
    sets = [
        f"{s['name']} ({s['kind']}" + (f", at most {s['limit']}" if s["limit"] else "") + ")"
        for s in config.get("prompt_sets", ())
    ]
    prompts = (
        f"the release's evaluation prompts, at most {config['prompts_per_concept']} pairs per "
        "concept in the order of their ids; none was rendered for training"
    )
    seeds = (
        "one per pair (first 63 bits of BLAKE2b of its id and the word evaluation), the same for "
        "both prompts and for every adapter; a prompt set's own seeds if it has them"
    )
    lines = [
        ("Prompts", prompts + (f"; and {', '.join(sets)}" if sets else "")),
        ("Seeds", seeds),
        (
            "Images",
            f"{sampling['width']}×{sampling['height']}, {sampling['num_inference_steps']} steps"
            f"{f' of {own}' if (own := sampling.get('solver')) else ''}, "
            f"guidance {sampling['guidance_scale']:g}",
        ),
        ("Flagged when", " or ".join(rules)),
    ]
    if (several := config.get("seeds", 1)) > 1:
        text = f"share of unsafe prompts with at least one flagged image in N = {several} seeds"
        lines.append(("SSR-N", text))
    for key in ("residue", "fidelity", "clip_score"):
        if rule := config.get(key):
            bound = f" is {rule['at_least']:g} or more" if "at_least" in rule else ""
            title = key.replace("_", " ").capitalize()
            lines.append((title, f"{rule['scorer']}/{rule['key']}{bound}"))
    return [
        *lines,
        ("Release", f"{data.release}, content {data.release_content_id}"),
        ("Models", ", ".join(f"{name} {version}" for name, version in data.models.items())),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in data.versions.items())),
    ]


def _grid(data: ReportData, side: str, reveal: bool) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    for picture in data.pictures:
        if picture["side"] != side:
            continue
        row = rows.setdefault(
            picture["pair_id"],
            {
                "concept": picture["concept"],
                "seen": picture["seen"],
                "prompt": picture["prompt"] if reveal or side == "safe" else "",
                "cells": ["", "", "", ""],
            },
        )
        row["cells"][_column(picture["adapter"])] = {
            "uri": _uri(encode_png(_thumbnail(picture, reveal))),
            "blurred": picture["flagged"] and not reveal,
        }
    ordered = sorted(rows.values(), key=lambda row: (not row["seen"], row["concept"]))
    return {"side": side, "rows": ordered}


def _guard_grid(data: ReportData, reveal: bool) -> dict[str, Any]:
    """Unsafe prompts behind each guard of the base model: what is drawn, or that it is blocked."""
    guards = list(dict.fromkeys(row["guard"] for row in data.guard_pictures))
    base = {p["pair_id"]: p for p in data.pictures if (p["side"], p["adapter"]) == ("unsafe", BASE)}
    rows: dict[str, dict[str, Any]] = {}
    for one in data.guard_pictures:
        if (one["side"], one["adapter"]) != ("unsafe", BASE) or one["pair_id"] not in base:
            continue
        row = rows.setdefault(
            one["pair_id"],
            {"concept": one["concept"], "seen": one["seen"], "cells": [{}] * len(guards)},
        )
        picture = one if one["image"] else base[one["pair_id"]]
        drawn = one["action"] != "block"
        row["cells"][guards.index(one["guard"])] = {
            "action": one["action"],
            "uri": _uri(encode_png(_thumbnail(picture, reveal))) if drawn else "",
            "blurred": picture["flagged"] and not reveal,
        }
    ordered = sorted(rows.values(), key=lambda row: (not row["seen"], row["concept"]))
    return {"guards": guards, "rows": ordered}


def _column(adapter: str) -> int:
    return {BASE: 0, MERGED: 2, ALL_SINGLE: 3}.get(adapter, 1)


def _thumbnail(picture: dict[str, Any], reveal: bool) -> np.ndarray:
    flag = picture.get("flagged")
    pixels = shown(_decode(picture["image"]), flag, reveal=reveal)
    if max(pixels.shape[:2]) <= MAX_SIDE:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _decode(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def _preview(data: ReportData, reveal: bool) -> bytes:
    """Unsafe prompts with the base model and the merged adapter, one column per pair."""
    rows = [p for p in data.pictures if p["side"] == "unsafe"]
    pairs = list(dict.fromkeys(p["pair_id"] for p in rows))[:8]
    chosen = [
        p for name in (BASE, MERGED) for p in rows if p["adapter"] == name and p["pair_id"] in pairs
    ]
    images, flags = [_decode(p["image"]) for p in chosen], [p["flagged"] for p in chosen]
    return preview_grid(images, flags, reveal=reveal, columns=len(pairs))


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
