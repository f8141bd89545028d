"""One line of the arena: a defence with one seed, on fresh prompts and under attack.

A line holds yes or no per prompt and case, so that a page may take any mean and any difference over
them. Prompts are the study's "score" scenes, which no training saw; cases are one of them a
concept.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from alignguard_data.contracts.records import pair_seed
from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.evaluation.contenders import Contender, Entrant
from alignguard_train.evaluation.judge import BaseImage, judge, render_in_batches
from alignguard_train.evaluation.prompt_sets import read_prompt_sets
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow
from alignguard_train.guards.config import DRAWING
from alignguard_train.guards.drawing import draw_behind
from alignguard_train.peers.concept import Concept
from alignguard_train.robustness.capabilities import has_own_encoder
from alignguard_train.robustness.cases import ChosenCase, search_seed
from alignguard_train.robustness.config import RobustnessConfig
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.judging import ImageJudge
from alignguard_train.robustness.protocol import Budget, Case
from alignguard_train.robustness.records import AttackedCase
from alignguard_train.robustness.registry import ATTACKS, make_attack, make_budget
from alignguard_train.robustness.search import Replayer, Searched, search
from alignguard_train.robustness.target import DiffusersTarget
from alignguard_train.robustness.targets import AskedGuard
from pipelines.profile import load_profile
from pipelines.resources import Engines
from research.arena.defences import Defence, contender, training_seconds
from research.bench import side_by_side
from research.study.world import World, one_thread

FORMAT = 1
"""Part of every line's key: raise it when equal lines would give other figures."""
PROMPTS = 4
"""Pairs per concept."""
ATTACKED_BY = ("no_attack", "ring_a_bell", "diffzoo_lite")
REPLAYS = 4
"""Fresh seeds of a case."""
EXAMPLES = 8
"""Prompt pairs per concept that a peer may use."""
TIMED_CALLS = 3


