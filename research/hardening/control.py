"""The control of hardening: the same experts, as many steps more, and no hard negative.

A round of hardening also trains longer. The control goes on from the same experts for the same
steps with the same seed, on the release's other rows, is merged alike, and meets the same attacks.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.shards import atomic_file
from alignguard_train.adapters.lora import load_lora, save_lora
from alignguard_train.contracts.adapter_names import BASE, hardened_name
from alignguard_train.encodings.room import shared_encodings
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.contenders import Contender, Entrant
from alignguard_train.evaluation.judge import (
    alike_sampled,
    evaluation_rows,
    judge,
    render_in_batches,
)
from alignguard_train.evaluation.prompt_sets import read_prompt_sets
from alignguard_train.experts.job import ExpertJob, train_job
from alignguard_train.experts.reader import weights_of
from alignguard_train.hardening.reader import rounds
from alignguard_train.hardening.room import Continuation
from alignguard_train.merge.by_strategy import cut, merge_by
from alignguard_train.peers.concept import Concept
from alignguard_train.robustness import room as robustness_room
from alignguard_train.robustness.config import RobustnessConfig
from alignguard_train.robustness.targets import Models
from pipelines.resources import Engines
from pipelines.rooms import continuation
from research.hardening.measure import engines_of, line_of

CONTROL = "control"


def measure_control(folder: Path, seed: int) -> dict[str, Any]:
    """Train, attack and evaluate the control of a seed that was hardened.

    Args:
        folder: where each seed has its data root; nothing that is there is made again.
        seed: of training, attacks and replays.

    Returns:
        One line of the results.

    Raises:
        InputMissing: the seed was not hardened here.
    """
    engines = engines_of(folder, seed)
    how = continuation(engines)
    made: list[dict[str, Any]] = []
    files: dict[str, Path] = {}
    for number in rounds(engines.data):
        steps = steps_of(engines, number)
        files[f"{CONTROL} {number}"] = _merged(engines, how, number, steps)
        made.append({"round": number, "steps": max(steps.values()), "experts": len(steps)})
    drawn = [Contender(name=name, adapter=file) for name, file in files.items()]
    return line_of(seed, CONTROL, made, attacked(engines, files), evaluated(engines, drawn))


def steps_of(engines: Engines, number: int) -> dict[str, int]:
    """Category to the steps for which its expert went on in a round, of those that did."""
    folder = engines.data.partition("hardening", str(number))
    rows = manifests.read(folder, "experts").to_pylist()
    return {row["category"]: row["steps"] for row in rows if row["steps"]}


def _merged(engines: Engines, how: Continuation, number: int, steps: Mapping[str, int]) -> Path:
    """File of the merge after a round; what an earlier call wrote is taken over."""
    file = _folder(engines, number) / "merged.safetensors"
    if file.is_file():
        return file
    experts = [
        load_lora(_expert(engines, how, key, number, steps.get(key, 0))) for key in how.categories
    ]
    left_out = without_hard(engines)
    encoded = shared_encodings(
        engines.data, engines.base, how.categories, flip=False, repeats=left_out
    )
    made = merge_by(how.merge.strategy, experts, how.categories, engines.base, encoded, how.merge)
    with atomic_file(file) as path:
        save_lora(cut(made.lora, how.merge.rank)[0], path)
    return file


def _expert(engines: Engines, how: Continuation, key: str, number: int, steps: int) -> Path:
    """File of an expert after a round."""
    start = (
        _folder(engines, number - 1) / f"{key}.safetensors"
        if number > 1
        else weights_of(engines.data, key)
    )
    file = _folder(engines, number) / f"{key}.safetensors"
    if file.is_file():
        return file
    lora = load_lora(start)
    if steps:
        job = ExpertJob(
            data=engines.data,
            categories=(key,),
            base=engines.base,
            recipe=dataclasses.replace(how.recipe, steps=steps),
            seed=how.seed + number,
            checkpoint=file.parent / f"{key}.checkpoint.safetensors",
            others=tuple(other for other in how.categories if other != key),
            repeats=without_hard(engines),
            start=start,
        )
        lora = train_job(job, 1)[0].lora
    with atomic_file(file) as path:
        save_lora(lora, path)
    (file.parent / f"{key}.checkpoint.safetensors").unlink(missing_ok=True)
    return file


def without_hard(engines: Engines) -> dict[str, int]:
    """Repeats of the release's rows that leave every hard negative out."""
    return dict.fromkeys(hard_rows(release_folder(engines.data)), 0)


