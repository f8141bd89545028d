"""Tables of the attacks on the gate and of the prompts that name two categories.

An attacked case is one concept's scene with one training seed; its scene is another one for every
seed, so its intervals are a bootstrap over concepts, whose cases stay together. Prompts that name
two categories are the same for every seed: their intervals are the study's, over trainings and
prompts. Differences are paired.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.contracts.intervals import (
    Bootstrap,
    mean_interval,
    paired_difference,
    two_way_interval,
)
from alignguard_train.evaluation.report.tables import percent, points
from alignguard_train.evaluation.statistics import mcnemar
from research.study import gate_attacks, results, two_categories

Table = npt.NDArray[np.float64]
"""Values (seeds, cases)."""
GATE, SINGLE = gate_attacks.GATE, "All-single, safeguard"
ARMS = (GATE, SINGLE, "Co-Merge", BASE)
NAMES: Mapping[str, str] = {
    "no_attack": "none",
    "ring_a_bell": "Ring-A-Bell",
    "mma": "MMA",
    "diffzoo_lite": "DiffZOO lite",
    "appended": "appended words",
    "gate_aware": "appended words that know the gate",
    "any": "any of these that does not know the gate",
}
UNAWARE = tuple(name for name in NAMES if name not in ("no_attack", "gate_aware", "any"))


def attacked(path: Path | None = None) -> dict[str, list[list[str]]]:
    """The rows of three tables: unsafe shares, differences, and what the gate chose.

    Args:
        path: file of the lines; None: docs/study/gate_attacks.jsonl.

    Returns:
        ``shares``, ``differences`` and ``choices``; empty lists without a whole seed.
    """
    lines = _whole(results.read(path or gate_attacks.LINES), gate_attacks.ARMS)
    if not lines:
        return {"shares": [], "differences": [], "choices": []}
    return {
        "shares": [
            [NAMES[name], *(_by_concept(_values(lines, arm, name)) for arm in ARMS)]
            for name in NAMES
        ],
        "differences": [
            [NAMES[name], *_differing(one, two)]
            for name in NAMES
            if (one := _values(lines, GATE, name)) is not None
            and (two := _values(lines, SINGLE, _against(name))) is not None
        ],
        "choices": [
            [NAMES[name], *_choices(lines, name)]
            for name in NAMES
            if name != "any" and _bits(lines, GATE, name, "wrong_expert") is not None
        ],
    }


def seeds_attacked(path: Path | None = None) -> tuple[int, int]:
    """Whole seeds, and cases of all of them together."""
    lines = _whole(results.read(path or gate_attacks.LINES), gate_attacks.ARMS)
    return len(lines), sum(len(own[GATE]["cases"]) for own in lines)


def two_named(path: Path | None = None) -> dict[str, list[list[str]]]:
    """The rows of two tables: shares by arm, and differences to the gate by category.

    Args:
        path: file of the lines; None: docs/study/two_categories.jsonl.

    Returns:
        ``shares``, ``differences`` and ``both``: in how many images of how many prompts with two
        colours the base model shows both; empty lists without lines.
    """
    lines: dict[str, dict[int, Mapping[str, Any]]] = {}
    for line in results.read(path or two_categories.LINES).values():
        lines.setdefault(line["arm"], {})[line["seed"]] = line
    arms = [arm for arm in (BASE, *two_categories.ARMS) if arm in lines]
    if BASE not in arms or len(arms) < 2:
        return {"shares": [], "differences": [], "both": []}
    base = lines[BASE][0]
    drawn = np.flatnonzero(_either(base, "unsafe"))
    shares = []
    for arm in arms:
        unsafe, safe = (_sides(lines[arm], side, lines[arm]) for side in ("unsafe", "safe"))
        shares.append(
            [
                arm, str(len(unsafe)), _share(unsafe), _share(unsafe[:, drawn]), _share(safe),
                _chosen(list(lines[arm].values())),
            ]
        )  # fmt: skip
    return {
        "shares": shares,
        "differences": [
            _compared(lines, arm, other)
            for arm in arms
            for other in arms
            if arm.startswith(GATE) and other not in (BASE, GATE, arm)
        ],
        "both": [[str(base["both"].count("1")), str(len(base["both"]) - base["both"].count("-"))]],
    }


def _compared(
    lines: Mapping[str, Mapping[int, Mapping[str, Any]]], arm: str, other: str
) -> list[str]:
    """A row of differences over the seeds that both arms have."""
    seeds = sorted(set(lines[arm]) & set(lines[other]))
    unsafe, safe = (
        [_sides(lines[one], side, seeds) for one in (arm, other)] for side in ("unsafe", "safe")
    )
    return [
        f"{arm} - {other}", str(len(seeds)), *_difference(*unsafe)[:3], _difference(*safe)[0]
    ]  # fmt: skip


def _sides(lines: Mapping[int, Mapping[str, Any]], side: str, seeds: Iterable[int]) -> Table:
    return np.array([_either(lines[seed], side) for seed in sorted(seeds)])


def _whole(
    known: Mapping[str, Mapping[str, Any]], arms: Sequence[str]
) -> list[dict[str, Mapping[str, Any]]]:
    """Lines by arm of every seed that has all arms, in the order of seeds."""
    by_seed: dict[int, dict[str, Mapping[str, Any]]] = {}
    for line in known.values():
        by_seed.setdefault(line["seed"], {})[line["arm"]] = line
    return [own for _, own in sorted(by_seed.items()) if set(arms) <= set(own)]


def _against(name: str) -> str:
    """With what All-single is attacked instead: it has no gate to know."""
    return "appended" if name == "gate_aware" else name


def _values(lines: Sequence[Mapping[str, Any]], arm: str, name: str) -> Table | None:
    if name != "any":
        return _bits(lines, arm, name, "replay")
    tables = [_bits(lines, arm, one, "replay") for one in UNAWARE]
    known = [table for table in tables if table is not None]
    return np.max(known, axis=0) if len(known) == len(UNAWARE) else None


def _bits(lines: Sequence[Mapping[str, Any]], arm: str, name: str, what: str) -> Table | None:
    if any(name not in own[arm]["attacks"] for own in lines):
        return None
    return np.array([[int(bit) for bit in own[arm]["attacks"][name][what]] for own in lines], float)


def _either(line: Mapping[str, Any], side: str) -> npt.NDArray[np.float64]:
    """Whether each image shows the first or the second thing that its prompt names."""
    parts = [[int(bit) for bit in line[f"{side}_{name}"]] for name in ("first", "second")]
    return np.max(np.array(parts, dtype=float), axis=0)


def _by_concept(table: Table | None) -> str:
    """A share with its interval over concepts, and the lowest and the highest seed's."""
    if table is None:
        return "–"
    found = mean_interval(table.ravel(), _concepts(table), Bootstrap(), share=True)
    each = 100 * table.mean(axis=1)
    return f"{percent(found)} ({each.min():.0f}–{each.max():.0f})"


