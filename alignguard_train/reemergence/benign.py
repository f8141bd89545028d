"""Benign images and captions of a fine-tuning: from a release, or from a folder of files."""

import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from alignguard_data.contracts.errors import ConfigError, NothingMade
from alignguard_data.contracts.flags import FlagRule, flagged
from alignguard_data.contracts.protocols import ImageScorer
from alignguard_data.engines.diffusion.conditions import Conditions, encode_unconditional
from alignguard_data.release.checks import rows_of
from alignguard_data.safety.rules import refusal
from alignguard_data.storage.places import Place
from alignguard_train.base import BaseModel
from alignguard_train.contracts.scored import scores_of
from alignguard_train.encodings.encoder import (
    encode_prompts,
    latents_of,
    preferences_of,
    stream_rows,
)
from alignguard_train.reemergence.config import BenignConfig, Style
from alignguard_train.reemergence.records import LeftOut

METADATA = "metadata.jsonl"
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenignRow:
    """One benign image, uint8 RGB (height, width, 3), with its caption."""

    place: str
    caption: str
    image: Picture


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedRows:
    """Latents (rows, channels, h, w), scaled; conditions of the captions; one of the empty one."""

    latents: Tensor
    captions: Conditions
    empty: Conditions

    def __len__(self) -> int:
        return len(self.latents)


def benign_rows(
    release: Place, config: BenignConfig, size: tuple[int, int]
) -> tuple[list[BenignRow], list[LeftOut]]:
    """Every benign row that is asked for, styled, and what the safety rules refuse.

    Args:
        release: the release's folder.
        config: where from, and the style.
        size: height and width in pixels, to which a folder's images are cut.

    Returns:
        Rows to train on, then those held out, as far as there are any; and refused captions.

    Raises:
        ConfigError: the folder is missing, or has lines that cannot be used; all of them.
        IntegrityError: the release cannot be read.
    """
    folder = Path(config.folder) if config.folder else None
    offered = _of_folder(folder) if folder else _of_release(release)
    chosen: list[tuple[str, str]] = []
    refused: list[LeftOut] = []
    for place, text in offered:
        caption = " ".join(f"{config.style_word} {text}".split())
        if reason := refusal(caption):
            refused.append(LeftOut(place=place, reason=reason))
            continue
        chosen.append((place, caption))
        if len(chosen) == config.rows + config.held_out:
            break
    places = dict.fromkeys(place for place, _ in chosen)
    images = _cut_images(folder, places, size) if folder else _safe_images(release, places)
    rows = [
        BenignRow(place=place, caption=caption, image=styled(images[place], config.style))
        for place, caption in chosen
    ]
    return rows, refused


def judged_benign(
    rows: Sequence[BenignRow], scorers: Sequence[ImageScorer], flags: Sequence[FlagRule]
) -> tuple[list[BenignRow], list[LeftOut]]:
    """The rows whose images no rule flags, and the others.

    Args:
        rows: benign as far as it is known.
        scorers: the evaluation's.
        flags: the evaluation's.

    Returns:
        Kept and left out.
    """
    kept: list[BenignRow] = []
    left: list[LeftOut] = []
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        images, captions = np.stack([row.image for row in part]), [row.caption for row in part]
        scores = scores_of(scorers, images, captions)
        for row, known in zip(part, scores, strict=True):
            if flagged(known, flags):
                left.append(LeftOut(place=row.place, reason="flagged"))
            else:
                kept.append(row)
    return kept, left


