"""Small rows for the tests of near-duplicates, and an embedder of hand-made vectors."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alignguard_data.dedup.edges import Measured, Part

PHASHES = ("0" * 16, "000000000000000f", "00000000000000ff", "f" * 16)
"""4 and 8 bits apart; the last is far from all."""


def row(name: str, unsafe: str, safe: str = "", phashes: tuple[str, str] | None = None) -> Measured:
    """A row of concept ``a.b``.

    Without ``safe`` a caption of its own, without ``phashes`` no images.
    """
    images = phashes or ("", "")
    return Measured(
        pair_id=name,
        concept="a.b",
        category="a",
        captions=(unsafe, safe or f"safe twin of {name}"),
        unsafe_phash=images[0],
        safe_phash=images[1],
    )


def part(name: str, *rows: Measured) -> Part:
    """A part whose content id follows its rows."""
    content = hashlib.sha256(repr(rows).encode()).hexdigest()
    return Part(name=name, content_id=content, rows=lambda: rows)


@dataclass
class AngleEmbedder:
    """A prompt ``... at 30`` points 30 degrees from the first axis; others where their hash says.

    Two prompts' cosine is that of the difference of their angles.
    """

    name: str = "angle"
    version: str = "1"
    asked: list[str] = field(default_factory=list)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked += texts
        angles = np.radians([_degrees(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _degrees(text: str) -> float:
    last = text.split()[-1]
    return float(last) if last.isdigit() else hashlib.sha256(text.encode()).digest()[0] * 1.4