def key_of(defence: Defence, seed: int) -> str:
    """Equal for equal measurements on every machine."""
    text = json.dumps([FORMAT, defence.name, seed, PROMPTS, ATTACKED_BY, REPLAYS])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Bench:
    """The stand-in's engines with its shipped sampling, one thread each.

    Args:
        world: the study's, for adapters, training pairs and scenes.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        profile = load_profile("standin")
        one = profile.base_model.model_copy(update={"threads": 1})
        self.engines = Engines(profile.model_copy(update={"base_model": one}), world.folder)
        self._base: dict[tuple[str, str], BaseImage] = {}
        self._searched: dict[tuple[str, int, str], Searched] = {}
        self._plain: dict[int, dict[str, bool]] = {}

    def line(self, defence: Defence, seed: int) -> dict[str, Any]:
        """Measure one defence; the base model's images are drawn when first needed."""
        with one_thread():
            entered = Entrant(
                contender(self.world, defence, seed), self.engines.generator, self.concepts
            )
            drawn = self._drawn(entered)
            if defence.guard:
                drawn = self._guarded(defence, drawn)
            return {
                "key": key_of(defence, seed),
                "format": FORMAT,
                "defence": defence.name,
                "seed": seed,
                "seeded": defence.seeded,
                "sampling": self.engines.profile.sampling.fingerprint_fields,
                **_bits_of(drawn),
                "attacks": self._attacked(defence, seed),
            }

    def times(self, defence: Defence, seed: int) -> dict[str, Any]:
        """CPU seconds of one thread, which other work of the machine changes little.

        Args:
            defence: what to time.
            seed: of its training.

        Returns:
            A line of the times.
        """
        with one_thread():
            generator = self.engines.generator
            entered = Entrant(contender(self.world, defence, seed), generator, self.concepts)
            started = time.process_time()
            with entered.on():
                trained: float | None = time.process_time() - started
            if defence.adapter:
                trained = training_seconds(self.world, defence)
            plain = Entrant(Contender(name=BASE), generator, self.concepts)
            base_seconds, seconds = side_by_side(
                (plain, entered), generator, self.rows, calls=TIMED_CALLS, clock=time.process_time
            )
        return {
            "key": key_of(defence, seed),
            "defence": defence.name,
            "seed": seed,
            "cpu_seconds_per_image": seconds,
            "base_cpu_seconds_per_image": base_seconds,
            "training_cpu_seconds": _seconds(defence, trained),
        }

    @cached_property
    def rows(self) -> list[EvaluationRow]:
        """Pairs of every concept, then the benign prompts near the concepts."""
        names = [concept.key for concept in self.world.concepts]
        return [*self.world.rows("score", names, PROMPTS), *self._near]

    @cached_property
    def concepts(self) -> list[Concept]:
        """What peers are given: the concepts that adapters were trained on, with examples."""
        own = self._training
        found = []
        for concept in self.world.concepts:
            pairs = [(c.prompt, c.safe_prompt) for c in own if c.concept == concept.key]
            if concept.split == "train":
                found.append(
                    Concept(
                        category=concept.category,
                        name=concept.slug.replace("-", " "),
                        examples=tuple(pairs[:EXAMPLES]),
                    )
                )
        return found

    @cached_property
    def cases(self) -> list[ChosenCase]:
        """The first scored pair of every concept."""
        found = {}
        safe = {row.pair_id: row.prompt for row in self.rows if row.side == "safe"}
        for row in self.rows:
            if row.side == "unsafe" and row.concept not in found:
                case = _case(row.pair_id, row.prompt, safe[row.pair_id], row.concept, row.category)
                found[row.concept] = ChosenCase(case=case, seen=row.seen)
        return list(found.values())

    @cached_property
    def _training(self) -> list[Case]:
        keys = [concept.key for concept in self.world.concepts if concept.split == "train"]
        rows = self.world.rows("train", keys, EXAMPLES)
        safe = {row.pair_id: row.prompt for row in rows if row.side == "safe"}
        return [
            _case(row.pair_id, row.prompt, safe[row.pair_id], row.concept, row.category)
            for row in rows
            if row.side == "unsafe"
        ]

    @cached_property
    def _near(self) -> list[EvaluationRow]:
        seen = {concept.key: concept.split == "train" for concept in self.world.concepts}
        return [
            EvaluationRow(
                pair_id=prompt.prompt_id,
                side="safe",
                concept=prompt.concept,
                category=prompt.concept.partition(".")[0],
                seen=seen[prompt.concept],
                prompt=prompt.prompt,
                seed=prompt.seed,
                prompt_set=chosen.config.name,
            )
            for chosen in read_prompt_sets(self.engines.profile.evaluation.prompt_sets)
            for prompt in chosen.prompts
        ]

    def _drawn(self, entrant: Entrant) -> list[EvaluatedImage]:
        if entrant.name != BASE and not self._base:
            self._drawn(Entrant(Contender(name=BASE), self.engines.generator, ()))
        engines, drawn = self.engines, []
        with entrant.on():
            for part, images in render_in_batches(engines.generator, self.rows):
                judged = self._judged(entrant.name, part, images)
                drawn += [replace(one, image=b"") for one in judged]
        if entrant.name == BASE and not self._base:
            self._base = {(one.pair_id, one.side): BaseImage(b"", one.features) for one in drawn}
        return drawn

    def _guarded(self, defence: Defence, drawn: Sequence[EvaluatedImage]) -> list[EvaluatedImage]:
        """The images behind a guard: a blocked prompt draws nothing, a rewritten one its text."""
        asked = self._guard(defence)
        if defence.guard in DRAWING:
            found, blocked = self._drawn_by(asked, defence)
        else:
            found, blocked = self._allowed_by(asked, defence, drawn)
        return [
            replace(one, flagged=False, residue=0.0, fidelity=0.0, feature_distance=float("nan"))
            if stopped
            else replace(one, image=b"")
            for one, stopped in zip(found, blocked, strict=True)
        ]

    def _allowed_by(
        self, asked: AskedGuard, defence: Defence, drawn: Sequence[EvaluatedImage]
    ) -> tuple[list[EvaluatedImage], list[bool]]:
        """Images behind a guard on prompts, of which only the rewritten ones are drawn again."""
        verdicts = asked([one.prompt for one in drawn])
        texts = {
            (one.pair_id, one.side): verdict.drawn
            for one, verdict in zip(drawn, verdicts, strict=True)
            if verdict.drawn is not None
        }
        rows = [
            replace(row, prompt=str(texts[row.pair_id, row.side]))
            for row in self.rows
            if (row.pair_id, row.side) in texts
        ]
        again = {}
        shown = {(one.pair_id, one.side): one.prompt for one in drawn}
        for part, images in render_in_batches(self.engines.generator, rows):
            part = [replace(row, prompt=shown[row.pair_id, row.side]) for row in part]
            judged = self._judged(defence.name, part, images)
            again |= {(one.pair_id, one.side): one for one in judged}
        found = [again.get((one.pair_id, one.side), one) for one in drawn]
        return found, [one.blocked for one in verdicts]

    def _drawn_by(
        self, asked: AskedGuard, defence: Defence
    ) -> tuple[list[EvaluatedImage], list[bool]]:
        """Images of the guarded pipe, and which of them it blocks before or after drawing."""
        images, decisions = draw_behind(
            self.engines.generator, asked.guard, [row.prompt for row in self.rows],
            [row.seed for row in self.rows],
        )  # fmt: skip
        found = self._judged(defence.name, self.rows, images)
        return found, [one.action == "block" for one in decisions]

    def _judged(
        self, name: str, rows: Sequence[EvaluationRow], images: Any
    ) -> list[EvaluatedImage]:
        engines = self.engines
        return judge(
            name, rows, images, engines.evaluation_scorers, engines.profile.evaluation,
            self._base or None, engines.evaluation_features,
        )  # fmt: skip

    def _guard(self, defence: Defence) -> AskedGuard:
        assert defence.file
        return AskedGuard(defence.file, self.engines.base)

    def _attacked(self, defence: Defence, seed: int) -> dict[str, dict[str, str]]:
        profile = self.engines.profile
        asked = self._guard(defence) if defence.guard else None
        target = DiffusersTarget(
            contender(self.world, defence, seed),
            generator=self.engines.attack_generator,
            base=self.engines.base,
            judge=ImageJudge(
                scorers=tuple(self.engines.attack_scorers),
                flags=profile.evaluation.flags,
                coherent=profile.robustness.coherent,
            ),
            concepts=self.concepts,
            guard=asked,
            drawing=asked.draw if asked and defence.guard in DRAWING else None,
        )
        with target.on():
            return {name: self._attack(name, target, seed) for name in ATTACKED_BY}

    def _attack(self, name: str, target: DiffusersTarget, seed: int) -> dict[str, Any]:
        preset = RobustnessConfig().preset
        attack, budget = make_attack(name, preset), make_budget(name, preset)
        prepared: Any = None
        rows: list[AttackedCase] = []
        replayer = Replayer(target, seeds=REPLAYS, keep_texts=False)
        for chosen in self.cases:
            shared = ATTACKS[name].text_only and not has_own_encoder(target.name)
            place = (name if shared else f"{name} {target.name}", seed, chosen.case.case_id)
            if place not in self._searched:
                if prepared is None:
                    begun = pair_seed(f"prepare {name}", f"attack {seed}")
                    prepared = attack.prepare(Counted(target, Budget()), self._training, begun)
                own = pair_seed(chosen.case.case_id, f"attack {name} {seed}")
                self._searched[place] = search(attack, target, budget, chosen.case, prepared, own)
            rows.append(
                replayer.judged(chosen, name, self._searched[place], base_unsafe=True,
                                unattacked_unsafe=True)
            )  # fmt: skip
        return {
            "seen": _bits([row.seen for row in rows]),
            "replay": _bits([row.first_replay_unsafe and not row.guard_blocked for row in rows]),
            "any_replay": _bits([row.replays_unsafe > 0 and not row.guard_blocked for row in rows]),
            "coherent": sum(row.replays_coherent for row in rows),
            "images": sum(row.replays for row in rows),
            "failed": sum(bool(row.failure) for row in rows),
        }


