"""Maps rows of the published CoProV2 to candidate records, or to one reason each.

Train rows with the same number are a pair of an unsafe and a safe prompt. A test row is an unsafe
prompt without a twin. The tests run in the order of ``REASONS``.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alignguard_data.contracts import records
from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import SIDES, PromptPair, Side
from alignguard_data.importing.categories import CategoryNames, in_order
from alignguard_data.importing.coprov2.files import TRAIN_NAME, CsvFile, Row
from alignguard_data.importing.coprov2.leaks import TrainPrompts
from alignguard_data.importing.records import PairOrigin, RejectedRow
from alignguard_data.safety.rules import redact, refusal

WRITER = "coprov2"
"""A record's ``writer``, and the concept's slug, since the dataset names no concepts."""

REASONS: dict[str, str] = {
    "empty_prompt": "the prompt is empty",
    "empty_category": "the category is empty",
    "minors": "a safety rule refuses the prompt",
    "unknown_image_name": "a train row's image is not named u_idx_N_0.jpg or s_idx_N_0.jpg",
    "safe_prompt_in_test": "a test row is named like the safe side of a pair",
    "image_missing": "the image folder has no such file",
    "repeated_row": "an earlier row says the same",
    "conflicting_prompts": "one side of the pair has several prompts",
    "one_sided": "no row is the pair's other side",
    "twin_rejected": "the pair's other side was rejected",
    "duplicate_pair": "an earlier pair has the same category and prompts",
    "image_corrupt": "the image cannot be decoded",
    "black_image": "the image is black all over",
    "constant_image": "the image is of one colour all over",
}

_SIDE_LETTERS: dict[str, Side] = {"u": "unsafe", "s": "safe"}
_LONGEST_SHOWN = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A record if its images can be read; ``rows`` are the source rows of each side."""

    pair: PromptPair
    origin: PairOrigin
    rows: Mapping[Side, Sequence[Row]]

    def rejected(self, faults: Mapping[Side, str]) -> list[RejectedRow]:
        """Reject all its rows.

        Args:
            faults: reason by side; a side without a fault is ``twin_rejected``.

        Returns:
            One rejection a row.
        """
        return [
            reject(row, faults.get(side, "twin_rejected"))
            for side, rows in self.rows.items()
            for row in rows
        ]


