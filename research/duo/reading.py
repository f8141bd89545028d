"""From lines to values of each arm and training seed, of whole seeds only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignguard_train.contracts.adapter_names import BASE
from research.duo.look_alikes import LOOK_ALIKE, PLAIN
from research.duo.measure import ARMS, ATTACKS, DRAWN, LOOK_ALIKES, MEASURES

Line = Mapping[str, Any]
Values = dict[int, list[float]]
"""A value a prompt, case or image, by training seed."""
SHOWN = {
    "no_attack": "no attack",
    "ring_a_bell_soft": "Ring-A-Bell soft (text states)",
    "diffzoo_lite": "DiffZOO lite",
    "mma": "MMA-Diffusion",
    "ring_a_bell": "Ring-A-Bell",
    "concept_inversion": "Concept Inversion (a learned token)",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One measure: its title, the lines that hold it, and its digits in one of them."""

    title: str
    measure: str
    digits: Callable[[Line], str]


ATTACKED = tuple(
    Row(f"broken, {SHOWN[name]}", name, lambda line: line["first"]) for name in ATTACKS
)
"""Cases whose concept is drawn at the first fresh seed."""
ANY = tuple(
    Row(f"broken at any of four seeds, {SHOWN[name]}", name, lambda line: line["any"])
    for name in ATTACKS
)
UNSAFE = Row("IP", DRAWN, lambda line: line["flagged"])
BENIGN = (
    Row("safe scenes right", DRAWN, lambda line: line["right"]),
    Row("scenes near a concept right", DRAWN, lambda line: line["near"]),
    Row("look-alike words, scenes right", LOOK_ALIKES, lambda line: line["words"]),
    *(
        Row(f"{kind} images redrawn, scenes right", LOOK_ALIKES, digits)
        for kind, digits in (
            (PLAIN, lambda line: line["redrawn"][PLAIN]),
            (LOOK_ALIKE, lambda line: line["redrawn"][LOOK_ALIKE]),
        )
    ),
)


class Lines:
    """The lines by arm, seed and measure.

    Args:
        lines: in any order.

    Raises:
        ValueError: a line is of an arm or a measure that this module does not know.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._known: dict[str, dict[int, dict[str, Line]]] = {}
        for line in lines:
            if line["arm"] not in ARMS or line["measure"] not in MEASURES:
                raise ValueError(f"no arm and measure of the duo study: {line['key']}")
            seeds = self._known.setdefault(line["arm"], {})
            seeds.setdefault(line["seed"], {})[line["measure"]] = line

    @property
    def arms(self) -> list[str]:
        """Those with a whole seed, in the order of :data:`ARMS`."""
        return [arm for arm in ARMS if self.seeds(arm)]

    def seeds(self, arm: str) -> list[int]:
        """Training seeds of which every measure has a line."""
        own = self._known.get(arm, {})
        return sorted(seed for seed, found in own.items() if set(MEASURES) <= found.keys())

    def unfinished(self) -> list[tuple[str, int, list[str]]]:
        """Arm, seed and missing measures of every seed that is not whole."""
        return [
            (arm, seed, [name for name in MEASURES if name not in found])
            for arm in ARMS
            for seed, found in sorted(self._known.get(arm, {}).items())
            if not set(MEASURES) <= found.keys()
        ]

    def of(self, arm: str, measure: str) -> dict[int, Line]:
        """One measure's lines by seed."""
        return {seed: self._known[arm][seed][measure] for seed in self.seeds(arm)}

    def values(self, arm: str, row: Row) -> Values:
        """One row's digits by seed."""
        return {
            seed: [float(digit) for digit in row.digits(line)]
            for seed, line in self.of(arm, row.measure).items()
        }

    def coherent(self, arm: str) -> float:
        """Share of the fresh images under attack that show something."""
        lines = [line for name in ATTACKS for line in self.of(arm, name).values()]
        return sum(line["coherent"] for line in lines) / sum(line["images"] for line in lines)

    def rises(self, arm: str, field: str, kind: str, *, relative: bool) -> Values:
        """Rise of each image's denoising error over the base model's; 0 is none.

        Args:
            arm: trained one.
            field: ``errors``, under the empty prompt, or ``errors captioned``.
            kind: of image.
            relative: divided by the base model's error.

        Returns:
            By seed; empty without a whole seed of the base model.
        """
        base = next(iter(self.of(BASE, LOOK_ALIKES).values()), None)
        if base is None:
            return {}
        return {
            seed: [
                (error - before) / (before if relative else 1)
                for error, before in zip(line[field][kind], base[field][kind], strict=True)
            ]
            for seed, line in self.of(arm, LOOK_ALIKES).items()
        }


def minus(one: Values, other: Values) -> Values:
    """Value by value, of the seeds that both have."""
    return {
        seed: [a - b for a, b in zip(one[seed], other[seed], strict=True)]
        for seed in sorted(one.keys() & other.keys())
    }


def seeds_text(seeds: Sequence[int]) -> str:
    """How many seeds there are, in words."""
    return f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
