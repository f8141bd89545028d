"""One search of an attack, kept on disk as one row, and the judging of what it found."""

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from alignguard_data.contracts.errors import EngineError, first_line
from alignguard_train.robustness.capabilities import drawn_by
from alignguard_train.robustness.cases import ChosenCase, replay_seeds
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.protocol import (
    Attack,
    Budget,
    Candidate,
    Case,
    Found,
    GuardVerdict,
    StopReason,
    Target,
    Verdict,
)
from alignguard_train.robustness.records import COUNTERS, AttackedCase, hash_of, text_hash

if TYPE_CHECKING:
    from alignguard_data.engines.diffusion.conditions import Conditions


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """What a search found, as it is kept until the room is done.

    ``best`` and ``states`` are replayed; the hash is of all candidates.
    """

    stop_reason: str
    candidates: int
    candidates_sha256: str
    best: str
    score: float
    round_trip: bool
    states: bytes
    steps: int
    counters: str

    @property
    def used(self) -> dict[str, int]:
        """The counters by name."""
        return json.loads(self.counters)


def search(
    attack: Attack, target: Target, budget: Budget, case: Case, prepared: object, seed: int
) -> Searched:
    """Search one case under a budget.

    Args:
        attack: with its parameters.
        target: not yet counted.
        budget: of this case.
        case: the prompt.
        prepared: what the attack prepared.
        seed: of every random choice of the search.

    Returns:
        The row that is kept: the best candidate, a hash of all, and the proxy's own count of what
        was used.

    Raises:
        EngineError: the target lacks a capability, or failed.
    """
    counted = Counted(target, budget)
    found = attack.search(counted, case, prepared, seed)
    # The proxy's own count, whatever the attack says.
    used = asdict(counted.counters)
    best = found.candidates[0] if found.candidates else None
    return Searched(
        stop_reason=found.stop_reason,
        candidates=len(found.candidates),
        candidates_sha256=_hash(found),
        best=best.text if best else case.prompt,
        score=best.score if best else math.nan,
        round_trip=best.round_trip if best else True,
        states=_packed(best.conditions) if best and best.conditions is not None else b"",
        steps=len(found.history),
        counters=json.dumps(used, sort_keys=True),
    )


def not_searched(case: Case, why: StopReason) -> Searched:
    """The result of a search that could not begin: nothing was found or used."""
    return Searched(
        stop_reason=why,
        candidates=0,
        candidates_sha256="",
        best=case.prompt,
        score=math.nan,
        round_trip=True,
        states=b"",
        steps=0,
        counters=json.dumps(dict.fromkeys(COUNTERS, 0)),
    )


def _hash(found: Found) -> str:
    return hash_of([part for one in found.candidates for part in _parts(one)])


def _parts(one: Candidate) -> list[str | bytes]:
    states = b"" if one.conditions is None else _packed(one.conditions)
    return [one.text, f"{one.score:.6g}", states]


def _packed(conditions: "Conditions") -> bytes:
    from safetensors.torch import save

    tensors = {"states": conditions.states, "pooled": conditions.pooled}
    return save(
        {
            name: tensor.detach().float().cpu().contiguous()
            for name, tensor in tensors.items()
            if tensor is not None
        }
    )


def _unpacked(states: bytes) -> "Conditions":
    from safetensors.torch import load

    from alignguard_data.engines.diffusion.conditions import Conditions

    tensors = load(states)
    return Conditions(states=tensors["states"], pooled=tensors.get("pooled"))


Verdicts = dict[tuple[str, str, str], list[Verdict]]
"""Verdicts on one text's images by what draws them, case and text."""
_ALLOWED = GuardVerdict(blocked=False, score=0.0)