@dataclass(kw_only=True, slots=True)
class Mapped:
    """The outcome of all rows: candidates, and rejected rows with reasons."""

    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class _Group:
    """Rows of a pair number or of a test prompt; ``lost`` are sides with a bad row."""

    rows: dict[Side, list[Row]] = field(default_factory=lambda: defaultdict(list))
    said: dict[tuple[Side, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """Categories that rows give to each side and prompt."""
    lost: set[Side] = field(default_factory=set)

    @property
    def categories(self) -> tuple[str, ...]:
        return in_order(key for keys in self.said.values() for key in keys)


def reject(row: Row, reason: str, detail: str = "") -> RejectedRow:
    """The record of a rejected row."""
    return RejectedRow(file=row.file, row=row.row, line=row.line, reason=reason, detail=detail)


def known_categories(files: Sequence[CsvFile], names: CategoryNames) -> dict[str, tuple[str, ...]]:
    """The category keys of each spelling that occurs.

    Args:
        files: the files.
        names: the known spellings.

    Returns:
        Keys in the taxonomy's order, by content of the column ``category``.

    Raises:
        ConfigError: unknown spellings, each with its number of rows and its first place.
    """
    found: dict[str, tuple[str, ...]] = {}
    unknown: Counter[str] = Counter()
    first: dict[str, Row] = {}
    for row in _all(files):
        keys, strange = names.find(row.category)
        found[row.category] = keys
        unknown.update(strange)
        for spelling in strange:
            first.setdefault(spelling, row)
    if unknown:
        lines = [
            f"{first[name].file}:{first[name].line}: {_shown(name)} ({count} rows)"
            for name, count in unknown.items()
        ]
        raise ConfigError("CoProV2's categories: unknown spellings; --category maps one", lines)
    return found


def map_rows(
    files: Sequence[CsvFile],
    categories: Mapping[str, tuple[str, ...]],
    images: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Mapped:
    """Map each row to a candidate or to a reason.

    Args:
        files: the files.
        categories: category keys by spelling, of :func:`known_categories`.
        images: file names in the image folder, or None if images are not imported.
        progress: called with the number of rows just finished.

    Returns:
        Candidates ordered by number, then test prompts in file order; and the rejected rows.
    """
    mapped = Mapped()
    pairs: dict[int, _Group] = defaultdict(_Group)
    prompts: dict[str, _Group] = defaultdict(_Group)
    for row in _all(files):
        keys = categories[row.category]
        side, number = _place(row)
        if reason := _row_reason(row, side, keys, images):
            mapped.rejected.append(reject(row, reason))
            if side and row.part == "train":
                pairs[number].lost.add(side)
        else:
            group = pairs[number] if row.part == "train" else prompts[row.prompt]
            _add(mapped, group, row, side or "unsafe", keys)
        if progress:
            progress(1)
    _make_pairs(mapped, pairs)
    _make_prompts(mapped, prompts, TrainPrompts(files))
    return mapped


def _add(mapped: Mapped, group: _Group, row: Row, side: Side, keys: tuple[str, ...]) -> None:
    said = group.said[side, row.prompt]
    if said.issuperset(keys):
        first = next(earlier for earlier in group.rows[side] if earlier.prompt == row.prompt)
        detail = f"first in {first.file}:{first.row}"
        mapped.rejected.append(reject(row, "repeated_row", detail))
    else:
        said.update(keys)
        group.rows[side].append(row)


def _row_reason(
    row: Row, side: Side | None, keys: tuple[str, ...], images: Collection[str] | None
) -> str | None:
    if not row.prompt:
        return "empty_prompt"
    if not keys:
        return "empty_category"
    if reason := refusal(row.prompt):
        return reason
    if row.part == "test":
        return "safe_prompt_in_test" if side == "safe" else None
    if side is None:
        return "unknown_image_name"
    return "image_missing" if images is not None and row.image not in images else None


def _place(row: Row) -> tuple[Side | None, int]:
    name = TRAIN_NAME.fullmatch(row.image)
    return (_SIDE_LETTERS[name["side"]], int(name["number"])) if name else (None, -1)


def _make_pairs(mapped: Mapped, groups: Mapping[int, _Group]) -> None:
    numbers: dict[str, int] = {}
    for number, group in sorted(groups.items()):
        if reason := _group_reason(group):
            mapped.rejected += [reject(row, reason) for row in _rows(group)]
            continue
        unsafe, safe = (group.rows[side][0].prompt for side in ("unsafe", "safe"))
        candidate = _candidate(group, number, unsafe, safe, leak="")
        first = numbers.setdefault(candidate.pair.pair_id, number)
        if first == number:
            mapped.candidates.append(candidate)
        else:
            detail = f"pair {first} has the same"
            mapped.rejected += [reject(row, "duplicate_pair", detail) for row in _rows(group)]


def _group_reason(group: _Group) -> str | None:
    if any(len({row.prompt for row in rows}) > 1 for rows in group.rows.values()):
        return "conflicting_prompts"
    missing = [side for side in SIDES if not group.rows[side]]
    if not missing:
        return None
    return "twin_rejected" if group.lost.issuperset(missing) else "one_sided"


def _make_prompts(mapped: Mapped, groups: Mapping[str, _Group], train: TrainPrompts) -> None:
    for prompt, group in groups.items():
        row = group.rows["unsafe"][0]
        mapped.candidates.append(_candidate(group, row.row, prompt, "", leak=train.leak(prompt)))


def _candidate(group: _Group, number: int, unsafe: str, safe: str, *, leak: str) -> Candidate:
    rows: dict[Side, tuple[Row, ...]] = {
        side: tuple(group.rows[side]) for side in SIDES if group.rows[side]
    }
    part = rows["unsafe"][0].part
    categories = group.categories
    concept = f"{categories[0]}.{WRITER}"
    pair = PromptPair(
        pair_id=records.pair_id(concept, unsafe, safe),
        concept=concept,
        category=categories[0],
        role="train" if part == "train" else "evaluation",
        unsafe_prompt=unsafe,
        safe_prompt=safe,
        request_index=number,
        writer=WRITER,
    )
    origin = PairOrigin(
        pair_id=pair.pair_id,
        part=part,
        number=number,
        categories=categories,
        leak=leak,
        rows=tuple(f"{row.file}:{row.row}" for row in _rows(group)),
    )
    return Candidate(pair=pair, origin=origin, rows=rows)


def _all(files: Sequence[CsvFile]) -> Iterable[Row]:
    return (row for file in files for row in file.rows)


def _rows(group: _Group) -> list[Row]:
    return [row for side in SIDES for row in group.rows[side]]


def _shown(spelling: str) -> str:
    # A shifted column may contain a prompt.
    safe = len(spelling) <= _LONGEST_SHOWN and not refusal(spelling)
    return repr(spelling) if safe else redact(spelling)
