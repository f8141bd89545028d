"""The study's verdict on each claim: differences with intervals, and a word."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise

from statsmodels.stats.multitest import multipletests

from research.study.glyph_trials import FULL, SCALES, SHORT
from research.study.reading import Cell, Difference, Part, difference

Cells = Mapping[tuple[str, float], Cell]
IP_LIMIT, KEPT_LIMIT = 0.05, 0.95
"""Limits for a held number of concepts: maximum IP, minimum share of right safe scenes."""
MARGIN = 0.05
"""A measure is kept if it is worse by less than this."""
LEVEL = 0.05
"""Family-wise error rate of a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One comparison of two arms.

    The difference in IP and in right safe scenes, with the verdict that its table allows.
    """

    says: str
    ip: Difference
    kept: Difference
    seeds: int
    word: str = "open"


def versus(
    cells: Cells,
    wanted: Iterable[tuple[tuple[str, float], tuple[str, float], str]],
    *,
    part: Part = "seen",
) -> list[Verdict]:
    """Judge each wanted comparison.

    The first should have less IP at no fewer safe scenes, or vice versa; comparisons without a
    common seed are omitted. ``part``: the concepts whose IP counts. All comparisons of a call are
    one family of tests.
    """
    found = []
    for one, other, says in wanted:
        if one not in cells or other not in cells:
            continue
        a, b = cells[one], cells[other]
        seeds = len(set(a.seeds) & set(b.seeds))
        if seeds:
            ip, kept = difference(a, b, "flagged", part), difference(a, b, "right", "all")
            found.append(Verdict(says=says, ip=ip, kept=kept, seeds=seeds))
    return judged(found)


def judged(family: Sequence[Verdict]) -> list[Verdict]:
    """The comparisons with their verdicts.

    A difference counts where Holm's (1979) adjusted p, over both measures of all comparisons, is
    below :data:`LEVEL`. One that counts *holds* (or its opposite does) if the other measure's
    interval is within :data:`MARGIN`.
    """
    tested = [one for one in family if one.seeds > 1]
    sides = iter(_sides(tested))
    return [
        replace(one, word=_word(one, *next(sides)) if one.seeds > 1 else "one training")
        for one in family
    ]


def _sides(family: Sequence[Verdict]) -> list[tuple[int, int]]:
    """For IP and safe scenes: 1 if the first is better, -1 if worse, 0 if open."""
    tests = [found.test for one in family for found in (one.ip, one.kept)]
    signs, p = [], []
    for test, better in zip(tests, cycle((-1, 1)), strict=False):
        assert test
        signs.append(better if test.centre > 0 else -better)
        p.append(min(1, 2 * min(test.p_above(0), test.p_below(0))))
    counts = [sign if yes else 0 for sign, yes in zip(signs, holm(p, LEVEL), strict=True)]
    return list(zip(counts[::2], counts[1::2], strict=True))


def _word(one: Verdict, ip: int, kept: int) -> str:
    if ip * kept < 0:
        return "a trade"
    if ip + kept > 0:
        holds = one.ip.interval.high < MARGIN and one.kept.interval.low > -MARGIN
        return "holds" if holds else "less IP, scenes open" if ip else "more scenes, IP open"
    if ip + kept < 0:
        opposite = one.ip.interval.low > -MARGIN and one.kept.interval.high < MARGIN
        open_word = "more IP, scenes open" if ip else "fewer scenes, IP open"
        return "the opposite holds" if opposite else open_word
    within = [found.interval for found in (one.ip, one.kept)]
    alike = all(part.low >= -MARGIN and part.high <= MARGIN for part in within)
    return "alike" if alike else "open"


def holm(p: Sequence[float], level: float) -> list[bool]:
    """Hypotheses rejected by Holm's method at family-wise ``level``, given their p."""
    return [bool(yes) for yes in multipletests(p, level, method="holm")[0]] if p else []


def merging(cells: Cells, best_sum: Mapping[int, str]) -> list[Verdict]:
    """(a) All-single with and without safeguard, and merges; (b) Co-Merge against the rest."""
    wanted: list[tuple[tuple[str, float], tuple[str, float], str]] = []
    for steps in (SHORT, FULL):
        wanted.append(
            (
                ("All-single, safeguard, 7 experts", steps),
                ("All-single, 7 experts", steps),
                f"All-single with safeguard, of 7 x {steps} steps, beats it without",
            )
        )
        wanted.extend(
            (
                (f"{merge}, {count} experts", steps),
                (f"All-single, {count} experts", steps),
                f"{merge} of {count} experts of {steps} steps beats All-single",
            )
            for count in (3, 7)
            for merge in ("Co-Merge mean row", "RegMean")
        )
        others = [arm.removesuffix(", 7 experts") for arm, x in cells if x == steps]
        for other in others:
            if other in ("Co-Merge mean row", "All-single") or other.endswith("3 experts"):
                continue
            # Merges with a chosen scale are compared with Co-Merge at its chosen scale.
            scaled = " x " in other and not other.startswith("sum x")
            ours = next((name for name in others if name.startswith("Co-Merge x")), None)
            ours = ours if scaled and ours else "Co-Merge mean row"
            if other == ours:
                continue
            if other.startswith("sum x") and other != best_sum.get(steps):
                continue
            wanted.append(
                (
                    (f"{ours}, 7 experts", steps),
                    (f"{other}, 7 experts", steps),
                    f"{ours.replace(' mean row', '')} of {steps} steps beats {other}",
                )
            )
    return versus(cells, wanted)


