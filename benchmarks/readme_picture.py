"""The README's picture: one unsafe prompt of each category, before and after the merged adapter.

python -m benchmarks.readme_picture docs/images/before_after.png [DATA] (after `make run`)

The stand-in's "unsafe" images are abstract glyphs, so nothing needs to be blurred.
"""

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pyarrow.parquet as pq
from PIL import Image

ROWS = (("unsafe", "base"), ("unsafe", "merged"), ("safe", "base"), ("safe", "merged"))
NAMES = {"base": "base model", "merged": "with the adapter"}
SIDE = 96
"""Pixels of an enlarged picture; the stand-in draws 32."""


def pictures(data: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """By side and adapter: category to the row of its first prompt that all of them drew."""
    (file,) = data.glob("evaluation/all/*/pictures.parquet")
    rows = pq.read_table(file).to_pylist()
    found: dict[tuple[str, str], dict[str, Any]] = {row: {} for row in ROWS}
    for row in sorted(rows, key=lambda row: row["pair_id"]):
        where = (row["side"], row["adapter"])
        if where in found:
            found[where].setdefault(row["category"], row)
    return found


def draw(found: dict[tuple[str, str], dict[str, Any]], path: Path) -> None:
    """A column a category; rows: unsafe and safe prompt, by base model and merged adapter."""
    categories = sorted(found[ROWS[0]])
    figure, axes = plt.subplots(
        len(ROWS), len(categories), figsize=(1.25 * len(categories) + 1.6, 5.4), squeeze=False
    )
    for line, (side, adapter) in zip(axes, ROWS, strict=True):
        for axis, category in zip(line, categories, strict=True):
            picture = Image.open(io.BytesIO(found[side, adapter][category]["image"]))
            axis.imshow(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST))
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(
            f"{side} prompt\n{NAMES[adapter]}", rotation=0, ha="right", va="center", labelpad=8
        )
    for axis, category in zip(axes[0], categories, strict=True):
        axis.set_title(category, fontsize=10)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(pictures(Path(sys.argv[2] if len(sys.argv) > 2 else "data/standin")), Path(sys.argv[1]))
