"""A gate that a team can ship: which category's expert draws a prompt, instead of a merge of all.

It reads the end-of-text state of the base model's text encoder, which the pipe computes anyway,
and knows the categories of the release that it was fitted on. A prompt of no category gets the
nearest one's expert. Someone who knows the gate can send a prompt to another expert
(docs/study.md); it is no guard.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import ConfigError, EngineError, IntegrityError
from alignguard_data.storage.places import Place
from alignguard_train.adapters.lora import load_lora
from alignguard_train.guards.states import EncoderIdentity, FrozenEncoder
from alignguard_train.merge.gate_file import ExpertGateHeader, read_gate, save_gate
from alignguard_train.merge.gate_texts import GateTexts, gate_texts
from alignguard_train.merge.linear_gate import LinearGate, fit_linear

Experts = Path | Mapping[str, Path]
"""LoRA file by category, or a folder of ``<category>.safetensors``."""
HELD_OUT = 0.2
"""Share of a concept's captions that chooses the penalty."""
ENOUGH = 0.9
"""Share of the held-out captions below which fitting warns."""

log = logging.getLogger(__name__)


class ExpertGate:
    """Chooses an expert for each prompt; made by :meth:`fit` or :meth:`load`.

    Args:
        header: what its file says.
        classifier: of end-of-text states.
        pipe: whose text encoder it reads, and on which :meth:`attach` puts the experts.
        files: LoRA file by category.
    """

    def __init__(
        self,
        header: ExpertGateHeader,
        classifier: LinearGate,
        pipe: Any,
        files: Mapping[str, Path],
    ) -> None:
        self.header, self.classifier, self.files = header, classifier, dict(files)
        self._pipe, self._encoder = pipe, FrozenEncoder.of(pipe)

    @classmethod
    def fit(
        cls, release: Place, experts: Experts, pipe: Any, *, twins: bool = False, seed: int = 0
    ) -> "ExpertGate":
        """Learn a release's categories from its train captions.

        Args:
            release: folder of the release.
            experts: of every category of the release.
            pipe: a diffusers pipe of the base model.
            twins: learn from the safe twins too; only where a twin still names its category.
            seed: of the choice of held-out captions, a fifth of each concept's.

        Returns:
            The gate with the penalty that finds most held-out captions' categories, fitted with it
            on all of them; ``header.held_out_right`` is their share, and a low one is logged.

        Raises:
            ConfigError: fewer than two categories, a missing or unreadable expert, an expert of
                another category, no caption to hold out, or a pipe without a CLIP text encoder;
                every fault at once.
            IntegrityError: the release lacks a shard or a column.
        """
        texts = gate_texts(release, twins=twins, share=HELD_OUT, seed=seed)
        encoder, faults = _encoder_of(pipe)
        if len(texts.categories) < 2:
            shown = ", ".join(texts.categories) or "none"
            faults.append(f"release {release.name}: a gate needs two categories, it has {shown}")
        if not texts.held_out:
            faults.append(f"release {release.name}: no concept has two captions to choose with")
        files = _files(experts, texts.categories)
        faults += _expert_faults(experts, files, texts.categories)
        if faults or encoder is None:
            raise ConfigError("the gate", faults)
        gate, right = _fitted(texts, encoder)
        if right < ENOUGH:
            log.warning(
                "the gate finds the category of only %.0f %% of %d held-out captions: the others "
                "get another category's expert", 100 * right, len(texts.held_out),
            )  # fmt: skip
        header = ExpertGateHeader(
            classes=gate.classes, penalty=gate.penalty, held_out_right=right,
            held_out=len(texts.held_out), fitted=len(texts.fitted) + len(texts.held_out),
            twins=twins, encoder=encoder.identity, release=release.name, texts=_hash(texts),
        )  # fmt: skip
        return cls(header, gate, pipe, files)

    def save(self, file: Path) -> None:
        """Write the gate, without experts, to a safetensors file that holds no code."""
        save_gate(file, self.header, self.classifier)

    @classmethod
    def load(cls, file: Path, pipe: Any, experts: Experts) -> "ExpertGate":
        """Read a gate for a pipe and its experts.

        Args:
            file: that :meth:`save` wrote.
            pipe: a diffusers pipe with the text encoder that the gate was fitted on.
            experts: of every category of the gate.

        Returns:
            The gate.

        Raises:
            ConfigError: the pipe has another text encoder, an expert is missing or unreadable, or
                is of a category that the gate does not know; every fault at once.
            IntegrityError: the file is missing or faulty.
        """
        header, gate = read_gate(file)
        encoder, faults = _encoder_of(pipe)
        if encoder is not None:
            faults += _encoder_faults(header.encoder, encoder.identity)
        files = _files(experts, header.classes)
        faults += _expert_faults(experts, files, header.classes)
        if faults:
            raise ConfigError(f"gate {file.name}", faults)
        return cls(header, gate, pipe, files)

    def choose(self, prompts: Sequence[str]) -> list[str]:
        """The category of each prompt: the name of its expert on the pipe."""
        return self.classifier.classes_of(self._encoder.states(prompts).eos)

    def probabilities(self, prompts: Sequence[str]) -> list[dict[str, float]]:
        """Of every category, for each prompt."""
        found = self.classifier.probabilities(self._encoder.states(prompts).eos).tolist()
        return [dict(zip(self.header.classes, row, strict=True)) for row in found]

    def attach(self) -> None:
        """Load every expert on the pipe, as an adapter with its category's name.

        Raises:
            ConfigError: the pipe has an adapter of such a name.
        """
        there = {name for names in self._pipe.get_list_adapters().values() for name in names}
        if taken := sorted(there & set(self.files)):
            raise ConfigError("the pipe", [f"it has an adapter {name} already" for name in taken])
        for category, file in self.files.items():
            self._pipe.load_lora_weights(
                str(file.parent), weight_name=file.name, adapter_name=category
            )