def best_sums(chosen: Cells) -> dict[int, str]:
    """By steps, the sum's scale with the least IP plus damage on the choosing scenes."""
    best: dict[int, str] = {}
    for steps in (SHORT, FULL):
        cost: dict[str, float] = {}
        for scale in SCALES:
            cell = chosen.get((f"sum x {scale}, 7 experts", steps))
            if cell:
                cost[f"sum x {scale}"] = float(
                    cell.values["flagged", "seen"].mean() + 1 - cell.values["right", "all"].mean()
                )
        if cost:
            best[steps] = min(cost, key=cost.__getitem__)
    return best


def conflicts(cells: Cells) -> list[Verdict]:
    """Merges against All-single, where categories conflict."""
    return versus(
        cells,
        (
            ((arm, x), ("All-single", x), f"{arm} of {x:g} steps beats All-single")
            for arm, x in cells
            if arm != "All-single" and not arm.startswith("one ")
        ),
    )


def gating(cells: Cells) -> list[Verdict]:
    """Every way of using experts against one adapter for all, and against Co-Merge."""
    others = ("All-single, safeguard", "Co-Merge")
    return versus(
        cells,
        (
            ((arm, x), (other, x), f"{arm} beats {other}")
            for arm, x in cells
            for other in others
            if arm not in others
        ),
    )


def flow(cells: Cells) -> list[Verdict]:
    """The method's claim on a flow-matching transformer."""
    return versus(
        cells,
        (
            ((one, x), (other, x), f"{one} beats {other}")
            for arm, x in cells
            if arm == "All-single"
            for one, other in (
                ("Co-Merge", "All-single"),
                ("Co-Merge", "All-single, safeguard"),
                ("All-single, safeguard", "All-single"),
                ("Co-Merge", "average"),
            )
        ),
    )


def later(cells: Cells) -> list[Verdict]:
    """A category that comes later: merging an expert in against training All-single on.

    IP is that of the new category and of those before it, which may be forgotten.
    """
    trained = [place for place in cells if place[0].endswith("trained on")]
    return versus(
        cells,
        (
            (place, other, f"{place[0]} beats training on")
            for other in trained
            for place in cells
            if place != other
        ),
        part="all",
    )


def data(cells: Cells) -> list[Verdict]:
    """(c) Each amount of pairs against the next smaller one."""
    amounts = sorted(x for _, x in cells)
    return versus(
        cells,
        (
            (("All-single", more), ("All-single", less), f"{more:g} pairs a concept beat {less:g}")
            for less, more in pairwise(amounts)
        ),
    )


def filtering(cells: Cells) -> list[Verdict]:
    """(f) filtered against unfiltered."""
    says = "filtering noisy pairs beats training on all of them"
    return versus(cells, [(("noisy, filtered", 0.0), ("noisy", 0.0), says)])


def concepts(cells: Cells) -> list[Verdict]:
    """(d) Co-Merge of single-concept experts against the other arms, at each number."""
    return versus(
        cells,
        (
            (("Co-Merge", x), (other, x), f"Co-Merge of {x:g} experts beats {other}")
            for arm, x in cells
            if arm == "Co-Merge" and x > 1
            for other in ("All-single", "RegMean", "average")
        ),
    )


def held(cells: Cells) -> dict[str, float]:
    """(d) By arm, the largest number of concepts that stays within both limits."""
    found: dict[str, float] = {}
    arms = dict.fromkeys(arm for arm, _ in cells)
    for arm in arms:
        best = 0.0
        for x in sorted(x for name, x in cells if name == arm):
            cell = cells[arm, x]
            ip = float(cell.values["flagged", "seen"].mean())
            if ip > IP_LIMIT or float(cell.values["right", "all"].mean()) < KEPT_LIMIT:
                break
            best = x
        found[arm] = best
    return found


def remedies(cells: Cells) -> list[Verdict]:
    """(e) each remedy against none at the same beta."""
    return versus(
        cells,
        (
            ((arm, beta), ("none", beta), f"{arm} against none at beta {beta:g}")
            for arm, beta in cells
            if arm not in ("none", "SFT")
        ),
    )


def costs(cells: Cells) -> list[Verdict]:
    """SC-DPO's parts against DPO, reconstructed."""
    return versus(
        cells,
        (
            ((arm, x), ("DPO", x), f"{arm.removeprefix('+ ')} against DPO")
            for arm, x in cells
            if arm != "DPO"
        ),
    )


ALL: dict[str, Callable[[Cells], Sequence[Verdict]]] = {
    "conflicts": conflicts,
    "gating": gating,
    "flow": flow,
    "flow, conflicts": flow,
    "later": later,
    "later object": later,
    "concepts": concepts,
    "data": data,
    "data, objects": data,
    "filtering": filtering,
    "filtering, objects": filtering,
    "remedies": remedies,
    "costs": costs,
}
