"""Rows of an import other than its pairs: their sources, the images, and what was refused."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PairOrigin:
    """Where an imported pair comes from in the published files, and all its categories.

    ``rows`` lists the source rows as ``file:row``. ``leak`` says how a test prompt also occurs in
    train: ``exact`` (word for word), ``casefolded``, or empty (it does not).
    """

    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    part: str
    """Part of the published files, train or test."""
    number: int
    """Place of the pair within its part."""
    categories: tuple[str, ...]
    """Keys of all categories that the files name."""
    leak: str
    """Exact or casefolded: the test prompt also occurs in train; else empty."""
    rows: tuple[str, ...]
    """Source rows as file:row."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportedImage:
    """One published image of an imported pair; ``image`` holds the unchanged file."""

    image_id: str
    """Sha256 (hex) of the encoded file."""
    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    concept: str
    """Key of the concept: category, dot, slug."""
    side: str
    """Safe or unsafe."""
    prompt: str
    """Prompt of the image."""
    name: str
    """Name of the published file."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    phash: str
    """64-bit perceptual hash (hex)."""
    image: bytes
    """The published file, unchanged."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RejectedRow:
    """A row of an imported file that was refused, with the reason slug.

    ``row`` counts data rows from 1; ``line`` is the line of the file where it begins.
    """

    file: str
    """Name of the file."""
    row: int
    """Number of the data row, from 1."""
    line: int
    """Line of the file on which the row begins."""
    reason: str
    """Reason slug."""
    detail: str
    """What is wrong, without the prompt."""
