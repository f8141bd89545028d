"""A release of drawn pairs and a few users, for the tests of personal safety."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignguard_data.contracts.pixels import encode_png
from alignguard_train.personal.records import User

CATEGORIES = ("angular", "banded")
ADULT = User(
    user_id="0", age=30, age_group="young-adults", gender="male", religion="none",
    physical="healthy", mental="healthy", split="seen", banned=("angular",), allowed=("banded",),
)  # fmt: skip


def users(seen: int = 4, unseen: int = 2) -> list[User]:
    """Users of whom every second one bans the other category."""
    swapped = {"banned": ADULT.allowed, "allowed": ADULT.banned}
    made = []
    for number in range(seen + unseen):
        split = "seen" if number < seen else "unseen"
        own = swapped if number % 2 else {}
        made.append(replace(ADULT, user_id=f"{number:07d}", age=20 + number, split=split, **own))
    return made


def write_release(folder: Path, *, train: int = 12, test: int = 6, size: int = 16) -> Path:
    """Pairs of plain images: bright for safe, dark for unsafe."""
    (folder / "data").mkdir(parents=True)
    for split, count in (("train", train), ("test", test)):
        rows = [_row(split, number, size) for number in range(count)]
        if not rows:
            continue
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000.parquet")
    return folder


def _row(split: str, number: int, size: int) -> dict[str, object]:
    category = CATEGORIES[number % 2]
    safe, unsafe = (
        encode_png(np.full((size, size, 3), value + number + 20 * (split == "test"), np.uint8))
        for value in (200, 20)
    )
    return {
        "pair_id": f"{split}{number}",
        "concept": f"{category}.x",
        "category": category,
        "caption": f"a ball number {number} with a mark",
        "caption_safe": f"a ball number {number}",
        "sha256_0": sha256(safe).hexdigest(),
        "sha256_1": sha256(unsafe).hexdigest(),
        "jpg_0": safe,
        "jpg_1": unsafe,
    }