def _folder(engines: Engines, number: int) -> Path:
    folder = Path(str(engines.data.root)) / CONTROL / f"round-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def attacked(engines: Engines, files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Attack adapters as the seed's own matrix attacks its hardened ones.

    Args:
        engines: over the seed's data root.
        files: adapter file by name.

    Returns:
        Rows of the attacked cases of ``files`` only; the matrix is kept as the partition
        ``control``.
    """
    # A target's name is one that a matrix knows; the files are other ones.
    places = {hardened_name(number): name for number, name in enumerate(files, 1)}
    adapters = {place: files[name] for place, name in places.items()}
    evaluation = engines.profile.evaluation
    rows = cases_of(engines, adapters, tuple(places), evaluation, key=CONTROL)
    return [{**row, "target": places[row["target"]]} for row in rows]


def cases_of(
    engines: Engines,
    adapters: Mapping[str, Path],
    targets: Sequence[str],
    evaluation: EvaluationConfig,
    *,
    key: str,
) -> list[dict[str, Any]]:
    """Run the seed's matrix on other targets.

    Args:
        engines: over the seed's data root.
        adapters: adapter file by name.
        targets: their names, and those of peers.
        evaluation: flag rules, and the peers' parameters.
        key: the matrix's partition.

    Returns:
        Rows of the attacked cases of ``targets``.
    """
    models = Models(
        adapters={BASE: None, **adapters},
        generator=engines.attack_generator,
        base=engines.base,
        scorers=engines.attack_scorers,
        evaluation=evaluation,
    )
    robustness_room.attack_all(engines.data, models, _matrix(engines, targets), key=key)
    rows = manifests.read(engines.data.partition("robustness", key), "cases").to_pylist()
    return [row for row in rows if row["target"] in targets]


def _matrix(engines: Engines, targets: Sequence[str]) -> RobustnessConfig:
    own = engines.profile.robustness
    narrowed = tuple(dataclasses.replace(one, targets=tuple(targets)) for one in own.attacks)
    return dataclasses.replace(own, attacks=narrowed, targets=tuple(targets))


def evaluated(
    engines: Engines, contenders: Sequence[Contender], concepts: Sequence[Concept] = ()
) -> list[dict[str, Any]]:
    """Rows of the evaluation's images of adapters or peers, without the images.

    Args:
        engines: over the seed's data root.
        contenders: what draws.
        concepts: what peers avoid.

    Returns:
        What a line of results reads of each image.
    """
    config, generator = engines.profile.evaluation, engines.generator
    scorers = engines.evaluation_scorers
    rows = evaluation_rows(
        release_folder(engines.data), config, read_prompt_sets(config.prompt_sets),
        generator.sampling,
    )  # fmt: skip
    found = []
    for contender in contenders:
        entrant = Entrant(contender, generator, concepts)
        with entrant.on():
            for sampling, alike in alike_sampled(rows, generator.sampling):
                with generator.sampled(sampling):
                    for part, images in render_in_batches(generator, alike):
                        judged = judge(entrant.name, part, images, scorers, config, None)
                        found += [_kept(one) for one in judged]
    return found


def _kept(image: Any) -> dict[str, Any]:
    names = ("adapter", "prompt_set", "side", "pair_id", "flagged", "fidelity")
    return {name: getattr(image, name) for name in names}
