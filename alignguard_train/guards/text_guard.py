"""A guard on text states: the encoder, a trained head, and the file's threshold."""

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_train.guards.files import GuardHeader, check_encoder
from alignguard_train.guards.protocol import Decision, by_threshold, failure
from alignguard_train.guards.states import FrozenEncoder, TextStates

log = logging.getLogger(__name__)


class Head(Protocol):
    """What a trained guard computes from states."""

    def scores(self, states: TextStates) -> npt.NDArray[np.float64]:
        """Scores (rows,); higher is more unsafe; each depends on its own row only."""
        ...

    def details(self, states: TextStates) -> list[str]:
        """What matched in each row, for the reason; empty texts where nothing can be named."""
        ...


class TextGuard:
    """Scores prompts by a head on the frozen encoder's states.

    Args:
        header: its file's.
        encoder: the encoder that the header names.
        head: the trained part.

    Raises:
        EngineError: the encoder is another one than the header's.
    """

    def __init__(self, header: GuardHeader, encoder: FrozenEncoder, head: Head) -> None:
        check_encoder(header, encoder.identity, of="this guard's encoder")
        self.header, self.encoder, self.head = header, encoder, head

    @property
    def always_on(self) -> bool:
        """Whether it acts on every prompt, so that its score says nothing."""
        return False

    @property
    def name(self) -> str:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return self.header.kind

    @property
    def threshold(self) -> float:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return self.header.threshold.value

    def score(self, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return self.head.scores(self.encoder.states(prompts))

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """See :class:`alignguard_train.guards.protocol.Guard`.

        Encoder or head may run out of memory or refuse a text: those prompts are blocked.
        """
        try:
            states = self.encoder.states(prompts)
            scores, details = self.head.scores(states), self.head.details(states)
        except (EngineError, RuntimeError, ValueError) as error:
            log.warning("guard %s failed, so it blocks: %s", self.name, type(error).__name__)
            return [failure(self.threshold, type(error).__name__) for _ in prompts]
        cut = states.truncated.tolist()
        return [
            by_threshold(float(scores[i]), self.threshold, detail=details[i], truncated=cut[i])
            for i in range(len(prompts))
        ]

    def check(self, pipe: Pipe) -> None:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        check_encoder(self.header, FrozenEncoder.of(pipe).identity, of=f"the {type(pipe).__name__}")

    def soften(self, pipe: Pipe) -> Pipe:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        raise EngineError(f"guard {self.name} decides by the prompt and does not soften")
