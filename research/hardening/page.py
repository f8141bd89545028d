"""docs/hardening.md: shares of broken cases, costs and differences, pooled over training seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.storage.shards import write_bytes
from alignguard_train.contracts.adapter_names import BASE, HARDENED, MERGED, PEER, label
from alignguard_train.contracts.intervals import Bootstrap, two_way_interval
from research.hardening.control import CONTROL
from research.pages import page_template

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
TITLES = {BASE: "base", MERGED: "weak merge"}
SHOWN = {
    "no_attack": "no attack",
    "ring_a_bell": "Ring-A-Bell, smaller search",
    "mma": "MMA-Diffusion, smaller search",
    "diffzoo_lite": "DiffZOO lite",
    "ring_a_bell_soft": "Ring-A-Bell soft (text states)",
}
NOTHING = "not measured"
Lines = Mapping[str, Mapping[str, Any]]
Table = npt.NDArray[np.float64]
Read = Callable[[Mapping[str, Any], str], "list[float] | None"]
"""From a line and an adapter to a value a case or prompt; None if the line has no such adapter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measure.

    Attributes:
        title: for a reader.
        read: its values.
        attack: it is a share of cases under attack.
    """

    title: str
    read: Read
    attack: bool = False


def draw(known: Lines, docs: Path = DOCS) -> None:
    """Write the page; nothing without lines.

    Args:
        known: lines by key.
        docs: folder of the documentation.
    """
    lines = list(known.values())
    if not lines:
        return
    rows, adapters = rows_of(lines), adapters_of(lines)
    text = page_template(HERE).render(
        lines=len(lines),
        seeds=len({line["seed"] for line in lines}),
        cases=len(next(iter(lines[0]["attacks"]["no_attack"].values()))["first"]),
        table=_table(lines, rows, adapters),
        against=_against(lines, rows, adapters),
        states=_coherent(lines, adapters),
        found=_found(lines),
        discussion=(HERE / "discussion.md").read_text(),
    )
    write_bytes(docs / "hardening.md", text.encode())


def adapters_of(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every adapter with a line: the base model, the merge, then each arm's rounds."""
    found = dict.fromkeys(name for line in lines for name in line["evaluation"])
    order = {BASE: 0, MERGED: 1}
    arms = {CONTROL: 2, HARDENED.strip(): 3}
    return sorted(found, key=lambda name: (order.get(name, arms.get(name.split()[0], 4)), name))


