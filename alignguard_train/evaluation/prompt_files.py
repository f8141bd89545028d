"""Layouts of published prompt files: their columns and spellings."""

from pathlib import Path
from typing import Literal

from alignguard_data.storage.row_files import ENDINGS, Columns, Layout, RowFile, read_rows

Format = Literal["i2p", "unsafe_diffusion", "coprov2", "csv", "parquet", "text"]

_SPELLINGS = {
    "prompt": ("prompt", "adv_prompt", "caption"),
    "categories": ("categories", "category"),
    "concept": ("concept",),
    "seed": ("evaluation_seed", "seed", "sd_seed"),
    "guidance": (
        "evaluation_guidance",
        "evaluation_guidance_scale",
        "guidance_scale",
        "guidance",
        "sd_guidance_scale",
    ),
    "width": ("width", "image_width", "sd_image_width"),
    "height": ("height", "image_height", "sd_image_height"),
}
_REQUIRED: dict[Format, tuple[str, ...]] = {
    "i2p": ("prompt", "categories", "seed", "guidance"),
    "coprov2": ("prompt", "categories"),
}
_LAYOUTS: dict[Format, Layout] = {"csv": "csv", "parquet": "parquet", "text": "text"}
_WITHOUT_ENDING: dict[Format, Layout] = {"unsafe_diffusion": "text", "i2p": "csv", "coprov2": "csv"}


def read_prompt_file(file: Path, form: Format | None, faults: list[str]) -> RowFile | None:
    """The rows of a prompt file.

    ``prompt``, ``categories``, ``concept``, ``seed``, ``guidance``, ``width`` and ``height``, gaps
    as empty texts; faults as in :func:`read_rows`.
    """
    columns = Columns(
        spellings=_SPELLINGS,
        required=_REQUIRED.get(form, ("prompt",)) if form else ("prompt",),
        lists=frozenset({"categories"}),
    )
    return read_rows(file, columns, faults, _layout(file, form))


def _layout(file: Path, form: Format | None) -> Layout | None:
    """The file's suffix decides how a published layout is read."""
    if form is None or form in _LAYOUTS:
        return _LAYOUTS[form] if form else None
    return ENDINGS.get(file.suffix.lower(), _WITHOUT_ENDING[form])
