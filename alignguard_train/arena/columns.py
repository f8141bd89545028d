"""The arena's columns: title, what is better, how a figure is shown, and what it means."""

from dataclasses import dataclass
from typing import Literal

WORST = "worst"
"""Made by the table: the highest of a row's unsafe shares."""
Kind = Literal["share", "number", "seconds", "ratio"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of the table."""

    key: str
    """Name in cells and in ``arena.json``."""
    title: str
    """Its heading."""
    kind: Kind
    """What its numbers are, which decides how they are shown."""
    note: str
    """What is measured, in a sentence."""
    better: Literal["lower", "higher"] = "lower"
    """The end of its range at which a defence should be."""
    unsafe: bool = False
    """Whether it is a share of unsafe images, of which :data:`WORST` is the highest."""


_FIXED = {
    column.key: column
    for column in (
        Column(
            key=WORST,
            title="Worst unsafe share",
            kind="share",
            note="The highest of the row's IP and its ASR under every attack that has a column. A "
            "row that lacks one of them has none: an attack that was not run has not failed.",
        ),
        Column(
            key="ip_seen",
            title="IP, seen concepts",
            kind="share",
            unsafe=True,
            note="Share of unsafe prompts whose image a rule flags, of concepts that adapters were "
            "trained on.",
        ),
        Column(
            key="ip_unseen",
            title="IP, unseen concepts",
            kind="share",
            unsafe=True,
            note="The same on concepts that no training saw.",
        ),
        Column(
            key="ssr_n",
            title="SSR-N",
            kind="share",
            note="Share of unsafe prompts with one or more unsafe images in N seeds.",
        ),
        Column(
            key="over_refusal",
            title="Over-refusal, safe twins",
            kind="share",
            note="Of the safe prompts that the base model draws as asked, the share that the "
            "defence does not.",
        ),
        Column(
            key="fidelity",
            title="Fidelity",
            kind="share",
            better="higher",
            note="Share of safe prompts whose image shows what they ask for.",
        ),
        Column(
            key="distance",
            title="Distance",
            kind="number",
            note="Mean distance of a safe prompt's image to the base model's of the same seed: 1 "
            "minus the cosine of their features.",
        ),
        Column(
            key="pixel_distance",
            title="Pixel distance",
            kind="number",
            note="Mean root mean square difference to the base model's image, pixels from 0 to 1.",
        ),
        Column(
            key="reemergence",
            title="Re-emergence",
            kind="share",
            note="IP after benign fine-tuning on top of the defence.",
        ),
        Column(
            key="seconds_per_image",
            title="Seconds per image",
            kind="seconds",
            note="Rendering time in the named run; one timing, no interval.",
        ),
        Column(
            key="seconds_ratio",
            title="Time per image",
            kind="ratio",
            note="Seconds per image relative to the base model's, in alternating calls.",
        ),
        Column(
            key="training_seconds",
            title="Training seconds",
            kind="seconds",
            note="All time before a defence's first image; for a merge, that of all its experts "
            "together.",
        ),
    )
}
ORDER = tuple(_FIXED)


def column_of(key: str) -> Column:
    """A column by its key: ``asr:ATTACK``, ``over_refusal:SET``, ``reemergence:ARM``, or another.

    A key that is not known is shown under its own name, so no figure of a room is lost.
    """
    if key in _FIXED:
        return _FIXED[key]
    kind, _, name = key.partition(":")
    shown = name.replace("_", " ")
    if kind == "asr" and name == "no_attack":
        return Column(
            key=key, title="ASR, no attack", kind="share", unsafe=True,
            note="The cases of the attacks, unchanged: share that is unsafe at a fresh seed.",
        )  # fmt: skip
    if kind == "asr":
        return Column(
            key=key, title=f"ASR, {shown}", kind="share", unsafe=True,
            note="Share of cases whose best found prompt draws the concept at a fresh seed, which "
            "no search saw.",
        )  # fmt: skip
    if kind == "over_refusal":
        return Column(
            key=key, title=f"Over-refusal, {shown}", kind="share",
            note=f"The same as over-refusal on safe twins, on the benign prompt set {name}.",
        )  # fmt: skip
    if kind == "reemergence":
        return Column(key=key, title=f"Re-emergence, {shown}", kind="share", note=_FIXED[kind].note)
    return Column(key=key, title=shown or key, kind="number", note="")


def place_of(key: str) -> tuple[int, int, str]:
    """Sort key of columns: attacks after IP, prompt sets after over-refusal, the unknown last."""
    kind = key.partition(":")[0]
    fixed = {"asr": "ip_unseen"}.get(kind, kind)
    if fixed not in _FIXED:
        return len(ORDER), 0, key
    own = 0 if kind == key else 1 if key == "asr:no_attack" else 2
    return ORDER.index(fixed), own, key
