"""Records of the dataset rooms, their Arrow schemas, and content-derived ids.

Every shard's columns come from this file. A record is a frozen dataclass, and its schema is derived
from its annotations.
"""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_type_hints

import pyarrow as pa

R = TypeVar("R")

Split = Literal["train", "test"]
Role = Literal["train", "evaluation"]
Side = Literal["safe", "unsafe"]

SIDES: tuple[Side, Side] = ("safe", "unsafe")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """One thing that the aligned model must not draw.

    A concept of split ``test`` is held out from training the experts, so that generalization can be
    measured.
    """

    key: str
    """Key of the concept: category, dot, slug; also its partition."""
    category: str
    """Category of the concept."""
    name: str
    """What the concept is, in plain words."""
    split: Split
    """Train, or test: held out from training the experts."""
    terms: tuple[str, ...]
    """Words and phrases by which a prompt names the concept."""

    @property
    def slug(self) -> str:
        """The key's second part, after the category."""
        return self.key.split(".", 1)[1]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PromptPair:
    """An unsafe prompt and its safe twin.

    A pair of role ``evaluation`` is reserved for evaluation and never rendered for training.
    """

    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    concept: str
    """Key of the concept: category, dot, slug."""
    category: str
    """Category of the concept."""
    role: Role
    """Train, or evaluation: never rendered for training."""
    unsafe_prompt: str
    """Prompt that shows the concept."""
    safe_prompt: str
    """Its twin without the concept."""
    request_index: int
    """Number of the request that the writer answered, from 0."""
    writer: str
    """Model id of the writer."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RejectedReply:
    """A writer's reply that did not become a pair, with the reason slug."""

    concept: str
    """Key of the concept: category, dot, slug."""
    request_index: int
    """Number of the request that the writer answered, from 0."""
    reason: str
    """Reason slug of the gate."""
    reply: str
    """What the writer answered."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RenderedImage:
    """One rendering of one prompt; ``image`` holds the encoded file (PNG)."""

    image_id: str
    """Sha256 (hex) of the encoded file."""
    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    concept: str
    """Key of the concept: category, dot, slug."""
    side: str
    """Safe or unsafe: whose prompt was rendered."""
    prompt: str
    """The rendered prompt."""
    seed: int
    """Seed of the noise that both images of the pair start from."""
    base_model: str
    """Id of the base model."""
    base_revision: str
    """Revision of the base model."""
    num_inference_steps: int
    """Steps of the sampler."""
    guidance_scale: float
    """Classifier-free guidance; 0: none."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    phash: str
    """64-bit perceptual hash (hex)."""
    image: bytes
    """Encoded image (PNG)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RejectedImage:
    """A rendering that cannot be used (constant, corrupt), with the reason slug."""

    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    concept: str
    """Key of the concept: category, dot, slug."""
    side: str
    """Safe or unsafe."""
    prompt: str
    """The rendered prompt."""
    seed: int
    """Seed of the noise that both images of the pair start from."""
    reason: str
    """Reason slug: constant, corrupt."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One raw number that one scorer gave to one image, prompt or pair."""

    subject: str
    """What was scored: image or pair."""
    subject_id: str
    """Image_id or pair_id of what was scored."""
    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    concept: str
    """Key of the concept: category, dot, slug."""
    side: str
    """Safe or unsafe; empty for a pair."""
    scorer: str
    """Name of the scorer."""
    scorer_version: str
    """Version of the scorer and its weights."""
    key: str
    """Which of the scorer's numbers."""
    value: float
    """The raw number."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PreferencePair:
    """A pair that can teach a preference: the safe image is chosen, the unsafe one rejected."""

    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    concept: str
    """Key of the concept: category, dot, slug."""
    category: str
    """Category of the concept."""
    unsafe_prompt: str
    """Prompt that shows the concept."""
    safe_prompt: str
    """Its twin without the concept."""
    chosen_image_id: str
    """Image_id of the safe image, the preferred one."""
    rejected_image_id: str
    """Image_id of the unsafe image."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DroppedPair:
    """A pair that the filter dropped, with the one reason slug that dropped it."""

    pair_id: str
    """Id of the pair: 128-bit BLAKE2b (hex) of concept key and both prompts."""
    concept: str
    """Key of the concept: category, dot, slug."""
    category: str
    """Category of the concept."""
    reason: str
    """Reason slug of the filter."""
    detail: str
    """The number or id behind the reason."""


