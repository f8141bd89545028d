"""Substitutes of a prompt's words: the nearest ones in the text encoder, or any of a list."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.robustness.attacks.words import spelled_words, words_of
from alignguard_train.robustness.protocol import BudgetSpent, Case, Target, Vocabulary

MOST_WORDS = 2000
"""Words of a pool: the most frequent ones of the training cases."""
WORDS_PER_CALL = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Words to choose substitutes from, and their unit vectors if the text encoder is used."""

    words: tuple[str, ...]
    vectors: Tensor | None = None

    def of(self, target: Target, words: Sequence[str], count: int, rng: Random) -> list[list[str]]:
        """For each word ``count`` substitutes other than itself, or fewer from a small pool.

        The nearest ones by cosine, or without vectors random ones.
        """
        if self.vectors is None:
            others = [[one for one in self.words if one != word] for word in words]
            return [rng.sample(own, min(count, len(own))) for own in others]
        near = word_vectors(target, words) @ self.vectors.T
        found: list[list[str]] = []
        for word, row in zip(words, near, strict=True):
            order = row.argsort(descending=True, stable=True).tolist()
            found.append([self.words[i] for i in order if self.words[i] != word][:count])
        return found


def pool_of(target: Target, cases: Sequence[Case], *, vectors: bool) -> Pool:
    """The words of the training cases; of the vocabulary if there is no case.

    As many words as the budget allows to encode, the most frequent first.
    """
    seen = Counter(
        word
        for case in cases
        for word in words_of(f"{case.prompt} {case.safe_prompt}")
        if word.isalpha()
    )
    ranked = sorted(seen, key=lambda word: (-seen[word], word))
    words = ranked or spelled_words(target.vocabulary, target.vocabulary.ordinary)
    words = words[:MOST_WORDS]
    if not vectors:
        return Pool(words=tuple(words))
    rows: list[Tensor] = []
    for first in range(0, len(words), WORDS_PER_CALL):
        try:
            rows.append(word_vectors(target, words[first : first + WORDS_PER_CALL]))
        except BudgetSpent:
            break
    found = torch.cat(rows) if rows else torch.zeros(0, 1)
    return Pool(words=tuple(words[: len(found)]), vectors=found)


def word_vectors(target: Target, words: Sequence[str]) -> Tensor:
    """Unit vectors of words encoded without context: (len(words), width)."""
    return pooled(target.encode(tokens := token_rows(target.vocabulary, words)), tokens)[0]


def token_rows(vocabulary: Vocabulary, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """The ids of texts, cut at the encoder's length."""
    return [vocabulary.tokenize(text)[: vocabulary.length] for text in texts]


def pooled(conditions: Conditions, tokens: Sequence[Sequence[int]]) -> list[Tensor]:
    """Unit vectors that stand for whole prompts: the state at the end token; SDXL's pooled states.

    CLIP's pooled output is its last state at the end token, which Stable Diffusion 1 and 2 use as
    text states. SDXL uses the states before the last layer, and the second encoder's pooled output.
    """
    rows = torch.arange(len(conditions), device=conditions.states.device)
    ends = torch.tensor([len(one) + 1 for one in tokens], device=rows.device)
    found = [conditions.states[rows, ends]]
    if conditions.pooled is not None:
        found.append(conditions.pooled)
    return [torch.nn.functional.normalize(one.float(), dim=-1) for one in found]