def _concepts(table: Table) -> list[str]:
    return [str(at) for _ in table for at in range(table.shape[1])]


def _differing(one: Table, other: Table) -> list[str]:
    """As :func:`_difference`, with the interval over concepts."""
    found = paired_difference(one.ravel(), other.ravel(), _concepts(one), Bootstrap(), share=True)
    return [points(found), *_difference(one, other)[1:]]


def _share(table: Table) -> str:
    return percent(two_way_interval(table, Bootstrap(), kind="share"))


def _difference(one: Table, other: Table) -> list[str]:
    """Points with their interval, cases that only the first and only the other broke, and p."""
    tested = mcnemar(one.ravel().astype(bool), other.ravel().astype(bool))
    found = two_way_interval(one - other, Bootstrap(), kind="difference")
    return [
        points(found), str(tested["more"]), str(tested["fewer"]), f"{tested['p']:.2g}"
    ]  # fmt: skip


def _choices(lines: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    wrong, broken = _bits(lines, GATE, name, "wrong_expert"), _bits(lines, GATE, name, "replay")
    named = _bits(lines, GATE, name, "named")
    assert wrong is not None
    assert broken is not None
    assert named is not None
    sent = wrong.astype(bool)
    return [
        _by_concept(wrong),
        f"{int(broken[sent].sum())} of {int(sent.sum())}",
        f"{int(broken[~sent].sum())} of {int((~sent).sum())}",
        f"{int(named.sum())} of {named.size}",
    ]


def _chosen(lines: Sequence[Mapping[str, Any]]) -> str:
    """Share of prompts whose first, second or no named object's expert the gate prefers."""
    text = "".join(line.get("chosen", "") for line in lines)
    if not text:
        return "–"
    return " / ".join(f"{100 * text.count(one) / len(text):.0f}" for one in "120") + " %"
