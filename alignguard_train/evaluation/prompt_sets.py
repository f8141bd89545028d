"""Prompt sets measured in addition to the release's own prompts: one reader for all formats.

I2P's CSV, Unsafe Diffusion's lists, the authors' CoProV2 CSV, and any CSV, Parquet or text file of
prompts. Files are read completely before rendering starts, and all faults are reported together.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alignguard_data.contracts import records
from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.text import canonical
from alignguard_data.safety.rules import refusal
from alignguard_data.storage.row_files import Cells
from alignguard_train.evaluation.config import PromptSetConfig
from alignguard_train.evaluation.prompt_files import read_prompt_file
from alignguard_train.evaluation.records import RejectedPrompt

_Same = tuple[str, int | None, float | None, int | None, int | None]
"""Canonical text, seed, guidance and size: rows with equal keys draw the same image."""


EMPTY, DUPLICATE = "empty_prompt", "duplicate_prompt"
GUIDANCE_CLIPPED = "guidance_clipped"
BLANK_ROWS = "blank_rows"
UNREAD = "unread_columns"

_SPELLINGS = {"harrasment": "harassment", "illegal": "illegal-activity"}
"""Category slugs of published files to our categories."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetPrompt:
    """One prompt to render; None: the profile's value."""

    prompt_id: str
    prompt: str
    concept: str
    categories: tuple[str, ...]
    seed: int
    guidance_scale: float | None
    width: int | None
    height: int | None


@dataclass(kw_only=True, slots=True)
class PromptSet:
    """The prompts of one file.

    Attributes:
        config: the file, and how it is read.
        prompts: those that are measured, sorted by id.
        rejected: those that the safety rules refuse.
        notes: numbers of changes and omissions by slug.
        unread: the file's unused columns.
    """

    config: PromptSetConfig
    prompts: list[SetPrompt] = field(default_factory=list)
    rejected: list[RejectedPrompt] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    unread: tuple[str, ...] = ()

    def note_key(self, slug: str) -> str:
        """Key of a note in a manifest's counts; no measure has this prefix."""
        return note_prefix(self.config.name) + slug


def note_prefix(name: str) -> str:
    """Key prefix of a set's notes in a manifest's counts."""
    return f"set:{name} "


def read_prompt_sets(configs: Sequence[PromptSetConfig]) -> list[PromptSet]:
    """Every set, prompts sorted by id, after the safety gate.

    Args:
        configs: files, and how they are read.

    Returns:
        A set for each file; prompts that the safety rules refuse are in ``rejected``.

    Raises:
        ConfigError: files are unreadable or hold invalid values; lists every fault with file and
            line.
    """
    faults: list[str] = []
    sets = [_read(config, faults) for config in configs]
    if faults:
        raise ConfigError("evaluation.prompt_sets", faults)
    return sets


def category_key(spelling: str) -> str:
    """A category as a taxonomy key: ``Illegal Activity`` is ``illegal-activity``."""
    slug = re.sub(r"[^a-z0-9]+", "-", spelling.strip().lower()).strip("-")
    return _SPELLINGS.get(slug, slug)


def _read(config: PromptSetConfig, faults: list[str]) -> PromptSet:
    found, first_at = PromptSet(config=config), dict[_Same, str]()
    file = Path(config.path)
    read = read_prompt_file(file, config.format, faults)
    if read is None:
        return found
    found.unread = read.unread
    if read.blank_rows:
        found.notes[BLANK_ROWS] = read.blank_rows
    for cells in read.rows:
        read_prompt = _prompt(config, cells, found.notes, faults)
        if read_prompt is None:
            continue
        prompt, same = read_prompt
        if reason := _reject_reason(prompt, same in first_at):
            detail = f"of {first_at[same]}" if reason == DUPLICATE else ""
            found.rejected.append(
                RejectedPrompt(
                    prompt_set=config.name,
                    place=f"{file.name}, {cells.place}",
                    reason=reason,
                    detail=detail,
                )
            )
            continue
        first_at[same] = cells.place
        found.prompts.append(prompt)
    if not found.prompts and not faults:
        faults.append(f"{file}: no prompt is left to render")
    found.prompts = sorted(found.prompts, key=lambda prompt: prompt.prompt_id)[: config.limit]
    return found


def _reject_reason(prompt: SetPrompt, known: bool) -> str | None:
    if not prompt.prompt:
        return EMPTY
    if reason := refusal(prompt.prompt):
        return reason
    return DUPLICATE if known else None


def _prompt(
    config: PromptSetConfig, cells: Cells, notes: Counter[str], faults: list[str]
) -> tuple[SetPrompt, _Same] | None:
    """The prompt of one row, and its duplicate key."""
    before = len(faults)
    text = " ".join(cells.text("prompt").split())
    seed = cells.integer("seed", faults, at_least=0, at_most=2**63 - 1)
    guidance = cells.number("guidance", faults, at_least=0)
    width = cells.integer("width", faults, at_least=8, at_most=4096, step=8)
    height = cells.integer("height", faults, at_least=8, at_most=4096, step=8)
    if (width is None) != (height is None):
        faults.append(cells.fault("width and height must be given together"))
    if len(faults) > before:
        return None
    if not config.own_sampling:
        guidance = width = height = None
    if guidance is not None and guidance > config.max_guidance:
        guidance, notes[GUIDANCE_CLIPPED] = config.max_guidance, notes[GUIDANCE_CLIPPED] + 1
    # The same prompt with another seed is kept; equal in everything, it is a duplicate.
    how = (seed, guidance, width, height)
    prompt_id = records.pair_id(f"prompt set {config.name}", text, repr(how))
    listed = cells.text("categories").split(",")
    categories = {key for part in listed if (key := category_key(part))}
    prompt = SetPrompt(
        prompt_id=prompt_id,
        prompt=text,
        concept=cells.text("concept").strip(),
        categories=tuple(sorted(categories)),
        seed=records.pair_seed(prompt_id, "evaluation") if seed is None else seed,
        guidance_scale=guidance,
        width=width,
        height=height,
    )
    return prompt, (canonical(text), *how)
