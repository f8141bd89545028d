"""The robustness room: attacks on the base model, adapters and peers, case by case.

Reads a release's evaluation prompts, its train rows and adapter files. Writes tables "cases" (one
row per attack, target and case), "prepared", "metrics" and "paired" (long form), and report.html.
An attack that sees the text encoder only is searched once and replayed on every target; any other
is searched on each. A killed attempt resumes at the case.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

import pyarrow as pa

from alignguard_data.contracts.errors import ConfigError, InputMissing, IntegrityError, NothingMade
from alignguard_data.contracts.flags import version_faults
from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import to_table
from alignguard_data.release.reader import release_folder, train_rows
from alignguard_data.storage.basis import basis, digests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.shards import write_bytes
from alignguard_data.storage.tally import Tally
from alignguard_train.contracts.adapter_names import BASE, PEER, behind_guard
from alignguard_train.robustness import page
from alignguard_train.robustness.cases import cases_of
from alignguard_train.robustness.config import AttackConfig, RobustnessConfig
from alignguard_train.robustness.counting import check_needs
from alignguard_train.robustness.judging import check_judge
from alignguard_train.robustness.matrix_run import MatrixRun, keep_judged
from alignguard_train.robustness.measures import headline, metrics_table, paired_table
from alignguard_train.robustness.protocol import Attack, Budget
from alignguard_train.robustness.records import AttackedCase, Preparation
from alignguard_train.robustness.registry import ATTACKS, make_attack, make_budget
from alignguard_train.robustness.summary import summarized, write_summary
from alignguard_train.robustness.targets import (
    Models,
    file_inputs,
    make_targets,
    unknown_targets,
)

log = logging.getLogger(__name__)

ROOM = "robustness"
FORMAT = 4
"""Part of the fingerprint: raise it when rows change for equal input, as with an attack's code."""
TABLES = {"cases": AttackedCase, "prepared": Preparation}


def spec(
    data: DataRoot,
    models: Models,
    config: RobustnessConfig,
    key: str = UNPARTITIONED,
    training_from: int | None = None,
) -> PartitionSpec:
    """Spec of the room, or of another matrix under another ``key``.

    Args:
        data: root of the data.
        models: what is attacked, and the judge.
        config: attacks, targets, cases.
        key: the partition's key.
        training_from: attack train prompts instead of held-out ones, after the first so many.

    Returns:
        What the partition is made of: its fingerprint covers the cases, the train rows, adapter
        files, attacks with their presets, and scorer versions.

    Raises:
        InputMissing: there is no release, an adapter's file is missing, or a guard is not trained.
        ConfigError: a target is no adapter here, or thresholds were calibrated with another
            scorer version.
        EngineError: no scorer answers a rule, or an attack's own model is not there.
    """
    _check_targets(models, config)
    check_judge(models.judge(config))
    inputs = _inputs(data, models, config, training_from)
    generator, evaluation = models.generator, models.evaluation
    drawn = map(behind_guard, config.all_targets)
    peers = [name.removeprefix(PEER) for name in drawn if name.startswith(PEER)]
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
            **_attackers(config),
        },
        asks_again=True,  # where the judge failed
        promises=partial(summarized, data) if key == UNPARTITIONED else None,
    )


def _inputs(
    data: DataRoot, models: Models, config: RobustnessConfig, training_from: int | None
) -> dict[str, str]:
    """Digests of the cases and the train rows, and revisions of the targets' files."""
    try:
        cases = cases_of(release_folder(data), config, training_from)
    except IntegrityError as error:
        raise InputMissing(str(error)) from error
    except NothingMade:
        cases = []  # the room says so when it is made
    cases_digests = digests(("cases", dataclasses.astuple(one)) for one in cases)
    return cases_digests | train_rows(data) | file_inputs(models, config)


def _resolved(attack: AttackConfig, config: RobustnessConfig) -> dict[str, Any]:
    """An attack as it runs: presets under its own parameters."""
    method = ATTACKS[attack.name]
    params = {**method.params.get(config.preset, {}), **attack.params}
    if own := method.attacker(params):
        params[method.model] = own.model_id  # not the path of it on this machine
    return {
        "name": attack.name,
        "label": attack.shown,
        "params": params,
        "budget": {**method.budgets.get(config.preset, {}), **attack.budget},
        "targets": list(config.targets_of(attack)),
        "cases": config.cases_of(attack),
    }


def _attackers(config: RobustnessConfig) -> dict[str, str]:
    """Revision of every model that an attack brings along, by its name."""
    own = [ATTACKS[one.name].attacker(one.params) for one in config.all_attacks]
    return {one.model_id: one.revision for one in own if one}


def _check_targets(models: Models, config: RobustnessConfig) -> None:
    faults = unknown_targets(models, config)
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
    training_from: int | None = None,
) -> Manifest:
    """Run every attack on every target; resumes a killed attempt at its case.

    Where the judge failed, the next call asks it again and keeps all other cases.

    Args:
        data: root of the data.
        models: what is attacked, and the judge.
        config: attacks, targets, cases.
        progress: counts cases, once per attack and target.
        key: the partition; another matrix than the profile's has a key of its own.
        training_from: attack train prompts instead of held-out ones, after the first so many.

    Returns:
        Manifest of the room's partition.

    Raises:
        InputMissing: there is no release, or an adapter's file is missing.
        ConfigError: an attack or a peer refuses its parameters.
        EngineError: an attack needs what a target does not give, or a target fails.
        NothingMade: no case could be judged.
        PartitionBusy: another process is attacking.
    """
    wanted = spec(data, models, config, key, training_from)
    attacks, targets = make_attacks(config), make_targets(release_folder(data), models, config)
    for label, (attack, _) in attacks.items():
        for name in config.targets_of(config.attack(label)):
            check_needs(attack, targets[name])
    with open_partition(wanted) as work:
        # Without its summary the partition is not done, but no case is lost.
        made = work.spec.made()
        if made and not work.spec.is_short(made):
            if key == UNPARTITIONED:
                write_summary(data)
            return made
        if made:
            keep_judged(work)
        run = MatrixRun(
            work, release_folder(data), config, attacks, progress, training_from=training_from
        )
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


def _finish(
    work: PartitionWork, run: MatrixRun, config: RobustnessConfig, data: DataRoot
) -> Manifest:
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
