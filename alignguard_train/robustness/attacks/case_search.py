"""What attacks that search a case at a time have in common."""

from collections.abc import Sequence
from typing import Protocol

from alignguard_train.robustness.attacks.trace import Trace, traced
from alignguard_train.robustness.counting import check_needs
from alignguard_train.robustness.protocol import Attack, Capability, Case, Found, StopReason, Target


class _Searching(Attack, Protocol):
    def _search(
        self, trace: Trace, case: Case, prepared: object, seed: int
    ) -> StopReason | Found: ...


def needing(*capabilities: Capability) -> frozenset[Capability]:
    """Capabilities as a typed set."""
    return frozenset(capabilities)


class CaseSearch:
    """Base of attacks: a subclass has a ``name``, its ``needs``, and searches in ``_search``."""

    text_only = False

    def prepare(self: Attack, target: Target, cases: Sequence[Case], seed: int) -> object:
        """Learn nothing from other cases; only what the attack needs is checked."""
        check_needs(self, target)
        return None

    def search(self: _Searching, target: Target, case: Case, prepared: object, seed: int) -> Found:
        """See :meth:`alignguard_train.robustness.protocol.Attack.search`."""
        return traced(self, target, lambda trace: self._search(trace, case, prepared, seed))
