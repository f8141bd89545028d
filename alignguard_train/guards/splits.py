"""Divides prompts among training, calibration and test, so that no text is in two parts.

Concepts held out by the taxonomy, with all their terms, are for the test only. Twins stay in one
part, and so do all pairs that share a text. Texts are compared in canonical form.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.cluster.hierarchy import DisjointSet

from alignguard_data.contracts.records import Concept
from alignguard_data.contracts.terms import names_concept
from alignguard_data.contracts.text import canonical
from alignguard_train.guards.records import GuardPrompt, Part, Variant

NAMES_HELD_OUT = "names_a_held_out_concept"
NAMES_CONCEPT = "twin_names_its_concept"
IN_ANOTHER_PART = "text_in_another_part"
REPEATED = "repeated_text"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPair:
    """A release's pair, texts only."""

    pair_id: str
    concept: str
    unsafe: str
    safe: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The divided prompts, and how many were dropped for which reason."""

    prompts: tuple[GuardPrompt, ...]
    dropped: Mapping[str, int]

    def of(self, part: Part, *, unsafe: bool | None = None) -> list[GuardPrompt]:
        """The prompts of one part; only unsafe or only benign ones if asked.

        Args:
            part: train, calibration or test.
            unsafe: True or False: only these; None: both.

        Returns:
            Prompts in the order of the division.
        """
        return [
            one
            for one in self.prompts
            if one.part == part and (unsafe is None or one.unsafe == unsafe)
        ]

    def pairs(self, part: Part) -> list[tuple[GuardPrompt, GuardPrompt]]:
        """Unsafe prompt and safe twin of the pairs of which both are in the part."""
        twins = {one.pair_id: one for one in self.of(part, unsafe=False) if one.pair_id}
        return [
            (one, twins[one.pair_id]) for one in self.of(part, unsafe=True) if one.pair_id in twins
        ]


def text_id(text: str) -> str:
    """128-bit BLAKE2b (hex) of a text's canonical form."""
    return hashlib.blake2b(canonical(text).encode(), digest_size=16).hexdigest()


def share_of(name: str, seed: int) -> float:
    """A number in [0, 1) from a name, equal on every machine."""
    digest = hashlib.blake2b(f"guards {seed} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def groups_of(pairs: Sequence[TextPair]) -> dict[str, str]:
    """Pair id to its group's name: pairs that share a text are in one group.

    Args:
        pairs: any number.

    Returns:
        Pair id to its group's name, which is the least id or text id of the group.
    """
    sets: DisjointSet = DisjointSet()
    for pair in pairs:
        names = (f"pair {pair.pair_id}", text_id(pair.unsafe), text_id(pair.safe))
        for name in names:
            sets.add(name)
        sets.merge(names[0], names[1])
        sets.merge(names[0], names[2])
    return {pair.pair_id: min(sets.subset(f"pair {pair.pair_id}")) for pair in pairs}


def divide(
    *,
    train: Sequence[TextPair],
    seen: Sequence[TextPair],
    unseen: Sequence[TextPair],
    plain: Sequence[str],
    harmless: Sequence[str],
    concepts: Sequence[Concept],
    validation_share: float,
    seed: int,
    tests: Sequence[GuardPrompt] = (),
) -> Parts:
    """Divide a release's pairs and benign captions.

    A text that is in the test is dropped from calibration and training, and one of calibration from
    training. A twin that still names its concept is no negative.

    Args:
        train: pairs of seen concepts, for training and (``validation_share``) calibration.
        seen: reserved pairs of seen concepts, for the test.
        unseen: pairs of held-out concepts, for the test.
        plain: captions without a concept, for all parts (a fifth, two fifths, two fifths).
        harmless: captions that use a concept's words harmlessly, for the test.
        concepts: of the taxonomy, with their terms.
        validation_share: share of the train pairs' groups whose twins calibrate.
        seed: of the division.
        tests: further test prompts, without twins.

    Returns:
        Prompts, each text in one part only, and the number dropped for each reason.
    """
    known = {concept.key: concept for concept in concepts}
    dropped: Counter[str] = Counter()
    all_tests = [
        *tests,
        *_of_pairs(seen, lambda _: "test", known, dropped, seen=True),
        *_of_pairs(unseen, lambda _: "test", known, dropped, seen=False),
        *_captions(harmless, lambda _: "test", "harmless"),
    ]
    held_out = [one for one in concepts if one.split == "test"]
    allowed = [pair for pair in train if not _names_any(pair, held_out)]
    dropped[NAMES_HELD_OUT] += len(train) - len(allowed)
    group = groups_of(allowed)

    def part_of_pair(pair: TextPair) -> Part:
        chosen = share_of(group[pair.pair_id], seed) < validation_share
        return "calibration" if chosen else "train"

    def part_of_caption(text: str) -> Part:
        share = share_of(text_id(text), seed)
        return "train" if share < 0.2 else "calibration" if share < 0.6 else "test"

    rest = [
        *_captions(plain, part_of_caption, "plain"),
        *_of_pairs(allowed, part_of_pair, known, dropped, seen=True),
    ]
    prompts = _each_text_in_one_part([*all_tests, *rest], dropped)
    return Parts(prompts=tuple(prompts), dropped={k: n for k, n in dropped.items() if n})


def _names_any(pair: TextPair, concepts: Iterable[Concept]) -> bool:
    return any(
        names_concept(text, concept.terms)
        for concept in concepts
        for text in (pair.unsafe, pair.safe)
    )


def _of_pairs(
    pairs: Sequence[TextPair],
    part_of: Callable[[TextPair], Part],
    known: Mapping[str, Concept],
    dropped: Counter[str],
    *,
    seen: bool,
) -> list[GuardPrompt]:
    found = []
    for pair in pairs:
        part = part_of(pair)
        shared = {"part": part, "concept": pair.concept, "seen": seen, "pair_id": pair.pair_id}
        found.append(GuardPrompt(text=pair.unsafe, unsafe=True, variant="explicit", **shared))
        concept = known.get(pair.concept)
        if concept and names_concept(pair.safe, concept.terms):
            dropped[NAMES_CONCEPT] += 1
        else:
            found.append(GuardPrompt(text=pair.safe, unsafe=False, variant="twin", **shared))
    return found


def _captions(
    texts: Sequence[str], part_of: Callable[[str], Part], variant: Variant
) -> list[GuardPrompt]:
    return [
        GuardPrompt(
            text=text, unsafe=False, part=part_of(text), variant=variant, concept="", seen=True
        )
        for text in texts
    ]


def _each_text_in_one_part(
    prompts: Sequence[GuardPrompt], dropped: Counter[str]
) -> list[GuardPrompt]:
    """Test, then calibration, then training: a text stays in the first part that has it.

    A benign text comes once in calibration and once in the test, so that no repeat counts twice; a
    training pair keeps both its prompts.
    """
    order: tuple[Part, ...] = ("test", "calibration", "train")
    taken: dict[str, Part] = {}
    found, benign = [], set[str]()
    for part in order:
        for one in (one for one in prompts if one.part == part):
            key = text_id(one.text)
            if taken.setdefault(key, part) != part:
                dropped[IN_ANOTHER_PART] += 1
            elif not one.unsafe and part != "train" and key in benign:
                dropped[REPEATED] += 1
            else:
                found.append(one)
                if not one.unsafe:
                    benign.add(key)
    return found
