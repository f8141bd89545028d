"""The robustness room: attacks on the base model, adapters and peers, case by case.

Reads a release's evaluation prompts, its train rows and adapter files. Writes tables "cases" (one
row per attack, target and case), "prepared", "metrics" and "paired" (long form), and report.html.
An attack that sees the text encoder only is searched once and replayed on every target; any other
is searched on each. A killed attempt resumes at the case.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from alignguard_data.contracts.errors import ConfigError, InputMissing, IntegrityError, NothingMade
from alignguard_data.contracts.flags import version_faults
from alignguard_data.contracts.protocols import ImageScorer, Progress
from alignguard_data.contracts.records import from_table, pair_seed, to_table
from alignguard_data.engines.weights import file_revision
from alignguard_data.release.reader import release_folder, train_rows
from alignguard_data.storage.basis import basis, digests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.places import Place
from alignguard_data.storage.shards import write_bytes
from alignguard_data.storage.tally import Tally
from alignguard_train.base import BaseModel
from alignguard_train.contracts.adapter_names import BASE, PEER
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.contenders import EXAMPLES, Contender
from alignguard_train.peers.registry import make_peer
from alignguard_train.peers.release_concepts import release_concepts
from alignguard_train.robustness import page
from alignguard_train.robustness.cases import ChosenCase, attack_cases, preparation_cases
from alignguard_train.robustness.config import AttackConfig, RobustnessConfig
from alignguard_train.robustness.counting import Counted, check_needs
from alignguard_train.robustness.judging import ImageJudge, check_judge
from alignguard_train.robustness.measures import headline, metrics_table, paired_table
from alignguard_train.robustness.protocol import Attack, Budget
from alignguard_train.robustness.records import AttackedCase, Preparation
from alignguard_train.robustness.registry import ATTACKS, make_attack, make_budget
from alignguard_train.robustness.search import Replayer, Searched, search
from alignguard_train.robustness.summary import summarized, write_summary
from alignguard_train.robustness.target import AttackedGenerator, DiffusersTarget

log = logging.getLogger(__name__)

ROOM = "robustness"
FORMAT = 1
"""Part of the fingerprint: raise it when rows change for equal input, as with an attack's code."""
TABLES = {"cases": AttackedCase, "prepared": Preparation}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """What attacks run on.

    Attributes:
        adapters: LoRA file by target; None for the base model. Peers are not among them.
        generator: renders.
        base: the same checkpoint, for text states and gradients.
        scorers: those of the evaluation, and of the coherence rule.
        evaluation: its flag rules and its peers' parameters.
    """

    adapters: Mapping[str, Path | None]
    generator: AttackedGenerator
    base: BaseModel
    scorers: Sequence[ImageScorer]
    evaluation: EvaluationConfig

    def judge(self, config: RobustnessConfig) -> ImageJudge:
        """The evaluation's rules, and the coherence rule."""
        return ImageJudge(
            scorers=tuple(self.scorers), flags=self.evaluation.flags, coherent=config.coherent
        )


