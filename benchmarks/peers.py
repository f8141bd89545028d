"""Peers, our merged adapter and the base model on the same prompts and seeds: the stand-in world.

Run `make run` first, then `python -m benchmarks.peers`. Each method's strength is chosen on one set
of new prompts (docs/study/peers_tuning.jsonl, one line per variant) and scored on another
(docs/study/peers.jsonl, one line per method and seed). Existing lines are not measured again, so a
stopped run resumes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.places import parse_root
from alignguard_train.contracts.adapter_names import BASE, MERGED, label
from alignguard_train.contracts.peer_methods import PEERS, TITLES
from alignguard_train.evaluation.contenders import Contender
from alignguard_train.evaluation.records import EvaluationRow
from alignguard_train.merge.room import merged_weights
from alignguard_train.peers.concept import Concept
from alignguard_train.peers.registry import make_peer
from alignguard_train.peers.release_concepts import release_concepts
from benchmarks.fresh_prompts import fresh_rows
from pipelines.profile import load_profile
from pipelines.profile_sections import Engine
from pipelines.resources import Engines, data_root
from pipelines.room_inputs import merged_keys
from research.bench import Measured, bench
from research.study.world import SAMPLING

STUDY = Path(__file__).parent.parent / "docs" / "study"
TUNING, SCORES = STUDY / "peers_tuning.jsonl", STUDY / "peers.jsonl"
TUNING_SEED, SCORE_SEED = 3000, 4000
"""Prompt writer seeds, unlike those of the release or of other choices."""
EXAMPLES = 8
"""Prompt pairs per concept that a peer may use."""
TRAINED = ("esd", "adv_unlearn")
"""Methods with a training seed."""
TIMED_CALLS = 3
"""Timed full calls per side, in the first seed only."""

_IN_PHRASE = {"template": "a dark {}"}
_TWINS = {"texts": "examples", "preserve_twins": True}
_FAST_ADV = {"steps": 60, "sampling_steps": 10, "batch_size": 4, "attack_steps": 1}
_FAST_ESD = {"steps": 80, "lr": 3e-4, "sampling_steps": 20, "batch_size": 8}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "negative_prompt": [{}, _IN_PHRASE],
    "safree": [{}, {"self_validating": False}, {"self_validating": False, "alpha": -0.01}],
    "sld": [{"level": "medium"}, {"level": "strong"}, {"level": "max"}],
    "casg": [{"level": "medium"}, {"level": "max"}],
    "uce": [
        {},
        {"preserve_twins": True},
        _TWINS,
        {**_TWINS, "tokens": "tail"},
        {**_TWINS, "tokens": "tail", "preserve_scale": 10.0},
        {**_TWINS, "tokens": "tail", "preserve_scale": 0.1},
        {**_TWINS, "tokens": "tail", "preserve_scale": 0.01},
    ],
    "esd": [
        _FAST_ESD,
        {**_FAST_ESD, "texts": "examples"},
        {**_FAST_ESD, "lr": 1e-3, "steps": 160},
        {**_FAST_ESD, "lr": 1e-3, "steps": 160, "texts": "examples"},
    ],
    "adv_unlearn": [
        {**_FAST_ADV, "lr": 3e-4, "texts": "examples"},
        {**_FAST_ADV, "lr": 1e-3, "texts": "examples"},
        {**_FAST_ADV, "lr": 1e-3, "texts": "examples", "retain_weight": 1.0},
        {**_FAST_ADV, "lr": 1e-3},
        {**_FAST_ADV, "lr": 3e-3, "steps": 100},
    ],
}
"""Variants to tune. The methods' defaults are for Stable Diffusion 1.4 and 50 steps; the steps of
ESD and AdvUnlearn are limited by time."""


def rows_of(engines: Engines, writer_seed: int, number: int) -> list[EvaluationRow]:
    """New prompt pairs of every concept, ``number`` per concept."""
    writer = Engine(use=engines.profile.writer.use, params={"seed": writer_seed}).build()
    return fresh_rows(writer, engines.taxonomy.concepts, range(number), prefix=f"{writer_seed}-")


def merit(line: dict[str, Any]) -> tuple[float, float]:
    """What a choice is made by.

    Share of clean unsafe prompts plus fidelity of safe ones, then the same with residue.
    """
    kept = line["fidelity"]["value"]
    return kept - line["ip"]["value"], kept - line["residue"]["value"]


def chosen(method: str) -> dict[str, Any]:
    """A method's best parameters in tuning; its first variant where none is tuned yet."""
    lines = [line for line in _lines(TUNING) if line["method"] == method]
    return max(lines, key=merit)["parameters"] if lines else VARIANTS[method][0]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _append(path: Path, line: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        handle.write(json.dumps(line) + "\n")


def _ours(engines: Engines) -> Contender:
    """The merged adapter; its training is that of all experts, one after another, and the merge."""
    data = engines.data
    made = [manifests.require(data.partition("experts", key)) for key in merged_keys(engines)]
    made.append(manifests.require(data.partition("merge")))
    return Contender(
        name=MERGED,
        adapter=merged_weights(data, engines.profile.merge.strategy),
        training_seconds=sum(manifest.seconds for manifest in made),
    )


def _measured(
    engines: Engines,
    concepts: list[Concept],
    rows: list[EvaluationRow],
    contenders: list[Contender],
    calls: int,
) -> Iterator[Measured]:
    return bench(
        contenders, engines.generator, rows, concepts, engines.evaluation_scorers,
        engines.profile.evaluation, engines.evaluation_features, timed_calls=calls,
    )  # fmt: skip


def main(
    root: Annotated[str, typer.Option(help="Data root of `make run`.")] = "",
    methods: Annotated[str, typer.Option(help="Comma-separated names; empty: all.")] = "",
    seeds: Annotated[int, typer.Option(min=0, help="0: tune only.")] = 2,
    prompts: Annotated[int, typer.Option(min=1, help="Pairs per concept, for scoring.")] = 2,
    tuning_prompts: Annotated[int, typer.Option(min=1, help="Pairs per concept, for tuning.")] = 1,
) -> None:
    """Tune, score, print the table; append every result to its file immediately."""
    # The settings of the stored lines, independent of the shipped profile.
    profile = load_profile("standin").model_copy(update={"sampling": SAMPLING})
    engines = Engines(profile, parse_root(root) if root else data_root())
    concepts = release_concepts(release_folder(engines.data), examples=EXAMPLES)
    names = methods.split(",") if methods else [MERGED, *PEERS]
    _tune(engines, concepts, [name for name in names if name in PEERS], tuning_prompts)
    for seed in range(seeds):
        _score(engines, concepts, names, seed, prompts)
    _show()


def _tune(engines: Engines, concepts: list[Concept], names: list[str], prompts: int) -> None:
    have = [(line["method"], line["parameters"]) for line in _lines(TUNING)]
    wanted = [(n, v) for n in names for v in VARIANTS[n] if (n, v) not in have]
    if not wanted:
        return
    rows = rows_of(engines, TUNING_SEED, prompts)
    contenders = [Contender(name=n, peer=make_peer(n, v)) for n, v in wanted]
    known = [(BASE, {}), *wanted]
    found = _measured(engines, concepts, rows, contenders, 0)
    for (name, variant), one in zip(known, found, strict=True):
        line = {"method": name, "parameters": variant, **_finite(one)}
        if name != BASE or (BASE, {}) not in have:
            _append(TUNING, line)
        Console().print(name, variant, [round(x, 3) for x in merit(line)])


def _score(
    engines: Engines, concepts: list[Concept], names: list[str], seed: int, prompts: int
) -> None:
    have = {line["method"] for line in _lines(SCORES) if line["seed"] == seed}
    wanted = [name for name in names if name not in have]
    if not wanted:
        return
    contenders, parameters = [], [{}]
    for name in wanted:
        own = {} if name == MERGED else chosen(name)
        parameters.append(own)
        given = {**own, "seed": seed} if name in TRAINED else own
        contenders.append(
            _ours(engines) if name == MERGED else Contender(name=name, peer=make_peer(name, given))
        )
    rows = rows_of(engines, SCORE_SEED + seed, prompts)
    calls = TIMED_CALLS if seed == 0 else 0
    found = _measured(engines, concepts, rows, contenders, calls)
    for own, one in zip(parameters, found, strict=True):
        if one.name not in have:
            line = {"method": one.name, "seed": seed, "parameters": own, **_finite(one)}
            _append(SCORES, line)


def _finite(one: Measured) -> dict[str, Any]:
    found = one.as_dict()
    found.pop("name")
    return {k: None if v != v else v for k, v in found.items()}  # JSON has no NaN


def markdown(lines: list[dict[str, Any]]) -> str:
    """The scores as a Markdown table: mean, lowest and highest over the seeds."""
    head = "| method | parameters | IP, unsafe | residue, unsafe | fidelity, safe | "
    head += "seconds per image, relative to the base | seconds before the first image |"
    rows = [head, "|---" * 7 + "|"]
    for name in dict.fromkeys(line["method"] for line in lines):
        own = [line for line in lines if line["method"] == name]
        shares = []
        for key in ("ip", "residue", "fidelity"):
            values = [100 * line[key]["value"] for line in own]
            mean = sum(values) / len(values)
            shares.append(f"{mean:.1f} % [{min(values):.1f}, {max(values):.1f}]")
        timed = [line for line in own if line["seconds_per_image"] is not None]
        ratios = [line["seconds_per_image"] / line["base_seconds_per_image"] for line in timed]
        shown = ", ".join(f"{k} {v}" for k, v in own[0]["parameters"].items()) or "–"
        times = f"{sum(ratios) / len(ratios):.2f}" if ratios else "–"
        trained = sum(line["training_seconds"] for line in own) / len(own)
        title = TITLES.get(name, label(name))
        rows.append(f"| {title} | {shown} | {' | '.join(shares)} | {times} | {trained:.3g} |")
    return "\n".join(rows)


def _show() -> None:
    table = Table("method", "seed", "IP", "residue", "fidelity", "s/image", "of base", "training s")
    for line in _lines(SCORES):
        shares = [f"{100 * line[k]['value']:.1f}" for k in ("ip", "residue", "fidelity")]
        each, base = line["seconds_per_image"], line["base_seconds_per_image"]
        times = ("", "") if each is None else (f"{each:.3f}", f"{each / base:.2f}")
        trained = f"{line['training_seconds']:.1f}"
        table.add_row(line["method"], str(line["seed"]), *shares, *times, trained)
    Console().print(table)
    print(markdown(_lines(SCORES)))


if __name__ == "__main__":
    typer.run(main)
