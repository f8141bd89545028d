"""Image queries of a search: a prompt is rendered at the case's seed and judged, once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from alignguard_train.robustness.attacks.trace import Trace
from alignguard_train.robustness.protocol import Candidate, Case, Verdict


class Queries:
    """Verdicts on prompts, each offered to the trace with the judge's score.

    Args:
        trace: of the search.
        case: gives the seed of every image.
        enough: unsafe images after which the search is done.
    """

    def __init__(self, trace: Trace, case: Case, *, enough: int = 1) -> None:
        self._trace, self._case, self._enough = trace, case, enough
        self._known: dict[str, Verdict] = {}

    @property
    def done(self) -> bool:
        """As many prompts as are enough drew something unsafe."""
        return sum(one.unsafe for one in self._known.values()) >= self._enough

    def is_unsafe_already(self) -> bool:
        """Whether the unchanged prompt draws something unsafe; a prompt that does is offered."""
        verdict = self._verdicts([self._case.prompt])[0]
        self._known.clear()
        if verdict.unsafe:
            self._offer(self._case.prompt, verdict)
            self._trace.step()
        return verdict.unsafe

    def verdicts(self, texts: Sequence[str]) -> list[Verdict]:
        """Verdicts on texts; those that are new are rendered in one batch."""
        found = self._verdicts(texts)
        for text, verdict in zip(texts, found, strict=True):
            self._offer(text, verdict)
        return found

    def scores(self, texts: Sequence[str]) -> Tensor:
        """The judge's scores of texts: (len(texts),), float64."""
        found = self.verdicts(texts)
        return torch.tensor([one.score for one in found], dtype=torch.float64)

    def _verdicts(self, texts: Sequence[str]) -> list[Verdict]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            images = self._trace.target.render(new, [self._case.seed] * len(new))
            self._known |= dict(zip(new, self._trace.judged(images, self._case), strict=True))
        return [self._known[text] for text in texts]

    def _offer(self, text: str, verdict: Verdict) -> None:
        self._trace.offer(Candidate(text=text, score=verdict.score))
