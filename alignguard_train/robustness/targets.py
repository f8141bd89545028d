"""The targets of a matrix by name: adapters, peers, and either behind a guard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from alignguard_data.contracts.errors import ConfigError, InputMissing
from alignguard_data.contracts.protocols import ImageScorer, Pixels
from alignguard_data.engines.weights import file_revision
from alignguard_data.storage.places import Place
from alignguard_train.base import BaseModel
from alignguard_train.contracts.adapter_names import PEER, behind_guard, guard_of
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.contenders import EXAMPLES, Contender
from alignguard_train.guards.config import DRAWING
from alignguard_train.guards.protocol import Guard as TrainedGuard
from alignguard_train.peers.registry import make_peer
from alignguard_train.peers.release_concepts import release_concepts
from alignguard_train.robustness.config import RobustnessConfig
from alignguard_train.robustness.judging import ImageJudge
from alignguard_train.robustness.protocol import GuardVerdict
from alignguard_train.robustness.target import AttackedGenerator, DiffusersTarget


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """What attacks run on.

    Attributes:
        adapters: LoRA file by target; None for the base model. Peers are not among them.
        generator: renders.
        base: the same checkpoint, for text states and gradients.
        scorers: those of the evaluation, and of the coherence rule.
        evaluation: its flag rules and its peers' parameters.
        guards: file of every trained guard, by name.
    """

    adapters: Mapping[str, Path | None]
    generator: AttackedGenerator
    base: BaseModel
    scorers: Sequence[ImageScorer]
    evaluation: EvaluationConfig
    guards: Mapping[str, Path] = field(default_factory=dict)

    def judge(self, config: RobustnessConfig) -> ImageJudge:
        """The evaluation's rules, and the coherence rule."""
        return ImageJudge(
            scorers=tuple(self.scorers), flags=self.evaluation.flags, coherent=config.coherent
        )


class AskedGuard:
    """A guard's file as what a target asks; it is read at the first question.

    Args:
        file: the guard's.
        base: the model whose text encoder it reads.
    """

    def __init__(self, file: Path, base: BaseModel) -> None:
        self._file, self._base = file, base

    @cached_property
    def guard(self) -> TrainedGuard:
        """The guard.

        Returns:
            What the file holds, over the model's text encoder.

        Raises:
            EngineError: it was trained for another text encoder; names both.
            IntegrityError: the file is faulty.
        """
        from alignguard_train.guards.registry import load_guard

        return load_guard(self._file, self._base.pipe)

    def draw(
        self, generator: AttackedGenerator, texts: Sequence[str], seeds: Sequence[int]
    ) -> Pixels:
        """Images (texts, height, width, 3) of a generator that this guard is on, uint8."""
        from alignguard_train.guards.drawing import draw_behind

        return draw_behind(generator, self.guard, texts, seeds)[0]

    def __call__(self, texts: Sequence[str]) -> list[GuardVerdict]:
        """One verdict a prompt."""
        return [
            GuardVerdict(
                blocked=one.action == "block",
                score=one.score,
                threshold=one.threshold,
                drawn=one.prompt,
                failed=one.failed,
            )
            for one in self.guard.decide(texts)
        ]


class ChosenExperts:
    """A gate in front of experts as what a target draws with: every text tried is routed.

    Args:
        choose: class of each text.
        experts: LoRA file by class; None, or no entry, draws with the base model.
    """

    def __init__(
        self,
        choose: Callable[[Sequence[str]], Sequence[str]],
        experts: Mapping[str, Path | None],
    ) -> None:
        self._choose, self._experts = choose, experts

    def __call__(
        self, generator: AttackedGenerator, texts: Sequence[str], seeds: Sequence[int]
    ) -> Pixels:
        """Images (texts, height, width, 3) of a generator without an adapter, uint8."""
        chosen = self._choose(texts)
        size = generator.sampling
        images = np.zeros((len(texts), size.height, size.width, 3), np.uint8)
        for name in dict.fromkeys(chosen):
            rows = [i for i, one in enumerate(chosen) if one == name]
            with generator.adapted(self._experts.get(name)):
                images[rows] = generator.render([texts[i] for i in rows], [seeds[i] for i in rows])
        return images


def file_inputs(models: Models, config: RobustnessConfig) -> dict[str, str]:
    """Revisions of the files behind the targets, adapters and guards: inputs of the room.

    Args:
        models: with the files.
        config: names the targets.

    Returns:
        Revision by what it is of.

    Raises:
        InputMissing: an adapter's file is missing, or a guard is not trained.
    """
    found: dict[str, str] = {}
    for name in config.all_targets:
        if (guard := guard_of(name)) and guard not in models.guards:
            raise InputMissing(
                f"robustness.targets: {name}: guard {guard} is not trained: "
                f"`alignguard guard train {guard}`"
            )
        if guard:
            found[f"guard {guard}"] = file_revision(models.guards[guard])
        model = behind_guard(name)
        path = models.adapters.get(model)
        if path is not None and not path.is_file():
            raise InputMissing(f"adapter {model} does not exist yet: {path}")
        if path is not None:
            found[f"adapter {model}"] = file_revision(path)
    return found


def unknown_targets(models: Models, config: RobustnessConfig) -> list[str]:
    """One line for each target whose adapter this profile does not make."""
    return [
        f"robustness.targets: there is no {model}; there are {', '.join(models.adapters)}"
        for model in dict.fromkeys(map(behind_guard, config.all_targets))
        if not model.startswith(PEER) and model not in models.adapters
    ]


def make_targets(
    release: Place, models: Models, config: RobustnessConfig
) -> dict[str, DiffusersTarget]:
    """Every target of the section, by name; weights load later, but guards are read now.

    Args:
        release: gives peers the concepts that they avoid.
        models: what there is.
        config: names the targets.

    Returns:
        Target by its name.

    Raises:
        ConfigError: a peer refuses its parameters; names every one.
        EngineError: a guard was trained for another text encoder.
    """
    made, faults = {}, []
    concepts = release_concepts(release, examples=EXAMPLES)
    asked = {
        kind: AskedGuard(models.guards[kind], models.base)
        for kind in dict.fromkeys(filter(None, map(guard_of, config.all_targets)))
    }
    for name in config.all_targets:
        model = behind_guard(name)
        contender = Contender(name=name, adapter=models.adapters.get(model))
        if model.startswith(PEER):
            method = model.removeprefix(PEER)
            try:
                peer = make_peer(method, models.evaluation.peer_params.get(method))
            except ValueError as error:
                faults.append(f"evaluation.peer_params.{method}: {error}")
                continue
            contender = Contender(name=name, peer=peer)
        made[name] = DiffusersTarget(
            contender,
            generator=models.generator,
            base=models.base,
            judge=models.judge(config),
            concepts=concepts,
            guard=asked.get(guard_of(name)),
            drawing=asked[guard_of(name)].draw if guard_of(name) in DRAWING else None,
        )
    if faults:
        raise ConfigError("profile", list(dict.fromkeys(faults)))
    for one in asked.values():
        _ = one.guard  # a guard of another encoder is refused before anything is searched
    return made