_ARROW = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bytes: pa.binary(),
    bool: pa.bool_(),
    tuple[str, ...]: pa.list_(pa.string()),
}


def schema_of(record: type) -> pa.Schema:
    """Derive the Arrow schema of a record class.

    Args:
        record: a record class.

    Returns:
        One non-null column per field, in field order.
    """
    hints = get_type_hints(record)
    return pa.schema(
        [
            pa.field(f.name, _ARROW.get(hints[f.name], pa.string()), nullable=False)
            for f in dataclasses.fields(record)
        ]
    )


def to_table(record: type, rows: Iterable[Any]) -> pa.Table:
    """Make an Arrow table from rows of one record class.

    Args:
        record: the record class.
        rows: its instances.

    Returns:
        A table with exactly that record's schema.
    """
    names = [f.name for f in dataclasses.fields(record)]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for name in names:
            columns[name].append(getattr(row, name))
    return pa.table(columns, schema=schema_of(record))


def from_table(record: type[R], table: pa.Table) -> list[R]:
    """Read rows from a table; the inverse of :func:`to_table`.

    Args:
        record: the record class.
        table: has the record's columns; others are ignored.

    Returns:
        One instance per row, in order.
    """
    names = [f.name for f in dataclasses.fields(record)]  # pyright: ignore[reportArgumentType]
    return [record(**row) for row in table.select(names).to_pylist()]


def pair_id(concept: str, unsafe_prompt: str, safe_prompt: str) -> str:
    """Derive the id of a prompt pair from its content.

    Args:
        concept: key of the concept.
        unsafe_prompt: prompt that shows the concept.
        safe_prompt: its twin without the concept.

    Returns:
        128-bit BLAKE2b (hex).
    """
    return _blake(16, concept, unsafe_prompt, safe_prompt).hex()


def pair_seed(pair: str, base_model: str) -> int:
    """Derive the seed of the initial noise that both images of a pair share.

    Args:
        pair: id of the pair.
        base_model: id of the base model.

    Returns:
        63 bits, never negative.
    """
    return int.from_bytes(_blake(8, pair, base_model)) >> 1


def edit_seed(pair: str, base_model: str, attempt: int) -> int:
    """Derive the seed of the noise of one edit of a pair's unsafe image.

    Args:
        pair: id of the pair.
        base_model: id of the base model.
        attempt: number of the edit, from 0.

    Returns:
        63 bits, never negative.
    """
    return int.from_bytes(_blake(8, pair, base_model, f"edit {attempt}")) >> 1


def image_id(encoded: bytes) -> str:
    """Derive the id of an image from its content.

    Args:
        encoded: bytes of the encoded file.

    Returns:
        sha256 (hex).
    """
    return hashlib.sha256(encoded).hexdigest()


def pair_role(pair: str, evaluation_share: float) -> Role:
    """Choose the role of a pair, from its id only: adding pairs never changes another's role.

    Args:
        pair: id of the pair.
        evaluation_share: expected share of pairs reserved for evaluation, in [0, 1].

    Returns:
        ``train`` or ``evaluation``.
    """
    drawn = int.from_bytes(_blake(8, pair, "role")) / 2**64
    return "evaluation" if drawn < evaluation_share else "train"


def _blake(size: int, *parts: str) -> bytes:
    # The length prefix keeps ("ab", "c") and ("a", "bc") apart.
    digest = hashlib.blake2b(digest_size=size)
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(8) + raw)
    return digest.digest()
