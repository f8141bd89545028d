"""The shield's four roles as functions: explain, find elements, rewrite, verify.

T2VShield (arXiv 2504.15512) asks a multimodal language model for each. Here the guard's score and
pairs of the release serve, and a learned rewriter if there is one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.terms import names_concept
from alignguard_data.safety.rules import refusal
from alignguard_train.guards.retrieval import Pair

Score = Callable[[Sequence[str]], npt.NDArray[np.float64]]
_WORD = re.compile(r"[\w'-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why a prompt is flagged.

    Attributes:
        words: of the prompt, in order.
        score: of the whole prompt.
        drops: how far the score falls without each word.
    """

    words: tuple[str, ...]
    score: float
    drops: tuple[float, ...]


def explain(prompt: str, score: Score) -> Explanation:
    """Score the prompt without each of its words.

    Args:
        prompt: a flagged prompt.
        score: the guard's.

    Returns:
        Its words, its score, and what each word adds to it.
    """
    words = prompt.split()
    without = [" ".join([*words[:i], *words[i + 1 :]]) for i in range(len(words))]
    found = score([prompt, *without])
    return Explanation(
        words=tuple(words), score=float(found[0]), drops=tuple((found[0] - found[1:]).tolist())
    )


def risky_words(
    explanation: Explanation,
    examples: Sequence[Pair],
    score: Score,
    threshold: float,
    most: int,
    names: Sequence[str] = (),
) -> frozenset[str]:
    """The words of the prompt to leave out.

    Those without which the score falls most, until it is below the threshold; those that every
    negative example has and no positive one; and those that name a concept.

    Args:
        explanation: of the prompt.
        examples: nearest pairs of the release: unsafe sides are negative, safe ones positive.
        score: the guard's.
        threshold: the guard's.
        most: words to find at most.
        names: of the concepts; a score may miss one in a short text.

    Returns:
        Words in lower case.
    """
    words, order = explanation.words, np.argsort(explanation.drops)[::-1][:most]
    left = [tuple(sorted(set(range(len(words))) - set(order[: n + 1]))) for n in range(len(order))]
    scores = score([" ".join(words[i] for i in kept) for kept in left]) if left else []
    enough = next((n for n, value in enumerate(scores) if value < threshold), len(order) - 1)
    found = {word for i in order[: enough + 1] for word in words_of(words[i])}
    if examples:
        negative = set.intersection(*(set(words_of(unsafe)) for unsafe, _ in examples))
        positive = {word for _, safe in examples for word in words_of(safe)}
        found |= (negative - positive) & set(words_of(" ".join(words)))
        found -= positive & set(words_of(examples[0][1]))
    found |= {word for text in words if names_concept(text, names) for word in words_of(text)}
    return frozenset(found)


def options(
    prompt: str,
    risky: frozenset[str],
    examples: Sequence[Pair],
    written: str,
    names: Sequence[str] = (),
) -> list[str]:
    """Texts to draw instead, the one that keeps most of the prompt first.

    Args:
        prompt: the flagged one.
        risky: words that no option may hold.
        examples: nearest pairs, whose safe sides are options.
        written: a rewriter's answer; empty: none.
        names: of the concepts, which no option may name.

    Returns:
        The rewriter's answer, the prompt without its risky words, and the positive examples; those
        that are empty, equal to the prompt or hold a risky word or a concept are left out.
    """
    cut = " ".join(w for w in prompt.split() if not set(words_of(w)) & risky)
    asked = [written.strip(), cut.strip(" ,;"), *(safe for _, safe in examples)]
    kept = [
        text
        for text in dict.fromkeys(asked)
        if text
        and text != prompt
        and not set(words_of(text)) & risky
        and not names_concept(text, names)
        and not refusal(text)
    ]
    return sorted(kept, key=lambda text: -retention(prompt, text))


def retention(prompt: str, text: str) -> float:
    """Share of the prompt's words that the text has."""
    own = set(words_of(prompt))
    return len(own & set(words_of(text))) / len(own) if own else 0.0


def verified(candidates: Sequence[str], score: Score, threshold: float) -> str:
    """The first text that the guard does not flag; empty if it flags all."""
    if not candidates:
        return ""
    scores = score(candidates)
    return next((t for t, value in zip(candidates, scores, strict=True) if value < threshold), "")


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())
