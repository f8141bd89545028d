"""Random replacements of a prompt's words, with their probabilities, and steps that move them."""

from collections.abc import Sequence

import torch
from torch import Tensor

KEPT = -1
LEAST = 1e-3
"""Least probability of a choice, so that every logarithm is finite."""


class Draws:
    """Prompts in which word i is replaced with chance (z_i + 1) / 2 by a drawn substitute.

    A point is a vector of n + n m values in [-1, 1]: z of the words, then u of their substitutes.

    Args:
        words: of the prompt, n.
        options: substitutes of each word, at most m; missing ones are never drawn.
        generator: of every draw.
    """

    def __init__(
        self,
        words: Sequence[str],
        options: Sequence[Sequence[str]],
        generator: torch.Generator,
    ) -> None:
        self._words, self._options = list(words), [list(own) for own in options]
        self._most = max(len(own) for own in self._options)
        self._real = torch.tensor([[j < len(own) for j in range(self._most)] for own in options])
        self.generator = generator

    def start(self) -> Tensor:
        """A random point: normal values, clamped."""
        count = len(self._words) * (1 + self._most)
        drawn = torch.randn(count, generator=self.generator, dtype=torch.float64)
        return drawn.clamp(-1, 1)

    def uniforms(self, count: int) -> Tensor:
        """Random numbers of ``count`` draws: (count, 2, n)."""
        shape = (count, 2, len(self._words))
        return torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def picks(self, at: Tensor, uniforms: Tensor) -> Tensor:
        """The substitute's number of each word, or -1 where it is kept: (count, n)."""
        replaced, substitute = self._probabilities(at)
        chosen = (uniforms[:, 1, :, None] > substitute.cumsum(-1)).sum(-1)
        most = self._real.sum(-1) - 1
        chosen = torch.minimum(chosen, most.clamp(min=0))
        change = (uniforms[:, 0] < replaced) & self._real.any(-1)
        return torch.where(change, chosen, torch.full_like(chosen, KEPT))

    def text(self, pick: Tensor) -> str:
        """The prompt of one row of picks."""
        chosen = zip(self._words, self._options, pick.tolist(), strict=True)
        return " ".join(word if i == KEPT else own[i] for word, own, i in chosen)

    def texts_of(self, at: Tensor, uniforms: Tensor) -> list[str]:
        """The prompts of given random numbers at a point."""
        return [self.text(pick) for pick in self.picks(at, uniforms)]

    def texts(self, at: Tensor, count: int) -> list[str]:
        """``count`` drawn prompts."""
        return self.texts_of(at, self.uniforms(count))

    def log_probability(self, at: Tensor, picks: Tensor) -> Tensor:
        """Log probability of picks at a point, with gradients: (count,)."""
        replaced, substitute = self._probabilities(at)
        changed = picks != KEPT
        rows = substitute.expand(len(picks), -1, -1)
        drawn = rows.gather(-1, picks.clamp(min=0)[..., None])[..., 0]
        of_change = torch.where(changed, replaced, 1 - replaced).log()
        of_words = torch.where(changed, drawn, torch.ones_like(drawn)).log()
        return (of_change + of_words).sum(-1)

    def _probabilities(self, at: Tensor) -> tuple[Tensor, Tensor]:
        count = len(self._words)
        replaced = ((at[:count] + 1) / 2).clamp(LEAST, 1 - LEAST)
        weights = ((at[count:].reshape(count, self._most) + 1) / 2).clamp(min=LEAST) * self._real
        return replaced, weights / weights.sum(-1, keepdim=True).clamp(min=LEAST)


class Ascent:
    """A point that follows gradients upwards by Adam, clamped to [-1, 1]."""

    def __init__(self, at: Tensor, lr: float) -> None:
        self.at, self._lr = at, lr
        self._first, self._second = torch.zeros_like(at), torch.zeros_like(at)
        self._steps = 0

    def adam(self, gradient: Tensor) -> None:
        """A step with both bias corrections."""
        self._step(gradient, corrected=True)

    def released(self, gradient: Tensor) -> None:
        """A step as in DiffZOO's code: the first moment is not corrected."""
        self._step(gradient, corrected=False)

    def _step(self, gradient: Tensor, *, corrected: bool) -> None:
        self._steps += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient.pow(2)
        first = self._first / (1 - 0.9**self._steps) if corrected else self._first
        second = self._second / (1 - 0.999**self._steps)
        self.at = (self.at + self._lr * first / (second.sqrt() + 1e-8)).clamp(-1, 1)
