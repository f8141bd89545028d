"""Fine-tunes, draws and judges one model after another; what is saved is not made again.

A batch is one model at one step count: its images, held-out losses and weights. The modular
fine-tuning does not depend on the safety adapter, so it is trained once a seed and added to each.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import from_table, to_table
from alignguard_data.engines.families.registry import family_of
from alignguard_data.storage.partition import PartitionWork
from alignguard_train.adapters.lora import Lora, save_lora, scaled
from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.evaluation.judge import (
    BaseImage,
    judge,
    render_in_batches,
)
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow
from alignguard_train.reemergence.arithmetic import (
    deltas,
    folded,
    length,
    own_weights,
    summed,
    undoing,
    undone_share,
)
from alignguard_train.reemergence.benign import BenignRow, EncodedRows
from alignguard_train.reemergence.config import (
    MINUS_SAFETY,
    MINUS_TUNING,
    NONE,
    START,
    ReemergenceConfig,
    Variant,
)
from alignguard_train.reemergence.models import Models
from alignguard_train.reemergence.records import HeldOutLoss, TunedImage, TunedLayer, TunedModel
from alignguard_train.reemergence.training import Tuned, benign_losses, fine_tune

_IMAGE = pa.schema(
    [
        ("pair_id", pa.string()),
        ("side", pa.string()),
        ("image", pa.binary()),
        ("features", pa.binary()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One model: which safety adapter, and what was made of it."""

    adapter: str
    variant: str
    seed: int = 0
    steps: int = 0

    def name(self, kind: str) -> str:
        """Name of its batch: adapters' names have colons."""
        adapter = self.adapter.replace(":", "=")
        return f"{kind}@{adapter}@{self.variant}@{self.seed}@{self.steps}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """What is trained on and measured with: encoded benign rows, and evaluation prompts."""

    train: EncodedRows
    held_out: EncodedRows
    held_out_rows: Sequence[BenignRow]
    prompts: Sequence[EvaluationRow]


class Measuring:
    """All models of one configuration, batch by batch."""

    def __init__(
        self,
        work: PartitionWork,
        models: Models,
        config: ReemergenceConfig,
        safety: Mapping[str, Lora],
        data: Data,
        progress: Progress | None = None,
    ) -> None:
        self._work, self._models, self._config = work, models, config
        self._safety, self._data = safety, data
        self._deltas = {name: deltas(lora) for name, lora in safety.items()}
        self._progress = progress or (lambda count: None)
        self._saved = {path.stem for path in work.partial.glob("*.parquet")}
        self._base_images: dict[tuple[str, str], BaseImage] = {}

    def run(self) -> None:
        """Make every batch that is missing."""
        self._base()
        for adapter, lora in self._safety.items():
            with self._safe(adapter):
                self._measure(Place(adapter=adapter, variant=START), self._drawn(lora))
            self._probe(Place(adapter=adapter, variant=MINUS_SAFETY), scaled(lora, -1.0))
        for seed in self._config.seeds:
            for variant in self._config.variants:
                for adapters in self._together(variant):
                    self._tune(variant, adapters, seed)

    def tables(self) -> dict[str, pa.Table]:
        """Every saved row, in order of the batches' names."""
        kinds = {
            "images": TunedImage,
            "losses": HeldOutLoss,
            "models": TunedModel,
            "layers": TunedLayer,
        }
        found = {}
        for kind, record in kinds.items():
            names = sorted(name for name in self._saved if name.startswith(f"{kind}@"))
            parts = [self._work.load_batch(name) for name in names]
            found[kind] = pa.concat_tables([to_table(record, []), *parts]).combine_chunks()
        return found

    def _together(self, variant: Variant) -> Iterator[tuple[str, ...]]:
        """The safety adapters that share one fine-tuning."""
        names = tuple(self._safety)
        if variant == "modular":
            yield names
        else:
            yield from ((name,) for name in names)

    def _tune(self, variant: Variant, adapters: tuple[str, ...], seed: int) -> None:
        steps = self._config.steps
        places = [
            Place(adapter=name, variant=variant, seed=seed, steps=count)
            for name in adapters
            for count in steps
        ]
        shared = adapters[0] if len(adapters) == 1 else "every"
        checkpoint = self._work.partial / f"{variant}-{shared.replace(':', '=')}-{seed}.safetensors"
        if all(self._has(place, "images") for place in places) and not checkpoint.exists():
            self._progress(steps[-1] + len(places) * len(self._data.prompts))
            self._after(variant, adapters, seed)
            return
        fine_tune(
            self._models.base,
            self._data.train,
            self._config.recipe,
            variant,
            safety=self._safety[adapters[0]],
            seed=seed,
            steps=steps[-1],
            checkpoint=checkpoint,
            at=partial(self._at, variant, adapters, seed),
            measured=frozenset(steps),
            progress=self._progress,
        )
        checkpoint.unlink(missing_ok=True)

    def _after(self, variant: Variant, adapters: tuple[str, ...], seed: int) -> None:
        """Progress of the probe that goes with a finished stacked fine-tuning."""
        if variant == "stacked":
            self._progress(len(adapters) * len(self._data.prompts))

    def _at(self, variant: Variant, adapters: tuple[str, ...], seed: int, tuned: Tuned) -> None:
        for name in adapters:
            place = Place(adapter=name, variant=variant, seed=seed, steps=tuned.steps)
            safety = self._safety[name]
            # The subtracted one first: the images of this place mark the step as done.
            if variant == "stacked" and tuned.steps == self._config.steps[-1] and tuned.lora:
                probe = Place(adapter=name, variant=MINUS_TUNING, seed=seed, steps=tuned.steps)
                self._probe(probe, summed(safety, tuned.lora, weight=-1.0))
            if not self._has(place, "images"):
                self._weights(place, tuned)
            drawn = self._drawn(summed(safety, tuned.lora)) if tuned.lora else self._full(tuned)
            with self._safe(name) if variant == "modular" else nullcontext():
                self._measure(place, drawn)

    def _safe(self, adapter: str) -> AbstractContextManager[None]:
        """The base model under training with the safety adapter in its weights."""
        return folded(self._models.base.denoiser, self._safety[adapter])

    def _weights(self, place: Place, tuned: Tuned) -> None:
        safety = self._deltas[place.adapter]
        changes = {name: tuned.changes[name].to("cpu") for name in safety if name in tuned.changes}
        size = length(safety)
        row = TunedModel(
            adapter=place.adapter,
            variant=place.variant,
            seed=place.seed,
            steps=place.steps,
            train_loss=tuned.train_loss,
            undoing=undoing(changes, safety),
            undone_share=undone_share(changes, safety),
            size=length(changes) / size if size else math.nan,
        )
        self._save(place, "models", to_table(TunedModel, [row]))
        if place.steps != self._config.steps[-1]:
            return
        layers = [
            TunedLayer(
                adapter=place.adapter,
                variant=place.variant,
                seed=place.seed,
                layer=name,
                undoing=undoing({name: change}, safety),
                size=_ratio(length({name: change}), length(safety, [name])),
            )
            for name, change in changes.items()
        ]
        self._save(place, "layers", to_table(TunedLayer, layers))

    def _measure(self, place: Place, drawn: AbstractContextManager[None]) -> None:
        """Held-out losses of the base model as it is now, and the images as they are drawn."""
        if self._has(place, "images"):
            self._progress(len(self._data.prompts))
            return
        losses = benign_losses(self._models.base, self._data.held_out)
        rows = [
            HeldOutLoss(
                adapter=place.adapter,
                variant=place.variant,
                seed=place.seed,
                steps=place.steps,
                place=row.place,
                loss=loss,
            )
            for row, loss in zip(self._data.held_out_rows, losses, strict=True)
        ]
        self._save(place, "losses", to_table(HeldOutLoss, rows))
        self._probe(place, drawn)

    def _probe(self, place: Place, drawn: AbstractContextManager[None] | Lora) -> None:
        """Images only."""
        if self._has(place, "images"):
            self._progress(len(self._data.prompts))
            return
        with self._drawn(drawn) if isinstance(drawn, dict) else drawn:
            judged = list(self._judged(place.variant, self._base_images))
        found = [_row(place, one) for one in judged]
        self._save(place, "images", to_table(TunedImage, found))

    def _base(self) -> None:
        place = Place(adapter=BASE, variant=NONE)
        if not self._has(place, "pictures"):
            judged = list(self._judged(BASE, None))
            kept = [{name: getattr(one, name) for name in _IMAGE.names} for one in judged]
            found = [_row(place, one) for one in judged]
            self._save(place, "images", to_table(TunedImage, found))
            losses = benign_losses(self._models.base, self._data.held_out)
            rows = [
                HeldOutLoss(adapter=BASE, variant=NONE, seed=0, steps=0, place=row.place, loss=loss)
                for row, loss in zip(self._data.held_out_rows, losses, strict=True)
            ]
            self._save(place, "losses", to_table(HeldOutLoss, rows))
            self._save(place, "pictures", pa.Table.from_pylist(kept, schema=_IMAGE))
        else:
            self._progress(len(self._data.prompts))
        for row in self._work.load_batch(place.name("pictures")).to_pylist():
            self._base_images[row["pair_id"], row["side"]] = BaseImage(
                row["image"], row["features"]
            )

    def _judged(
        self, name: str, base: Mapping[tuple[str, str], BaseImage] | None
    ) -> Iterator[EvaluatedImage]:
        models = self._models
        for part, images in render_in_batches(models.generator, self._data.prompts):
            yield from judge(name, part, images, models.scorers, models.evaluation, base)
            self._progress(len(part))

    @contextmanager
    def _drawn(self, lora: Lora) -> Iterator[None]:
        """Draw with an adapter; its file is there only while it is used."""
        file = self._work.partial / "drawn.safetensors"
        save_lora(lora, file)
        try:
            with self._models.generator.adapted(file):
                yield
        finally:
            file.unlink(missing_ok=True)

    def _full(self, tuned: Tuned) -> AbstractContextManager[None]:
        return self._models.generator.changed(_with_weights(tuned.weights))

    def _has(self, place: Place, kind: str) -> bool:
        return place.name(kind) in self._saved

    def _save(self, place: Place, kind: str, table: pa.Table) -> None:
        self._work.save_batch(place.name(kind), table)
        self._saved.add(place.name(kind))


def _ratio(value: float, of: float) -> float:
    return value / of if of else math.nan


def _row(place: Place, one: EvaluatedImage) -> TunedImage:
    shared = ("pair_id", "side", "concept", "category", "seen", "flagged", "fidelity", "distance")
    return TunedImage(
        adapter=place.adapter,
        variant=place.variant,
        seed=place.seed,
        steps=place.steps,
        **{name: getattr(one, name) for name in shared},
    )


def _with_weights(weights: Mapping[str, Tensor]) -> Callable[[Any], Any]:
    """A change of a pipe: a copy of its denoiser with these weights."""

    def change(pipe: Any) -> Any:
        part = family_of(pipe).denoiser
        changed, denoiser = copy.copy(pipe), copy.deepcopy(getattr(pipe, part))
        with torch.no_grad():
            for name, parameter in own_weights(denoiser).items():
                parameter.copy_(weights[name])
        setattr(changed, part, denoiser)
        return changed

    return change


def images_of(table: pa.Table) -> list[TunedImage]:
    """The rows of a table of images."""
    return from_table(TunedImage, table)