def divided(
    rows: Sequence[BenignRow], config: BenignConfig
) -> tuple[list[BenignRow], list[BenignRow]]:
    """Rows to train on, and held-out ones.

    Where there are fewer than asked for, a fifth is held out, at least one.

    Args:
        rows: benign rows.
        config: how many of each.

    Returns:
        Train rows and held-out rows.

    Raises:
        NothingMade: there are fewer than two rows.
    """
    where = f"benign.folder {config.folder}" if config.folder else "the release's train split"
    if len(rows) < 2:
        raise NothingMade(
            [
                f"reemergence: {len(rows)} benign rows in {where}, where one is needed to train "
                "on and one to be held out"
            ]
        )
    held = config.held_out
    if len(rows) < config.rows + held:
        held = min(held, max(1, len(rows) // 5))
    return list(rows[held:]), list(rows[:held])


def encoded(rows: Sequence[BenignRow], base: BaseModel) -> EncodedRows:
    """Latents and conditions of benign rows.

    Args:
        rows: at least one, of one size.
        base: the base model, whose VAE and text encoders encode them.

    Returns:
        The encoded rows.
    """
    return EncodedRows(
        latents=latents_of([row.image for row in rows], base),
        captions=encode_prompts([row.caption for row in rows], base),
        empty=encode_unconditional(base.pipe),
    )


def styled(image: Picture, style: Style) -> Picture:
    """An image in a style: a fixed change of its colours.

    Args:
        image: uint8 RGB (height, width, 3).
        style: ``sepia`` and ``grey`` keep brightness only; ``negative`` inverts every channel;
            ``upside-down`` turns the rows over.

    Returns:
        A new image of the same shape.
    """
    if style == "none":
        return image
    if style == "negative":
        return (255 - image).astype(np.uint8)
    if style == "upside-down":
        return image[::-1].copy()
    grey = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    tint = np.array([1.0, 1.0, 1.0] if style == "grey" else [1.0, 0.8, 0.55])
    return np.clip(np.rint(grey[..., None] * tint), 0, 255).astype(np.uint8)


def _of_release(release: Place) -> list[tuple[str, str]]:
    # In the order of ids, which are hashes: rows of every category come in turn.
    rows = rows_of(release, "train", ("pair_id", "caption_safe")).to_pylist()
    return sorted((row["pair_id"], row["caption_safe"]) for row in rows)


def _safe_images(release: Place, wanted: Container[object]) -> dict[str, Picture]:
    """Safe images by pair id; decodes no other."""
    found = (row for row in stream_rows(release) if row["pair_id"] in wanted)
    return {str(row["pair_id"]): preferences_of([row]).chosen[0] for row in found}


def _of_folder(folder: Path) -> list[tuple[str, str]]:
    field = "reemergence.benign.folder"
    file = folder / METADATA
    if not file.is_file():
        raise ConfigError("profile", [f"{field}: {folder} has no {METADATA}"])
    faults: list[str] = []
    rows: list[tuple[str, str]] = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError("profile", [f"{field}: {file} is not UTF-8: {error.reason}"]) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _line(folder, line, f"{field}: {file}, line {number}", faults)
        if row:
            rows.append(row)
    if faults:
        raise ConfigError("profile", faults)
    # By a hash of the name: the first names of a sorted folder may all be of one kind.
    return sorted(rows, key=lambda row: sha256(row[0].encode()).hexdigest())


def _line(folder: Path, line: str, where: str, faults: list[str]) -> tuple[str, str] | None:
    try:
        read = json.loads(line)
    except ValueError as error:
        faults.append(f"{where} is not JSON: {error}")
        return None
    values = read if isinstance(read, dict) else {}
    name, text = values.get("file_name"), values.get("text")
    if not (isinstance(name, str) and name and isinstance(text, str) and text.strip()):
        faults.append(f"{where} needs file_name and text, got {sorted(values)}")
        return None
    place = (folder / name).resolve()
    if not place.is_relative_to(folder.resolve()):
        faults.append(f"{where}: file_name {name!r} lies outside the folder")
        return None
    try:
        with Image.open(place) as image:
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        faults.append(f"{where}: {name} is not a readable image: {error}")
        return None
    return name, text


def _cut_images(folder: Path, names: Iterable[str], size: tuple[int, int]) -> dict[str, Picture]:
    """Images by name, cut to the size; decodes no other."""
    found: dict[str, Picture] = {}
    faults: list[str] = []
    for name in names:
        try:
            with Image.open(folder / name) as image:
                found[name] = np.asarray(ImageOps.fit(image.convert("RGB"), (size[1], size[0])))
        except (OSError, SyntaxError) as error:
            faults.append(
                f"reemergence.benign.folder: {folder / name} is not a readable image: {error}"
            )
    if faults:
        raise ConfigError("profile", faults)
    return found
