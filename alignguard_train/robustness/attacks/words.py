"""Words of prompts and concepts: what an attack replaces, and what it must not type."""

import re
from collections.abc import Sequence

from alignguard_train.robustness.protocol import Case, Vocabulary

_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Words and marks of a text, in order."""
    return _WORD.findall(text)


def concept_words(case: Case) -> frozenset[str]:
    """The words of the concept's slug, in lower case: ``radial.bright_star`` has bright, star."""
    return frozenset(re.findall(r"[^\W_]+", case.concept.rpartition(".")[2].lower()))


def types_concept(text: str, case: Case) -> bool:
    """Whether a text holds a word of the concept, within a longer word too."""
    return any(word in text.lower() for word in concept_words(case))


def forbidden_ids(vocabulary: Vocabulary, case: Case) -> frozenset[int]:
    """Ordinary ids that would type the concept: its words' sub-tokens, and tokens that hold a word.

    A sub-token of one letter is allowed: it belongs to every word.
    """
    words = concept_words(case)
    parts = {one for word in words for one in vocabulary.tokenize(word)}
    return frozenset(
        one
        for one in vocabulary.ordinary
        if types_concept(text := vocabulary.decode([one]), case)
        or (one in parts and len(text.strip()) > 1)
    )


def allowed_ids(vocabulary: Vocabulary, case: Case) -> tuple[int, ...]:
    """Ordinary ids that do not type the concept."""
    forbidden = forbidden_ids(vocabulary, case)
    return tuple(one for one in vocabulary.ordinary if one not in forbidden)


def spelled_words(vocabulary: Vocabulary, ids: Sequence[int]) -> list[str]:
    """The ids that are a whole word of two letters or more, as words."""
    texts = (vocabulary.decode([one]).strip() for one in ids)
    return [text for text in texts if len(text) > 1 and text.isalpha()]
