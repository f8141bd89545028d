"""Every room of a deployment made in a second.

The data rooms for real in the tiny world, training and evaluation as files whose content is what
their specs say that they are made of.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pyarrow as pa
from safetensors.torch import save_file
from torch import zeros

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.tokens import TokenCounter
from alignguard_data.images.room import Sampling, render_pairs
from alignguard_data.importing.coprov2.files import read_files
from alignguard_data.importing.coprov2.room import Source
from alignguard_data.index.room import build_index
from alignguard_data.pairs.room import filter_pairs
from alignguard_data.prompts.gate import GateTools
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.release.room import build_release
from alignguard_data.scores.room import score_concept
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.tally import Tally
from alignguard_data.taxonomy.room import write_taxonomy
from alignguard_train.arena.cells import BLOCK, cells_block
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings import room as encodings
from alignguard_train.evaluation.config import PromptSetConfig
from alignguard_train.evaluation.report.summary import MODEL_CARD, SUMMARY
from alignguard_train.guards.config import GuardsConfig
from alignguard_train.merge.config import MergeConfig
from pipelines.rooms import ROOMS
from tests.alignguard_data import tiny_rooms
from tests.alignguard_train.evaluation.world import CONFIG, ColourFeatures, RedScorer

WEIGHTS = "pytorch_lora_weights.safetensors"


@dataclasses.dataclass
class Writer(tiny_rooms.TinyWriter):
    """A writer that says in which precision it works."""

    numerics: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Generator(tiny_rooms.TinyGenerator):
    """A generator as the evaluation asks for it."""

    sampling: Sampling = tiny_rooms.SAMPLING
    numerics: dict[str, str] = dataclasses.field(default_factory=lambda: {"dtype": "float32"})
    redrawn: str = ""
    """Prompts that hold these words get one other value of a pixel."""

    def _draw(self, prompt: str, seed: int) -> Pixels:
        image = super()._draw(prompt, seed)
        if self.redrawn and self.redrawn in prompt:
            image[0, 0, 0] ^= 1
        return image


class Base:
    """The base model under training: its identity, and a pipe that has a precision alone."""

    model_id, revision = "tiny-model", "1"

    def __init__(self) -> None:
        self.training: dict[str, object] = {}
        self.numerics = {"dtype": "float32"}
        self.denoiser = SimpleNamespace(dtype="float32")
        self.family = SimpleNamespace(denoiser="unet")
        self.pipe = SimpleNamespace(vae=SimpleNamespace(dtype="float32"))

    @property
    def models(self) -> dict[str, str]:
        return {self.model_id: self.revision}


class CountedWords(TokenCounter):
    """A version as of the tokenizer's files; the number is that of the words."""

    def __call__(self, prompt: str) -> int:
        return len(prompt.split())


def write_files(folder: Path) -> None:
    """What a deployment names by path: a model folder, a set of prompts, files to import."""
    (folder / "model" / "tokenizer").mkdir(parents=True)
    (folder / "model" / "tokenizer" / "vocab.json").write_text('{"a": 1}')
    save_file({"x": zeros(1)}, folder / "model" / "unet.safetensors")
    (folder / "set.csv").write_text("prompt\na red field\n")
    (folder / "train.csv").write_text("prompt,image,category\na red field,1.png,hate\n")


