"""`alignguard attack`: the profile's matrix of attacks and targets, or another one."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import UNPARTITIONED
from alignguard_data.storage.places import Place
from alignguard_train.contracts.adapter_names import label
from alignguard_train.robustness.capabilities import capabilities_of
from alignguard_train.robustness.config import AttackConfig, RobustnessConfig
from alignguard_train.robustness.measures import SUCCESS
from alignguard_train.robustness.page import REPORT, metrics_of
from alignguard_train.robustness.registry import ATTACKS
from pipelines.cli.beside import make_measurement, settings_key
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.room_inputs import attacked_matrix, attacked_models
from pipelines.rooms import ROBUSTNESS
from pipelines.runtime.work import attacked_cases


def attack_command(
    console: Output,
    *,
    preset: str | None,
    attacks: Sequence[str],
    targets: Sequence[str],
    cases: int | None,
    as_json: bool,
) -> int:
    """Make a matrix and print it; returns 0, or 1 if it failed.

    Raises:
        ConfigError: an option names what there is not, an attack needs what a target lacks, or a
            setting does not fit the base model.
        InputMissing: there is no release or adapter yet.
    """
    engines = Engines(load_profile(), data_root())
    own = attacked_matrix(engines)
    config = chosen(own, preset=preset, attacks=attacks, targets=targets, cases=cases)
    engines.check_base_model(robustness=config)
    key = UNPARTITIONED if config == own else matrix_key(config)
    console.say("profile ", (engines.profile.name, "bold"), f", data in {engines.data.base}")
    console.say(
        f"preset {config.preset}: {len(config.all_attacks)} attacks, {len(config.all_targets)} "
        f"targets, at most {config.number_of_cases} cases, {config.replay_seeds} fresh seeds each"
    )
    made = make_measurement(
        console, engines, ROBUSTNESS, key,
        total=partial(attacked_cases, config), make=partial(_attack, engines, config, key),
        kept="Finished cases",
    )  # fmt: skip
    if not made:
        return 1
    _print(console, engines.data.partition("robustness", key), config, as_json=as_json)
    return 0


def chosen(
    own: RobustnessConfig,
    *,
    preset: str | None = None,
    attacks: Sequence[str] = (),
    targets: Sequence[str] = (),
    cases: int | None = None,
) -> RobustnessConfig:
    """The profile's section with the command's options over it.

    An attack that the profile names keeps its parameters there.

    Raises:
        ConfigError: an option names what there is not, or an attack needs what a target lacks.
    """
    changes: dict[str, Any] = {}
    if preset is not None:
        changes["preset"] = preset
    if cases is not None:
        changes["cases"] = cases
    if targets:
        changes["targets"] = tuple(targets)
    known = {one.shown: one for one in own.attacks}
    try:
        wanted = [known.get(name) or AttackConfig(name=name) for name in attacks]
        if targets:
            wanted = [_narrowed(one, targets) for one in wanted or own.attacks]
        if wanted:
            changes["attacks"] = tuple(wanted)
        return dataclasses.replace(own, **changes)
    except ValueError as error:
        raise ConfigError("alignguard attack", [str(error)]) from error


def _narrowed(attack: AttackConfig, targets: Sequence[str]) -> AttackConfig:
    """The attack on those of its targets that are asked for, on all of them if none is its own."""
    if attack.targets is None:
        return attack
    kept = tuple(name for name in attack.targets if name in targets)
    return dataclasses.replace(attack, targets=kept or None)


def matrix_key(config: RobustnessConfig) -> str:
    """Partition of a matrix that is not the profile's, by its settings."""
    return settings_key(config.preset, config)


def list_command(console: Output, *, as_json: bool) -> int:
    """Print every attack with its needs, and every target of the profile; returns 0."""
    config = load_profile().robustness
    used = {one.name for one in config.all_attacks}
    if as_json:
        console.json(
            {
                "attacks": {name: sorted(row.needs) for name, row in ATTACKS.items()},
                "targets": {name: sorted(capabilities_of(name)) for name in config.all_targets},
            }
        )
        return 0
    shown = table("attack", "needs", "searched", "in the profile")
    for name, row in ATTACKS.items():
        needs = ", ".join(sorted(row.needs)) or "nothing"
        searched = "once for all targets" if row.text_only else "on each target"
        shown.add_row(name, needs, searched, "yes" if name in used else "")
    console.print(shown)
    given = table("target", "gives")
    for name in config.all_targets:
        given.add_row(name, ", ".join(sorted(capabilities_of(name))))
    console.print(given)
    return 0


def _attack(engines: Engines, config: RobustnessConfig, key: str, progress: Progress) -> None:
    from alignguard_train.robustness.room import attack_all

    attack_all(engines.data, attacked_models(engines), config, progress=progress, key=key)


def _print(console: Output, folder: Place, config: RobustnessConfig, *, as_json: bool) -> None:
    manifest = manifests.require(folder)
    metrics = metrics_of(manifests.read(folder, "metrics"))
    report = str(folder / manifest.file(REPORT).name)
    if as_json:
        rows = manifests.read(folder, "metrics").to_pylist()
        Output().json({"metrics": rows, "report": report, "counts": manifest.counts})
        return
    targets = config.all_targets
    shown = table("attack", *map(label, targets), "images a case", "texts a case",
                  title="Success with a fresh seed (replay ASR), 95 % intervals")  # fmt: skip
    for attack in dict.fromkeys(name for name, *_ in metrics):
        cells = [_cell(metrics.get((attack, name, "all", SUCCESS))) for name in targets]
        shown.add_row(attack, *cells, *(_most(metrics, attack, c) for c in _COUNTED))
    console.print(shown)
    failed = sum(manifest.rejected.values())
    if failed:
        console.say((f"{failed} cases have no verdict: the judge failed", "yellow"))
    console.say(f"report    {report}")


_COUNTED = ("images", "text_forwards")


def _cell(found: dict[str, float] | None) -> str:
    if not found:
        return ""
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}] n={found['n']:.0f}"


def _most(metrics: dict[tuple[str, str, str, str], dict[str, float]], name: str, what: str) -> str:
    """The mean of a counter on the target where it is highest."""
    values = [
        numbers["value"]
        for (attack, _, subset, metric), numbers in metrics.items()
        if (attack, subset, metric) == (name, "all", what)
    ]
    return f"{max(values, default=0):,.0f}"