def _fitted(texts: GateTexts, encoder: FrozenEncoder) -> tuple[LinearGate, float]:
    """A gate of all captions, and how often one of the fitted ones is right on the held-out."""
    states = encoder.states([text for text, _ in (*texts.fitted, *texts.held_out)]).eos
    labels = [category for _, category in (*texts.fitted, *texts.held_out)]
    n = len(texts.fitted)
    chosen = fit_linear(states[:n], labels[:n], states[n:], labels[n:])
    return fit_linear(states, labels, states, labels, (chosen.penalty,)), chosen.held_out


def _encoder_of(pipe: Any) -> tuple[FrozenEncoder | None, list[str]]:
    try:
        return FrozenEncoder.of(pipe), []
    except EngineError as error:
        return None, [str(error)]


def _encoder_faults(wanted: EncoderIdentity, found: EncoderIdentity) -> list[str]:
    return [
        f"the gate reads another text encoder than the pipe's: {name} {ours!r}, here {theirs!r}"
        for name, ours, theirs in zip(EncoderIdentity._fields, wanted, found, strict=True)
        if ours != theirs
    ]


def _files(experts: Experts, categories: Sequence[str]) -> dict[str, Path]:
    if isinstance(experts, Path):
        return {name: experts / f"{name}.safetensors" for name in categories}
    return {name: experts[name] for name in categories if name in experts}


def _expert_faults(
    experts: Experts, files: Mapping[str, Path], categories: Sequence[str]
) -> list[str]:
    faults = [f"no expert of category {name}" for name in categories if name not in files]
    if not isinstance(experts, Path):
        strange = sorted(set(experts) - set(categories))
        known = ", ".join(categories)
        faults += [f"expert of unknown category {name}; there are {known}" for name in strange]
    for name, file in files.items():
        if not file.is_file():
            faults.append(f"expert of category {name}: {file} does not exist")
            continue
        try:
            load_lora(file)
        except IntegrityError as error:
            faults.append(f"expert of category {name}: {error}")
    return faults


def _hash(texts: GateTexts) -> str:
    content = json.dumps([sorted(texts.fitted), sorted(texts.held_out)])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
