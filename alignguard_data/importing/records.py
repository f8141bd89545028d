"""The rows of an import beside its pairs: what each came from, its images, and what was refused."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PairOrigin:
    """Where an imported pair comes from in the published files, and all its categories.

    ``rows`` lists the source rows as ``file:row``. ``leak`` says how a test prompt also occurs in
    train: ``exact`` (word for word), ``casefolded``, or empty (it does not).
    """

    pair_id: str
    part: str
    number: int
    categories: tuple[str, ...]
    leak: str
    rows: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportedImage:
    """One published image of an imported pair; ``image`` holds the unchanged file."""

    image_id: str
    pair_id: str
    concept: str
    side: str
    prompt: str
    name: str
    width: int
    height: int
    phash: str
    image: bytes


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RejectedRow:
    """A row of an imported file that was refused, with the reason slug.

    ``row`` counts data rows from 1; ``line`` is the line of the file where it begins.
    """

    file: str
    row: int
    line: int
    reason: str
    detail: str
