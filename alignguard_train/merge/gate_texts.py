"""What a gate learns from: captions of a release with their categories, some of them held out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignguard_data.storage.places import Place
from alignguard_train.guards.source import release_pairs
from alignguard_train.guards.splits import TextPair, groups_of, share_of


@dataclass(frozen=True, kw_only=True, slots=True)
class GateTexts:
    """Captions and their categories, one list to fit on and one to choose the penalty with."""

    fitted: tuple[tuple[str, str], ...]
    held_out: tuple[tuple[str, str], ...]

    @property
    def categories(self) -> list[str]:
        """Of all captions, sorted."""
        return sorted({category for _, category in (*self.fitted, *self.held_out)})


def gate_texts(release: Place, *, twins: bool, share: float, seed: int) -> GateTexts:
    """Read a release's train captions and hold some of every concept out.

    Args:
        release: folder of the release.
        twins: take the safe twins too, which must name their category then.
        share: of each concept's captions that is held out.
        seed: of the choice of these.

    Returns:
        Captions with categories; no text is in both parts.

    Raises:
        IntegrityError: a shard or a column is missing.
    """
    pairs = release_pairs(release, "train")
    if not twins:
        pairs = [replace(pair, safe=pair.unsafe) for pair in pairs]
    held = held_out(pairs, share, seed)
    parts: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for pair in pairs:
        category = pair.concept.partition(".")[0]
        part = parts[pair.pair_id in held]
        part += [(text, category) for text in dict.fromkeys((pair.unsafe, pair.safe))]
    return GateTexts(fitted=tuple(parts[0]), held_out=tuple(parts[1]))


def held_out(pairs: Sequence[TextPair], share: float, seed: int) -> set[str]:
    """Choose pairs by a hash, concept by concept, so that the order of a release does not matter.

    Args:
        pairs: any number; those that share a text stay together.
        share: of a concept's texts.
        seed: of the hash.

    Returns:
        Ids of about ``share`` of every concept's pairs; at least one where it has two texts or
        more, and never all.
    """
    group, members = groups_of(pairs), dict[str, set[str]]()
    for pair in pairs:
        members.setdefault(group[pair.pair_id], set()).add(pair.concept)
    left = Counter(concept for concepts in members.values() for concept in concepts)
    wanted = {concept: max(1, round(share * n)) if n > 1 else 0 for concept, n in left.items()}
    held = set[str]()
    for name in sorted(members, key=lambda name: (share_of(name, seed), name)):
        concepts = members[name]
        if any(wanted[one] > 0 for one in concepts) and all(left[one] > 1 for one in concepts):
            held.add(name)
            wanted.update({one: wanted[one] - 1 for one in concepts})
            left.subtract(concepts)
    return {pair.pair_id for pair in pairs if group[pair.pair_id] in held}