class Replayer:
    """Judges what searches found on one target: at the search's seed, and with fresh ones.

    A guard decides which text is drawn, if any. A blocked text's images are judged all the same,
    so that guard and model are seen apart.

    Args:
        target: with or without a guard.
        seeds: number of fresh seeds.
        keep_texts: keep the prompts, not only their hashes.
        known: verdicts of other targets with the same model: it draws the same images for them.
    """

    def __init__(
        self, target: Target, *, seeds: int, keep_texts: bool, known: Verdicts | None = None
    ) -> None:
        self._target, self._seeds, self._keep_texts = target, seeds, keep_texts
        self._known = {} if known is None else known

    def judged(
        self,
        chosen: ChosenCase,
        attack: str,
        searched: Searched,
        *,
        base_unsafe: bool | None,
        unattacked_unsafe: bool | None,
    ) -> AttackedCase:
        """One row.

        Args:
            chosen: the case.
            attack: the attack's name in results.
            searched: what it found; where that is nothing, the prompt itself is judged.
            base_unsafe: the base model's verdict without attack; None: this row is that verdict.
            unattacked_unsafe: the target's; likewise.

        Returns:
            The row with verdicts at the search's seed and at fresh ones; ``failure`` says why the
            judge gave none.
        """
        guard = self._guarded(searched)
        verdicts, failure = self._verdicts(chosen.case, searched, guard)
        first = verdicts[0] if verdicts else Verdict(unsafe=False, score=0.0, coherent=False)
        fresh = verdicts[1:]
        reason = "judge_failed" if failure else searched.stop_reason
        if searched.stop_reason == "judge_failed" and not failure:
            failure = "the judge failed while it was searched"
        if guard.failed and not failure:
            reason, failure = "guard_failed", "the guard could not score the prompt"
        unsafe = [verdict.unsafe for verdict in fresh]
        return AttackedCase(
            attack=attack,
            target=self._target.name,
            case_id=chosen.case.case_id,
            concept=chosen.case.concept,
            category=chosen.case.category,
            seen=chosen.seen,
            stop_reason=reason,
            candidates=searched.candidates,
            candidates_sha256=searched.candidates_sha256,
            text_sha256=text_hash(searched.best),
            text=searched.best if self._keep_texts else "",
            on_states=bool(searched.states),
            names_concept=names_concept(searched.best, chosen.case.concept),
            round_trip=searched.round_trip,
            score=searched.score,
            steps=searched.steps,
            base_unsafe=first.unsafe if base_unsafe is None else base_unsafe,
            unattacked_unsafe=first.unsafe if unattacked_unsafe is None else unattacked_unsafe,
            search_unsafe=first.unsafe,
            search_coherent=first.coherent,
            replays=len(fresh),
            replays_unsafe=sum(unsafe),
            replays_coherent=sum(verdict.coherent for verdict in fresh),
            first_replay_unsafe=bool(unsafe and unsafe[0]),
            guarded="guard" in self._target.capabilities,
            guard_blocked=guard.blocked,
            guard_rewrote=guard.drawn is not None,
            failure=failure,
            **{name: searched.used[name] for name in COUNTERS},
        )

    def _verdicts(
        self, case: Case, searched: Searched, guard: GuardVerdict
    ) -> tuple[list[Verdict], str]:
        if not searched.best.strip():
            return [], ""
        text = searched.best if guard.drawn is None else guard.drawn
        place = (drawn_by(self._target.name), case.case_id, text)
        if place in self._known and not searched.states:
            return self._known[place], ""
        seeds = [case.seed, *replay_seeds(case.case_id, self._seeds)]
        if searched.states:
            images = self._target.render_conditions(_repeated(searched.states, len(seeds)), seeds)
        else:
            images = self._target.render([text] * len(seeds), seeds)
        try:
            verdicts = self._target.judge(images, case)
        except EngineError as error:
            return [], first_line(error)
        if not searched.states:
            self._known[place] = verdicts
        return verdicts, ""

    def _guarded(self, searched: Searched) -> GuardVerdict:
        """The guard's verdict; it cannot read text states, and a target without one allows all."""
        if "guard" not in self._target.capabilities or searched.states:
            return _ALLOWED
        return self._target.guard([searched.best])[0]


def _repeated(states: bytes, rows: int) -> Any:
    return _unpacked(states).repeat(rows)


def names_concept(text: str, concept: str) -> bool:
    """Whether a text has a concept's name: the last part of its key, hyphens as spaces."""
    name = concept.rpartition(".")[2].replace("-", " ")
    return f" {name.lower()} " in f" {_plain(text)} "


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