class World:
    """A deployment under ``folder``, whose engines and configuration a test changes."""

    def __init__(self, folder: Path) -> None:
        self.files = folder
        recipe = ExpertRecipe(rank=2, steps=3)
        chosen = PromptSetConfig(name="other", path=str(folder / "set.csv"))
        self.profile: Any = SimpleNamespace(
            name="tiny",
            writing=dataclasses.replace(tiny_rooms.WRITING, max_tokens=77),
            sampling=tiny_rooms.SAMPLING,
            filter=tiny_rooms.RULES,
            release=tiny_rooms.RELEASE,
            audit=tiny_rooms.BOUNDS,
            training=SimpleNamespace(seed=0, all_single=True),
            recipe=lambda: recipe,
            merge=MergeConfig(),
            guards=GuardsConfig(),
            evaluation=dataclasses.replace(CONFIG, prompts_per_concept=1, prompt_sets=(chosen,)),
        )
        self.engines: Any = SimpleNamespace(
            data=DataRoot(root=folder / "data", profile="tiny"),
            profile=self.profile,
            taxonomy=tiny_rooms.taxonomy(),
            writer=Writer(),
            gate_tools=GateTools(count_tokens=CountedWords(str(folder / "model"))),
            generator=Generator(),
            editing=None,
            image_scorers=[tiny_rooms.InkScorer(), tiny_rooms.InkScorer(name="unread")],
            pair_scorers=[tiny_rooms.WordScorer()],
            evaluation_scorers=[RedScorer()],
            evaluation_features=ColourFeatures(),
            embedder=None,
            base=Base(),
        )

    @property
    def data(self) -> DataRoot:
        return self.engines.data

    def run(self) -> set[str]:
        """Make what is not done, room by room as the driver does; which partitions that were."""
        made = set()
        for room, key, spec in self.places():
            wanted = spec()
            if wanted.state() != "done":
                self._make(room, key, wanted)
                made.add(f"{room}/{key}")
                assert spec().state() == "done", f"{room}/{key}"
        return made

    def places(self) -> list[tuple[str, str, Callable[[], PartitionSpec]]]:
        """Room, key and spec of every partition, in the order in which they are made."""
        found: list[tuple[str, str, Callable[[], PartitionSpec]]] = []
        for room in ROOMS:
            found += [
                (room.name, key, lambda r=room, k=key: r.spec(self.engines, k))
                for key in room.partitions(self.engines)
            ]
            if room.name == "release":
                found += [
                    ("encodings", k, lambda k=k: encodings.spec(self.data, self.engines.base, k))
                    for k in get_args(encodings.Kind)
                ]
        return [*found, ("imports", "coprov2", self._import)]

    def _import(self) -> PartitionSpec:
        return Source(files=read_files([self.files / "train.csv"])).spec(self.data)

    def _make(self, room: str, key: str, spec: PartitionSpec) -> None:
        e, profile = self.engines, self.profile
        makers: dict[str, Callable[[], object]] = {
            "taxonomy": lambda: write_taxonomy(e.data, e.taxonomy),
            "prompts": lambda: write_prompt_pairs(
                e.data, e.taxonomy.concept(key), e.writer, profile.writing, tools=e.gate_tools
            ),
            "images": lambda: render_pairs(e.data, [key], e.generator, profile.sampling),
            "scores": lambda: score_concept(e.data, key, e.image_scorers, e.pair_scorers),
            "pairs": lambda: filter_pairs(e.data, e.taxonomy.concept(key), profile.filter),
            "index": lambda: build_index(e.data, e.taxonomy),
            "release": lambda: build_release(e.data, e.taxonomy, profile.release, profile.audit),
        }
        makers.get(room, lambda: self._write_down(spec))()

    def _write_down(self, spec: PartitionSpec) -> None:
        recorded = json.dumps([spec.fingerprint, spec.inputs, spec.models], default=list)
        folders = self.profile.merge.strategies if spec.room == "merge" else [""]
        with open_partition(spec) as work:
            files = {}
            for folder in folders:
                name = f"{folder}/{WEIGHTS}".lstrip("/")
                files[name] = work.partial / name
                files[name].parent.mkdir(parents=True, exist_ok=True)
                save_file({"x": zeros(1)}, files[name], {"made of": recorded})
            work.finish(
                tables={"made_of": pa.table({"recorded": [recorded]})},
                extra_files=files,
                tally=Tally(wanted=1, made=1, unit="files"),
            )
        if spec.room == "evaluation":
            self._summarize()

    def _summarize(self) -> None:
        folder = self.data.base / "evaluation"
        made = manifests.require(self.data.partition("evaluation"))
        (folder / MODEL_CARD).write_text("# The adapter\n")
        arena = cells_block([], release="", made_of=made.content_id)
        summary = {"evaluation": made.content_id, BLOCK: arena}
        (folder / SUMMARY).write_text(json.dumps(summary))