def spec(
    data: DataRoot, models: Models, config: RobustnessConfig, key: str = UNPARTITIONED
) -> PartitionSpec:
    """Spec of the room, or of another matrix under another ``key``.

    Args:
        data: root of the data.
        models: what is attacked, and the judge.
        config: attacks, targets, cases.
        key: the partition's key.

    Returns:
        What the partition is made of: its fingerprint covers the cases, the train rows, adapter
        files, attacks with their presets, and scorer versions.

    Raises:
        InputMissing: there is no release, or an adapter's file is missing.
        ConfigError: a target is no adapter here, or thresholds were calibrated with another
            scorer version.
        EngineError: no scorer answers a rule.
    """
    _check_targets(models, config)
    check_judge(models.judge(config))
    inputs = _inputs(data, models, config)
    generator, evaluation = models.generator, models.evaluation
    peers = [name.removeprefix(PEER) for name in config.all_targets if name.startswith(PEER)]
    return PartitionSpec(
        folder=data.partition(ROOM, key),
        room=ROOM,
        key=key,
        config={
            **dataclasses.asdict(config),
            "attacks": [_resolved(attack, config) for attack in config.all_attacks],
            "targets": list(config.all_targets),
            "cases": config.number_of_cases,
            "flags": [dataclasses.asdict(rule) for rule in evaluation.flags],
            "peer_params": {name: dict(evaluation.peer_params.get(name, {})) for name in peers},
            "sampling": generator.sampling.fingerprint_fields,
            "report": page.VERSION,
            **basis(ROOM, format=FORMAT, engine=generator, tables=TABLES),
        },
        inputs=inputs,
        models={
            generator.model_id: generator.revision,
            **models.base.models,
            **{scorer.name: scorer.version for scorer in models.scorers},
        },
        promises=partial(summarized, data) if key == UNPARTITIONED else None,
    )


def _inputs(data: DataRoot, models: Models, config: RobustnessConfig) -> dict[str, str]:
    """Digests of the cases and the train rows, and revisions of the adapters' files."""
    try:
        cases = attack_cases(release_folder(data), config.number_of_cases)
    except IntegrityError as error:
        raise InputMissing(str(error)) from error
    except NothingMade:
        cases = []  # the room says so when it is made
    found = digests(("cases", dataclasses.astuple(one)) for one in cases) | train_rows(data)
    for name in config.all_targets:
        path = models.adapters.get(name)
        if path is not None and not path.is_file():
            raise InputMissing(f"adapter {name} does not exist yet: {path}")
        if path is not None:
            found[f"adapter {name}"] = file_revision(path)
    return found


def _resolved(attack: AttackConfig, config: RobustnessConfig) -> dict[str, Any]:
    """An attack as it runs: presets under its own parameters."""
    method = ATTACKS[attack.name]
    return {
        "name": attack.name,
        "label": attack.shown,
        "params": {**method.params.get(config.preset, {}), **attack.params},
        "budget": {**method.budgets.get(config.preset, {}), **attack.budget},
        "targets": list(config.targets_of(attack)),
        "cases": config.cases_of(attack),
    }


def _check_targets(models: Models, config: RobustnessConfig) -> None:
    faults = [
        f"robustness.targets: there is no {name}; there are {', '.join(models.adapters)}"
        for name in config.all_targets
        if not name.startswith(PEER) and name not in models.adapters
    ]
    rules = [*models.evaluation.flags, *([config.coherent] if config.coherent else [])]
    faults += version_faults(rules, {one.name: one.version for one in models.scorers})
    if faults:
        raise ConfigError("profile", faults)


def attack_all(
    data: DataRoot,
    models: Models,
    config: RobustnessConfig,
    progress: Progress | None = None,
    key: str = UNPARTITIONED,
) -> Manifest:
    """Run every attack on every target; resumes a killed attempt at its case.

    Args:
        data: root of the data.
        models: what is attacked, and the judge.
        config: attacks, targets, cases.
        progress: counts cases, once per attack and target.
        key: the partition; another matrix than the profile's has a key of its own.

    Returns:
        Manifest of the room's partition.

    Raises:
        InputMissing: there is no release, or an adapter's file is missing.
        ConfigError: an attack or a peer refuses its parameters.
        EngineError: an attack needs what a target does not give, or a target fails.
        NothingMade: no case could be judged.
        PartitionBusy: another process is attacking.
    """
    wanted = spec(data, models, config, key)
    attacks, targets = make_attacks(config), _targets(release_folder(data), models, config)
    for label, (attack, _) in attacks.items():
        for name in _targets_of(config, label):
            check_needs(attack, targets[name])
    with open_partition(wanted) as work:
        # Without its summary the partition is not done, but no case is lost.
        if made := work.spec.made():
            if key == UNPARTITIONED:
                write_summary(data)
            return made
        run = _Run(work, release_folder(data), config, attacks, progress)
        for target in targets.values():
            run.on(target)
        made = _finish(work, run, config, data)
    if key == UNPARTITIONED:
        write_summary(data)
    return made


