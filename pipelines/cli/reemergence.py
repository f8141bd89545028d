"""`alignguard reemergence`: the profile's benign fine-tunings, or others beside them."""

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
from alignguard_train.reemergence.config import ReemergenceConfig
from alignguard_train.reemergence.page import TITLES, verdicts
from alignguard_train.reemergence.summary import REPORT, relapses
from pipelines.cli.beside import make_measurement, settings_key
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.room_inputs import tuned_models
from pipelines.rooms import REEMERGENCE
from pipelines.runtime.work import tuned_units


def reemergence_command(
    console: Output,
    *,
    variants: Sequence[str],
    adapters: Sequence[str],
    steps: Sequence[int],
    seeds: Sequence[int],
    as_json: bool,
) -> int:
    """Make a measurement and print it; returns 0, or 1 if it failed.

    Raises:
        ConfigError: an option names what there is not, an adapter is of another model, or a setting
            does not fit the base model.
        InputMissing: there is no release or adapter yet.
    """
    engines = Engines(load_profile(), data_root())
    own = engines.profile.reemergence
    config = chosen(own, variants=variants, adapters=adapters, steps=steps, seeds=seeds)
    engines.check_base_model(reemergence=config)
    key = UNPARTITIONED if config == own else measurement_key(config)
    console.say("profile ", (engines.profile.name, "bold"), f", data in {engines.data.base}")
    models = tuned_models(engines, config)
    console.say(
        f"{', '.join(map(label, models.adapters))}; {', '.join(config.variants)}; steps "
        f"{', '.join(map(str, config.steps))}; {len(config.seeds)} seed(s) of each"
    )
    made = make_measurement(
        console, engines, REEMERGENCE, key,
        total=partial(tuned_units, engines, config), make=partial(_measure, engines, config, key),
        kept="Finished models",
    )  # fmt: skip
    if not made:
        return 1
    _print(console, engines.data.partition("reemergence", key), as_json=as_json)
    return 0


def chosen(
    own: ReemergenceConfig,
    *,
    variants: Sequence[str] = (),
    adapters: Sequence[str] = (),
    steps: Sequence[int] = (),
    seeds: Sequence[int] = (),
) -> ReemergenceConfig:
    """The profile's section with the command's options over it.

    Raises:
        ConfigError: an option names what there is not, or is out of range.
    """
    given = {"variants": variants, "adapters": adapters, "steps": steps, "seeds": seeds}
    changes: dict[str, Any] = {name: tuple(values) for name, values in given.items() if values}
    try:
        return dataclasses.replace(own, **changes)
    except ValueError as error:
        raise ConfigError("alignguard reemergence", [str(error)]) from error


def measurement_key(config: ReemergenceConfig) -> str:
    """Partition of a measurement that is not the profile's, by its settings."""
    return settings_key("-".join(config.variants), config)


def _measure(engines: Engines, config: ReemergenceConfig, key: str, progress: Progress) -> None:
    from alignguard_train.reemergence.room import measure_reemergence

    models = tuned_models(engines, config)
    measure_reemergence(engines.data, models, config, progress=progress, key=key)


def _print(console: Output, folder: Place, *, as_json: bool) -> None:
    manifest = manifests.require(folder)
    measures = manifests.read(folder, "measures").to_pylist()
    report = str(folder / manifest.file(REPORT).name)
    if as_json:
        found = {"relapse": relapses(measures), "measures": measures, "report": report}
        Output().json(found)
        return
    shown = table(
        "safety adapter", "variant", "steps", "IP, unsafe prompts", "IP, safe prompts",
        "benign loss", title="After benign fine-tuning, with intervals",
    )  # fmt: skip
    values = {
        (row["adapter"], row["variant"], row["steps"], row["metric"]): row
        for row in measures
        if not row["against"]
    }
    for adapter, variant, steps in dict.fromkeys(place[:3] for place in values):
        cells = [
            _cell(values.get((adapter, variant, steps, metric)))
            for metric in ("ip", "ip_safe", "benign_loss")
        ]
        shown.add_row(label(adapter), TITLES.get(variant, variant), str(steps), *cells)
    console.print(shown)
    for line in verdicts(measures):
        console.say(line)
    console.say(f"report    {report}")


def _cell(row: dict[str, Any] | None) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if row else ""
