"""The unsafe test prompts with their concept in other words: a synonym, or an adversarial string.

As in Latent Guard's bench: the literal term of a prompt is replaced, prompts without the literal
term are left out, and the safe side is the same. The adversarial string is found against the text
encoder only: it is about the guard's input, and says nothing about what the model draws of it.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from alignguard_data.contracts.records import Concept
from alignguard_data.contracts.terms import names_concept
from alignguard_train.guards.records import GuardPrompt, Variant
from alignguard_train.guards.splits import share_of
from alignguard_train.guards.states import FrozenEncoder

CARRIERS = 2
"""Prompts of a concept that one string must imitate it in."""
SWEEPS = 1
"""Passes over the places of a string; a second one changes the cosine little."""


def replaced(
    prompts: Sequence[GuardPrompt], words: Mapping[str, tuple[str, str]], variant: Variant
) -> list[GuardPrompt]:
    """The unsafe prompts that hold their concept's term literally, with another text for it.

    Args:
        prompts: unsafe test prompts.
        words: concept key to its literal term and the text that replaces it.
        variant: what the results are.

    Returns:
        The changed prompts; those without the literal term are left out.
    """
    found = []
    for one in prompts:
        term, other = words.get(one.concept, ("", ""))
        if not term:
            continue
        plain = other.replace("\\", r"\\")  # no references to groups
        text, times = re.subn(rf"\b{re.escape(term)}\b", plain, one.text, flags=re.I)
        if times:
            found.append(dataclasses.replace(one, text=text, variant=variant))
    return found


def synonyms(concepts: Sequence[Concept]) -> dict[str, tuple[str, str]]:
    """Concept key to its first and second term; concepts with one term have no synonym."""
    return {one.key: (one.terms[0], one.terms[1]) for one in concepts if len(one.terms) > 1}


def adversarial_terms(
    encoder: FrozenEncoder,
    prompts: Sequence[GuardPrompt],
    concepts: Sequence[Concept],
    *,
    tokens: int,
    seed: int,
) -> dict[str, tuple[str, str]]:
    """Concept key to its first term and a string of ``tokens`` tokens that imitates it.

    Greedy coordinate search over the whole vocabulary: the string whose prompts have end-of-text
    states closest (cosine) to those of the prompts with the term. No concept's term may occur.

    Args:
        encoder: the guards' own.
        prompts: unsafe test prompts, which carry the strings.
        concepts: of the taxonomy; all their terms are forbidden.
        tokens: length of a string.
        seed: of the first string and of the choice of carriers.

    Returns:
        Concept key to its first term and the string; a concept that no prompt names literally has
        none.
    """
    words = allowed_words(encoder, concepts)
    found = {}
    for concept in concepts:
        term = concept.terms[0]
        own = [one for one in prompts if one.concept == concept.key]
        carriers = [
            re.split(rf"\b{re.escape(term)}\b", one.text, maxsplit=1, flags=re.I)
            for one in sorted(own, key=lambda one: share_of(one.text, seed))
        ]
        carriers = [parts for parts in carriers if len(parts) == 2][:CARRIERS]
        if carriers and words:
            text = _searched(encoder, carriers, term, words, tokens, f"{seed} {concept.key}")
            found[concept.key] = (term, text)
    return found


def allowed_words(encoder: FrozenEncoder, concepts: Sequence[Concept]) -> list[str]:
    """The vocabulary's whole words of letters that name no concept, sorted."""
    terms = [term for concept in concepts for term in concept.terms]
    parts = {part for term in terms for part in term.lower().split()}
    return [
        word
        for word in encoder.whole_words()
        if word not in parts and not names_concept(word, terms)
    ]


def _searched(
    encoder: FrozenEncoder,
    carriers: Sequence[Sequence[str]],
    term: str,
    words: Sequence[str],
    tokens: int,
    name: str,
) -> str:
    aim = encoder.states([before + term + after for before, after in carriers]).eos
    count = len(words)
    string = [words[int(share_of(f"{name} {i}", 0) * count)] for i in range(tokens)]
    for _ in range(SWEEPS):
        for place in range(tokens):
            tried = [" ".join([*string[:place], word, *string[place + 1 :]]) for word in words]
            string[place] = words[int(_closeness(encoder, carriers, tried, aim).argmax())]
    return " ".join(string)


def _closeness(
    encoder: FrozenEncoder, carriers: Sequence[Sequence[str]], tried: Sequence[str], aim: Tensor
) -> Tensor:
    """Mean cosine over carriers of each tried string's prompts with the aim: (tried,)."""
    total = torch.zeros(len(tried))
    for (before, after), wanted in zip(carriers, aim, strict=True):
        eos = encoder.states([before + text + after for text in tried]).eos
        total += cosine_similarity(eos, wanted[None], dim=1)
    return total / len(carriers)