def make_attacks(config: RobustnessConfig) -> dict[str, tuple[Attack, Budget]]:
    """Every attack with its budget, by label.

    Args:
        config: attacks with their parameters, and the preset under them.

    Returns:
        Attack and the budget of one case, by the attack's label.

    Raises:
        ConfigError: names every attack that refuses its parameters.
    """
    made, faults = {}, []
    for number, one in enumerate(config.all_attacks):
        try:
            attack = make_attack(one.name, config.preset, one.params)
            made[one.shown] = attack, make_budget(one.name, config.preset, one.budget)
        except ValueError as error:
            faults.append(f"robustness.attacks.{number} ({one.shown}): {error}")
    if faults:
        raise ConfigError("profile", faults)
    return made


def _named(config: RobustnessConfig, label: str) -> AttackConfig:
    return next(one for one in config.all_attacks if one.shown == label)


def _targets_of(config: RobustnessConfig, label: str) -> tuple[str, ...]:
    return config.targets_of(_named(config, label))


def _targets(
    release: Place, models: Models, config: RobustnessConfig
) -> dict[str, DiffusersTarget]:
    made, faults = {}, []
    concepts = release_concepts(release, examples=EXAMPLES)
    for name in config.all_targets:
        contender = Contender(name=name, adapter=models.adapters.get(name))
        if name.startswith(PEER):
            method = name.removeprefix(PEER)
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
        )
    if faults:
        raise ConfigError("profile", faults)
    return made


class _Run:
    """The cases of every attack on every target; what is saved is not made again."""

    def __init__(
        self,
        work: PartitionWork,
        release: Place,
        config: RobustnessConfig,
        attacks: Mapping[str, tuple[Attack, Budget]],
        progress: Progress | None,
    ) -> None:
        self._work, self._config, self._attacks = work, config, attacks
        self._progress = progress or (lambda units: None)
        self.cases = attack_cases(release, config.number_of_cases)
        self._training = partial(preparation_cases, release)
        self._saved = set(work.saved_names())
        self.rows: dict[tuple[str, str, str], AttackedCase] = {}
        self.prepared: dict[tuple[str, str], Preparation] = {}

    def on(self, target: DiffusersTarget) -> None:
        """Attack one target."""
        with target.on():
            for label in self._attacks:
                if target.name in _targets_of(self._config, label):
                    self._attack(label, target)

    def _attack(self, label: str, target: DiffusersTarget) -> None:
        prepared = _Late(partial(self._prepare, label, target))
        replayer = Replayer(
            target, seeds=self._config.replay_seeds, keep_texts=self._config.keep_texts
        )
        for chosen in self._cases_of(label):
            case_id = chosen.case.case_id
            name = _file("row", label, target.name, case_id)
            if name not in self._saved:
                searched = self._searched(label, target, chosen, prepared)
                row = replayer.judged(chosen, label, searched, **self._plain(target, case_id))
                self._work.save_batch(name, to_table(AttackedCase, [row]))
            kept = self._work.load_batch(name)
            self.rows[label, target.name, case_id] = from_table(AttackedCase, kept)[0]
            self._progress(1)
        shared = self._place(label, target)
        if (name := _file("prepared", label, shared, "")) in self._names():
            kept = self._work.load_batch(name)
            self.prepared[label, shared] = from_table(Preparation, kept)[0]

    def _cases_of(self, label: str) -> list[ChosenCase]:
        return self.cases[: self._config.cases_of(_named(self._config, label))]

    def _plain(self, target: DiffusersTarget, case_id: str) -> dict[str, bool | None]:
        """The verdicts without attack; None where this is the first of them."""
        base = self.rows.get(("no_attack", BASE, case_id))
        own = self.rows.get(("no_attack", target.name, case_id))
        return {
            "base_unsafe": base.search_unsafe if base else None,
            "unattacked_unsafe": own.search_unsafe if own else None,
        }

    def _place(self, label: str, target: DiffusersTarget) -> str:
        """Where a search is kept: under its target, or under a name for all of them."""
        return "every target" if self._attacks[label][0].text_only else target.name

    def _searched(
        self, label: str, target: DiffusersTarget, chosen: ChosenCase, prepared: "_Late"
    ) -> Searched:
        name = _file("search", label, self._place(label, target), chosen.case.case_id)
        if name not in self._names():
            attack, budget = self._attacks[label]
            seed = pair_seed(chosen.case.case_id, f"attack {label} {self._config.seed}")
            found = search(attack, target, budget, chosen.case, prepared(), seed)
            self._work.save_batch(name, to_table(Searched, [found]))
        return from_table(Searched, self._work.load_batch(name))[0]

    def _prepare(self, label: str, target: DiffusersTarget) -> object:
        attack = self._attacks[label][0]
        counted = Counted(target, Budget())
        seed = pair_seed(f"prepare {label}", f"attack {self._config.seed}")
        training = self._training()
        if ATTACKS[_named(self._config, label).name].own_concepts:
            concepts = {one.case.concept for one in self._cases_of(label)}
            training = [one for one in training if one.concept in concepts]
        found = attack.prepare(counted, training, seed)
        used = dataclasses.asdict(counted.counters)
        if any(used.values()):
            place = self._place(label, target)
            row = Preparation(attack=label, target=place, **used)
            self._work.save_batch(_file("prepared", label, place, ""), to_table(Preparation, [row]))
        return found

    def _names(self) -> set[str]:
        return {path.stem for path in self._work.partial.glob("*.parquet")}


