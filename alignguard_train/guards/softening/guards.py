"""Published methods of guidance as guards: what is flagged, or everything, is drawn under them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.safety.rules import refusal
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.protocol import ALWAYS, RULE, SOFTENED, Decision
from alignguard_train.guards.states import FrozenEncoder, TextStates
from alignguard_train.guards.text_guard import TextGuard
from alignguard_train.peers.concept import Concept
from alignguard_train.peers.registry import make_peer


class NoHead:
    """Scores nothing: 0 for every prompt."""

    def scores(self, states: TextStates) -> npt.NDArray[np.float64]:
        """Zeros (rows,)."""
        return np.zeros(len(states))

    def details(self, states: TextStates) -> list[str]:
        """Empty texts."""
        return [""] * len(states)


class Softening(TextGuard):
    """Softens what its gate flags; without a gate every prompt.

    Args:
        header: its file's.
        encoder: the encoder that the header names.
        gate: a trained guard of the same threshold; None: always on.
    """

    def __init__(self, header: GuardHeader, encoder: FrozenEncoder, gate: TextGuard | None) -> None:
        super().__init__(header, encoder, gate.head if gate else NoHead())
        self.gate = gate

    @property
    def always_on(self) -> bool:
        """See :class:`TextGuard`."""
        return self.gate is None

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        if self.gate is None:
            always = Decision(action="soften", reason=ALWAYS, score=0.0, threshold=self.threshold)
            decided = [always for _ in prompts]
        else:
            decided = [_softened(one) for one in self.gate.decide(prompts)]
        return [
            dataclasses.replace(one, action="block", reason=RULE) if refusal(prompt) else one
            for prompt, one in zip(prompts, decided, strict=True)
        ]

    def check(self, pipe: Pipe) -> None:
        """Also refuses a pipe that the method does not support, before anything is drawn."""
        super().check(pipe)
        self.soften(pipe)


def _softened(decision: Decision) -> Decision:
    """What the gate blocks is softened; a failure stays blocked."""
    if decision.action != "block" or decision.failed:
        return decision
    detail = decision.reason.partition(": ")[2]
    return dataclasses.replace(decision, action="soften", reason=f"{SOFTENED}: {detail}")


class PeerGuard(Softening):
    """One of :mod:`alignguard_train.peers` as a guard.

    Args:
        header: its file's; its settings name the concepts.
        encoder: the encoder that the header names.
        gate: see :class:`Softening`.
        method: name of the peer.
        params: its parameters.
    """

    def __init__(
        self,
        header: GuardHeader,
        encoder: FrozenEncoder,
        gate: TextGuard | None,
        *,
        method: str,
        params: Mapping[str, Any],
    ) -> None:
        super().__init__(header, encoder, gate)
        self._peer = make_peer(method, params)
        self._concepts = [
            Concept(category=category, name=name) for category, name in header.settings["concepts"]
        ]

    def soften(self, pipe: Pipe) -> Pipe:
        """See :class:`alignguard_train.guards.protocol.Guard`."""
        return self._peer.apply(pipe, self._concepts)
