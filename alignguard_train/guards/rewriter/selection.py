"""Which of several rewrites is taken: the one that keeps most of the prompt, of those that pass."""

from collections.abc import Mapping, Sequence

from alignguard_data.contracts.terms import names_concept
from alignguard_data.contracts.text import canonical, words
from alignguard_data.safety.rules import refusal
from alignguard_train.guards.protocol import Decision, Guard

EMPTY = "the rewriter answers nothing"
REFUSED = "a rule refuses the rewrite"
NAMES = "the rewrite names the concept"
FLAGGED_AGAIN = "the rewrite is flagged"


def retention(prompt: str, rewrite: str) -> float:
    """Jaccard index of the words of a prompt and its rewrite.

    Args:
        prompt: a text.
        rewrite: a text.

    Returns:
        From 0 to 1; 1 for two empty texts.
    """
    ours, theirs = set(words(canonical(prompt))), set(words(canonical(rewrite)))
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0


def named_terms(prompt: str, terms: Mapping[str, Sequence[str]]) -> list[str]:
    """The terms of every concept that a prompt names.

    Args:
        prompt: a text.
        terms: concept key to its terms.

    Returns:
        All terms of the concepts of which it names one.
    """
    return [term for own in terms.values() if names_concept(prompt, own) for term in own]


def chosen(
    prompt: str, candidates: Sequence[str], guard: Guard, terms: Mapping[str, Sequence[str]]
) -> tuple[str, str]:
    """The best rewrite that is not empty, breaks no rule, names no concept and is allowed.

    Args:
        prompt: the unsafe text.
        candidates: rewrites of it; of equally good ones the first is taken.
        guard: which verifies rewrites.
        terms: concept key to its terms; the rewrite names no concept that the prompt names.

    Returns:
        The rewrite and an empty text; or an empty text and why none passes: the last test that any
        candidate reached.
    """
    left = [text for text in dict.fromkeys(one.strip() for one in candidates) if text]
    if not left:
        return "", EMPTY
    left = [text for text in left if not refusal(text)]
    if not left:
        return "", REFUSED
    own = named_terms(prompt, terms)
    left = [text for text in left if not names_concept(text, own)]
    if not left:
        return "", NAMES
    verdicts: Sequence[Decision] = guard.decide(left)
    left = [text for text, one in zip(left, verdicts, strict=True) if one.action == "allow"]
    if not left:
        return "", FLAGGED_AGAIN
    return max(left, key=lambda text: retention(prompt, text)), ""