def rows_of(lines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Attacks that were used, those held out, and what the evaluation measures."""
    made = [Row(title=SHOWN["no_attack"], read=_case("no_attack"), attack=True)]
    for kind, word in (("used", "used"), ("held_out", "held out")):
        for name in dict.fromkeys(one for line in lines for one in line[kind]):
            title = f"{SHOWN.get(name, name)}, {word}"
            made.append(Row(title=title, read=_case(name), attack=True))
    return [
        *made,
        Row(title="IP", read=_judged("flagged")),
        Row(title="fidelity, safe twins", read=_judged("right")),
        Row(title="over-refusal, safe twins", read=_refused("right", lines)),
        Row(title="over-refusal, near-concepts", read=_refused("benign", lines)),
    ]


def _case(attack: str) -> Read:
    def read(line: Mapping[str, Any], adapter: str) -> list[float] | None:
        own = line["attacks"].get(attack, {}).get(adapter)
        return own and _bits(own["first"])

    return read


def _judged(part: str) -> Read:
    def read(line: Mapping[str, Any], adapter: str) -> list[float] | None:
        own = line["evaluation"].get(adapter)
        return own and _bits(own[part])

    return read


def _refused(part: str, lines: Iterable[Mapping[str, Any]]) -> Read:
    """1 where the base model's image is right and the adapter's is not; only of such prompts."""
    base = next(line["evaluation"][BASE] for line in lines if BASE in line["evaluation"])
    asked = _bits(base[part])

    def read(line: Mapping[str, Any], adapter: str) -> list[float] | None:
        own = line["evaluation"].get(adapter)
        if own is None:
            return None
        return [1 - right for right, was in zip(_bits(own[part]), asked, strict=True) if was]

    return read


def by_seed(lines: Sequence[Mapping[str, Any]], read: Read, adapter: str) -> dict[int, list[float]]:
    """Values by training seed, of the seeds that have them."""
    found = {}
    for line in sorted(lines, key=lambda line: line["seed"]):
        values = read(line, adapter)
        if values is not None and adapter in line["evaluation"]:
            found[int(line["seed"])] = values
    return found


def share(values: Mapping[int, Sequence[float]]) -> str:
    """Mean over seeds and cases in per cent, with its 95 % interval over both."""
    if not values:
        return NOTHING
    found = two_way_interval(_array(values.values()), Bootstrap(), kind="share")
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def points(one: Mapping[int, Sequence[float]], other: Mapping[int, Sequence[float]]) -> str:
    """``one`` minus ``other`` in points, paired by seed and case; of common seeds only."""
    common = sorted(one.keys() & other.keys())
    if not common:
        return NOTHING
    table = _array(one[seed] for seed in common) - _array(other[seed] for seed in common)
    found = two_way_interval(table, Bootstrap(), kind="difference")
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _array(rows: Iterable[Sequence[float]]) -> Table:
    return np.array(list(rows), dtype=float)


def _table(
    lines: Sequence[Mapping[str, Any]], rows: Sequence[Row], adapters: Sequence[str]
) -> list[list[str]]:
    heads = []
    for name in adapters:
        seeds = len(by_seed(lines, _judged("flagged"), name))
        heads.append(f"{_title(name)} ({seeds} seed{'s' * (seeds != 1)})")
    made = [["share of", *heads]]
    for row in rows:
        cells = (share(by_seed(lines, row.read, name)) for name in adapters)
        made.append([row.title, *cells])
    return made


def _against(
    lines: Sequence[Mapping[str, Any]], rows: Sequence[Row], adapters: Sequence[str]
) -> list[list[str]]:
    """What hard negatives add to as many steps, round by round, and the aim."""
    rounds = [name.removeprefix(HARDENED) for name in adapters if name.startswith(HARDENED)]
    heads = [f"hardened {number} minus control {number}" for number in rounds]
    made = [["points of", *heads, "last round / weak merge"]]
    for row in rows:
        values = {name: by_seed(lines, row.read, name) for name in adapters}
        cells = [
            points(values[f"{HARDENED}{number}"], values.get(f"{CONTROL} {number}", {}))
            for number in rounds
        ]
        last = values[f"{HARDENED}{rounds[-1]}"] if rounds else {}
        made.append([row.title, *cells, _ratio(last, values[MERGED]) if row.attack else ""])
    return made


def _ratio(one: Mapping[int, Sequence[float]], other: Mapping[int, Sequence[float]]) -> str:
    common = sorted(one.keys() & other.keys())
    if not common:
        return NOTHING
    value, whole = (float(np.mean([own[seed] for seed in common])) for own in (one, other))
    return f"{value / whole:.2f}" if whole else "0 / 0" if not value else "from 0"


def _coherent(
    lines: Sequence[Mapping[str, Any]], adapters: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """Share of the fresh images under attack that show something, by adapter."""
    found = []
    for name in adapters:
        own = [
            line["attacks"][attack][name]["coherent"]
            for line in lines
            for attack in line["attacks"]
            if name in line["attacks"][attack]
        ]
        digits = [int(digit) for text in own for digit in text]
        if digits:
            found.append((_title(name), f"{100 * np.mean(digits) / 4:.0f} %"))
    return found


def _found(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each seed's rounds found."""
    made = []
    for line in sorted(lines, key=lambda line: line["seed"]):
        rounds = [one for one in line["rounds"] if one.get("hard_negatives") is not None]
        if rounds:
            each = " / ".join(f"{one['hard_negatives']} of {one['attacked']}" for one in rounds)
            made.append(f"seed {line['seed']}: {each}")
    return made


def _title(name: str) -> str:
    return label(name) if name.startswith(PEER) else TITLES.get(name, name)


def _bits(text: str) -> list[float]:
    return [float(bit) for bit in text]
