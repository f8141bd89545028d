"""The stand-in's CLIP tokenizer: byte-pair merges until every word of the world is one token.

Any other text is encoded byte by byte, so an unknown word is not an error.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from transformers import CLIPTokenizer

MAX_LENGTH = 24
"""Tokens of a prompt, begin and end marks included."""

BEGIN, END = "<|startoftext|>", "<|endoftext|>"

_WORD_END = "</w>"


def build_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """A tokenizer with a single token for each of ``words``."""
    merges = learn_merges(words)
    letters = _byte_letters()
    entries = [*letters, *(letter + _WORD_END for letter in letters)]
    entries += [left + right for left, right in merges]
    vocab = {entry: i for i, entry in enumerate([*entries, BEGIN, END])}
    return CLIPTokenizer(
        vocab=vocab,
        merges=merges,  # pyright: ignore[reportArgumentType]
        model_max_length=MAX_LENGTH,
    )


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (arXiv 1508.07909) until each word is one symbol.

    The most frequent pair is merged first; ties are broken alphabetically, so the result depends
    only on the words.

    Args:
        words: their order and repetitions do not matter.

    Returns:
        Pairs of symbols, in the order of the merges.
    """
    spelt = [[*word[:-1], word[-1] + _WORD_END] for word in sorted(set(words))]
    merges: list[tuple[str, str]] = []
    while any(len(symbols) > 1 for symbols in spelt):
        pairs = Counter(pair for symbols in spelt for pair in pairwise(symbols))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = [_merged(symbols, best) for symbols in spelt]
    return merges


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def _byte_letters() -> list[str]:
    # GPT-2's table: a printable byte maps to itself, any other to a character from 256 up.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shown = {byte: chr(byte) for byte in printable}
    hidden = (byte for byte in range(256) if byte not in shown)
    shown.update({byte: chr(256 + i) for i, byte in enumerate(hidden)})
    return [shown[byte] for byte in sorted(shown)]