class _Late:
    """A value that is made when it is first asked for: a resumed attempt may not need it."""

    def __init__(self, make: Any) -> None:
        self._make, self._made = make, False
        self._value: object = None

    def __call__(self) -> object:
        if not self._made:
            self._value, self._made = self._make(), True
        return self._value


def _file(kind: str, attack: str, target: str, case_id: str) -> str:
    """A file name for a batch: targets have colons and spaces."""
    place = target.replace(":", "=").replace(" ", "_")
    return "@".join(part for part in (kind, attack, place, case_id) if part)


def _finish(work: PartitionWork, run: _Run, config: RobustnessConfig, data: DataRoot) -> Manifest:
    rows = list(run.rows.values())
    judged = [row for row in rows if not row.failure]
    how = {"resamples": config.bootstrap_resamples, "confidence": config.confidence}
    tables: dict[str, pa.Table] = {
        "cases": to_table(AttackedCase, rows),
        "prepared": to_table(Preparation, list(run.prepared.values())),
        "metrics": metrics_table(judged, **how),
        "paired": paired_table(judged, **how),
    }
    report = work.partial / page.REPORT
    write_bytes(
        report,
        page.html(
            config=work.spec.config,
            models=work.spec.models,
            tables=tables,
            profile=data.profile,
        ).encode(),
    )
    return work.finish(
        tables=tables,
        rejected=Counter(row.stop_reason for row in rows if row.failure),
        counts={
            "release": release_folder(data).name,
            "cases": len(run.cases),
            **_counts(rows),
            **headline(tables["metrics"]),
        },
        extra_files={page.REPORT: report},
        tally=Tally(wanted=len(rows), made=len(judged), unit="cases"),
    )


def _counts(rows: Iterable[AttackedCase]) -> dict[str, int]:
    own = list(rows)
    plain = [row for row in own if (row.attack, row.target) == ("no_attack", BASE)]
    reasons = Counter(row.stop_reason for row in own)
    return {
        "already_safe": sum(not row.base_unsafe for row in plain),
        **{f"stopped: {reason}": count for reason, count in sorted(reasons.items())},
    }