def _seconds(defence: Defence, trained: float | None) -> float | None:
    """Seconds of the training; none are known of a file that another command made."""
    if defence.file:
        return None
    return trained if defence.adapter or defence.peer else 0.0


def _case(pair_id: str, unsafe: str, safe: str, concept: str, category: str) -> Case:
    return Case(
        case_id=pair_id, prompt=unsafe, safe_prompt=safe, concept=concept, category=category,
        seed=search_seed(pair_id),
    )  # fmt: skip


def _bits_of(drawn: Sequence[EvaluatedImage]) -> dict[str, Any]:
    own = [one for one in drawn if one.prompt_set == "release"]
    near = [one for one in drawn if one.prompt_set != "release"]
    unsafe, safe = ([one for one in own if one.side == side] for side in ("unsafe", "safe"))
    return {
        "seen": _bits([one.seen for one in unsafe]),
        "flagged": _bits([one.flagged for one in unsafe]),
        "residue": _bits([one.residue for one in unsafe]),
        "right": _bits([one.fidelity for one in safe]),
        "near_right": _bits([one.fidelity for one in near]),
        # A blocked prompt has no image, so no distance.
        "distance": [
            None if math.isnan(one.feature_distance) else round(one.feature_distance, 6)
            for one in safe
        ],
    }


def _bits(values: Sequence[Any]) -> str:
    return "".join("1" if value >= 0.5 else "0" for value in np.asarray(values, dtype=float))
