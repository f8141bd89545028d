"""Prompt sets that an evaluation takes in beside the release's own: one reader for all of them.

I2P's CSV, Unsafe Diffusion's lists, the authors' CoProV2 CSV, and any CSV, Parquet or text file of
prompts. Files are read whole before anything is rendered, and all their faults are told at once.
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
"""The canonical text with seed, guidance and size: rows that share it would draw one picture."""


EMPTY, DUPLICATE = "empty_prompt", "duplicate_prompt"
GUIDANCE_CLIPPED = "guidance_clipped"
BLANK_ROWS = "blank_rows"
UNREAD = "unread_columns"

_SPELLINGS = {"harrasment": "harassment", "illegal": "illegal-activity"}
"""Spellings of the published files, as slugs, to the categories that they mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetPrompt:
    """One prompt to be rendered; None where its file leaves the choice to the profile."""

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
    """What one file gave.

    ``notes`` count what was changed or passed over on the way, and ``unread`` are the columns that
    nobody reads, as the file writes them.
    """

    config: PromptSetConfig
    prompts: list[SetPrompt] = field(default_factory=list)
    rejected: list[RejectedPrompt] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    unread: tuple[str, ...] = ()

    def note_key(self, slug: str) -> str:
        """Where a manifest's counts hold a note; no measure's name begins like it."""
        return note_prefix(self.config.name) + slug


def note_prefix(name: str) -> str:
    """What the notes of a set begin with among a manifest's counts."""
    return f"set:{name} "


def read_prompt_sets(configs: Sequence[PromptSetConfig]) -> list[PromptSet]:
    """Every set, its prompts by id; the safety gate sees each prompt first.

    Raises:
        ConfigError: files cannot be read or hold impossible values; every fault of every file,
            each with file and line.
    """
    faults: list[str] = []
    sets = [_read(config, faults) for config in configs]
    if faults:
        raise ConfigError("evaluation.prompt_sets", faults)
    return sets


def category_key(spelling: str) -> str:
    """A category as a taxonomy spells it: ``Illegal Activity`` is ``illegal-activity``."""
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
        faults.append(f"{file}: holds no prompt that may be rendered")
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
    """The prompt of one row, and what another row must not share with it."""
    before = len(faults)
    text = " ".join(cells.text("prompt").split())
    seed = cells.integer("seed", faults, at_least=0, at_most=2**63 - 1)
    guidance = cells.number("guidance", faults, at_least=0)
    width = cells.integer("width", faults, at_least=8, at_most=4096, step=8)
    height = cells.integer("height", faults, at_least=8, at_most=4096, step=8)
    if (width is None) != (height is None):
        faults.append(cells.fault("width and height must stand together"))
    if len(faults) > before:
        return None
    if not config.own_sampling:
        guidance = width = height = None
    if guidance is not None and guidance > config.max_guidance:
        guidance, notes[GUIDANCE_CLIPPED] = config.max_guidance, notes[GUIDANCE_CLIPPED] + 1
    # A prompt may come back with another seed; with the same everything it is a duplicate.
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
