"""A trained language model that writes: greedily, or several candidates."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignguard_data.contracts.text import tidy
from alignguard_train.guards.rewriter.model import Writer

ROWS = 128


class LanguageRewriter:
    """A :class:`~alignguard_train.guards.protocol.Rewriter` over a language model.

    Args:
        writer: a trained model with its codec.
        longest: most tokens of a reply.
    """

    def __init__(self, writer: Writer, longest: int) -> None:
        self._writer, self._longest = writer, longest
        writer.model.eval()

    def rewrite(self, prompts: Sequence[str]) -> list[str]:
        """See :class:`~alignguard_train.guards.protocol.Rewriter`; greedy."""
        return [found[0] for found in self.candidates(prompts, 1)]

    def candidates(
        self, prompts: Sequence[str], count: int, *, temperature: float = 0.0, seed: int = 0
    ) -> list[list[str]]:
        """Several replies to each prompt, the first one greedy.

        Args:
            prompts: any number.
            count: replies of a prompt.
            temperature: of the sampled ones; 0: all are greedy.
            seed: of sampling, with the prompt's text; not of its place in a batch.

        Returns:
            For each prompt ``count`` texts; empty ones where the model ends at once.
        """
        rows = [
            (prompt, seed_of(prompt, i, seed), temperature if i else 0.0)
            for prompt in prompts
            for i in range(count)
        ]
        texts: list[str] = []
        for first in range(0, len(rows), ROWS):
            texts += self._written(rows[first : first + ROWS])
        return [texts[i : i + count] for i in range(0, len(texts), count)]

    def sampled(self, prompts: Sequence[str], *, seed: int = 0) -> list[str]:
        """One reply a prompt, sampled at temperature 1: what the model holds likely."""
        found = self.candidates(prompts, 2, temperature=1.0, seed=seed)
        return [texts[1] for texts in found]

    @torch.no_grad()
    def _written(self, rows: Sequence[tuple[str, int, float]]) -> list[str]:
        codec, model = self._writer.codec, self._writer.model
        prompts = [codec.prompt(text) for text, _, _ in rows]
        longest = max(map(len, prompts))
        ids = torch.tensor([[*[codec.pad] * (longest - len(one)), *one] for one in prompts])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
        noise = GumbelNoise([row[1] for row in rows], [row[2] for row in rows])
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            logits_processor=[noise],
            max_new_tokens=self._longest,
            eos_token_id=codec.end,
            pad_token_id=codec.pad,
            temperature=None,
            top_p=None,
            top_k=None,
        )
        return [tidy(codec.text(one[longest:].tolist())) for one in written]


class GumbelNoise:
    """Turns the likeliest token into a sampled one, with a generator a row.

    A row's draws depend on its own seed, so on no other row of the batch.

    Args:
        seeds: one a row.
        temperatures: one a row; 0: the likeliest token.
    """

    def __init__(self, seeds: Sequence[int], temperatures: Sequence[float]) -> None:
        self._rows = [
            (torch.Generator().manual_seed(seed), temperature)
            for seed, temperature in zip(seeds, temperatures, strict=True)
        ]

    def __call__(self, input_ids: Any, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) plus noise."""
        del input_ids
        found = scores.clone()
        for i, (generator, temperature) in enumerate(self._rows):
            if temperature:
                drawn = torch.rand(scores.shape[1], generator=generator).clamp_min(1e-20)
                found[i] -= temperature * (-drawn.log()).log().to(scores.device)
        return found


def seed_of(prompt: str, number: int, seed: int) -> int:
    """A seed from a prompt's text and the candidate's number."""
    digest = hashlib.blake2b(f"{seed} {number} {prompt}".encode(), digest_size=7).digest()
    return int.from_bytes(digest)
