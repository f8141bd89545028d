"""The engines of one profile, built at first use; identity is cheap, weights load late."""

import dataclasses
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.contracts.protocols import (
    FeatureExtractor,
    ImageScorer,
    PairScorer,
    TextEmbedder,
    TextGenerator,
)
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.language import LanguageIdentifier
from alignguard_data.engines.tokens import TokenCounter
from alignguard_data.images.editing import Editing
from alignguard_data.prompts.gate import GateTools
from alignguard_data.prompts.twin_stage import TwinStage
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, parse_root
from alignguard_data.taxonomy.parse import Taxonomy, load_taxonomy
from alignguard_train.base import BaseModel
from pipelines.profile import Profile
from pipelines.profile_paths import resolve_model
from pipelines.profile_sections import Engine
from pipelines.rule_scores import unknown_scores
from pipelines.runtime.devices import own_device, owned_device

ROOT_VARIABLE = "ALIGNGUARD_ROOT"


def data_root() -> Place:
    """``ALIGNGUARD_ROOT``, a folder or ``s3://bucket/prefix``; else ``./data``."""
    return parse_root(os.environ.get(ROOT_VARIABLE) or "data")


class Engines:
    """The rooms' dependencies: data root, taxonomy, and lazily built engines."""

    def __init__(self, profile: Profile, root: Place) -> None:
        self.profile = profile
        self.data = DataRoot(root=root, profile=profile.name)

    def own_device(self) -> str | None:
        """Acquire one of the profile's GPUs for this process, if the profile names several.

        Every room that loads the base model starts with this, also one started in the Dagster UI.

        Raises:
            ConfigError: settings that the base model does not fit.
        """
        self.check_base_model()
        return own_device(self.profile.base_model.devices)

    @property
    def _device(self) -> str:
        # A process that owns a GPU sees no other, so `auto` selects it.
        owned = owned_device()
        if owned:
            return "cpu" if owned == "cpu" else "auto"
        return self.profile.base_model.device

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The profile's taxonomy."""
        return load_taxonomy(Path(resolve_model(self.profile.taxonomy)))

    @cached_property
    def writer(self) -> TextGenerator:
        """Who writes the prompt pairs."""
        chosen = self.profile.twin_writer
        if chosen is None:
            return _build(self.profile.writer)
        twins = _build(chosen)  # first, as its file may be missing
        return TwinStage(_build(self.profile.writer), twins)

    @cached_property
    def gate_tools(self) -> GateTools:
        """Dependencies of the reply gate.

        The base model's token count, the language, and the profile's concept check.
        """
        choice, check = self.profile.base_model, self.profile.concept_check
        language = self.profile.writing.language
        return GateTools(
            count_tokens=TokenCounter(resolve_model(choice.model), choice.revision),
            language=LanguageIdentifier(language) if language else None,
            concept_check=_build(check) if check else None,
        )

    @cached_property
    def generator(self) -> DiffusersImageGenerator:
        """The base model, ready to render."""
        return self._generator(self.profile.sampling)

    @cached_property
    def attack_generator(self) -> DiffusersImageGenerator:
        """The base model for attacks, which ask for a few images at a time."""
        few = self.profile.robustness.batch_size
        return self._generator(dataclasses.replace(self.profile.sampling, batch_size=few))

    def _generator(self, sampling: Sampling) -> DiffusersImageGenerator:
        choice = self.profile.base_model
        return DiffusersImageGenerator(
            model=resolve_model(choice.model),
            revision=choice.revision,
            sampling=sampling,
            device=self._device,
            dtype=choice.dtype,
            threads=choice.threads,
            vae=resolve_model(choice.vae) if choice.vae else None,
            vae_revision=choice.vae_revision,
            speed=choice.speed,
        )

    @cached_property
    def image_scorers(self) -> list[ImageScorer]:
        """The filter's scorers of images."""
        return [_build(engine) for engine in self.profile.image_scorers]

    @cached_property
    def editing(self) -> Editing | None:
        """How safe images are made of unsafe ones; None: both are drawn from the same noise."""
        chosen = self.profile.edited_pairs
        return chosen and Editing(chosen, self.profile.filter.flags, self.image_scorers)

    @cached_property
    def pair_scorers(self) -> list[PairScorer]:
        """The filter's scorers of pairs."""
        return [_build(engine) for engine in self.profile.pair_scorers]

    @cached_property
    def evaluation_scorers(self) -> list[ImageScorer]:
        """The evaluation's own scorers."""
        return [_build(engine) for engine in self.profile.evaluation_scorers]

    def check_base_model(self, **sections: Any) -> None:
        """Refuse settings that the base model does not fit, before anything is made.

        Args:
            **sections: in place of the profile's own, such as ``robustness``.

        Raises:
            ConfigError: every such setting, by its field and value.
        """
        from pipelines.base_model_faults import base_model_faults

        if faults := base_model_faults(self.profile.model_copy(update=sections)):
            raise ConfigError(f"profile {self.profile.name}", faults)

    def check_scores(self) -> None:
        """Build the scorers, and refuse rules over scores that they do not give.

        Raises:
            ConfigError: every such rule, by its field and value.
            EngineError: a scorer cannot be built.
        """
        known = {
            "image_scorers": _keys(self.image_scorers),
            "pair_scorers": _keys(self.pair_scorers),
            "evaluation_scorers": _keys(self.evaluation_scorers),
            "robustness_scorers": _keys(self.attack_scorers),
        }
        if faults := unknown_scores(self.profile, known):
            raise ConfigError(f"profile {self.profile.name}", faults)

    @cached_property
    def attack_scorers(self) -> list[ImageScorer]:
        """The evaluation's scorers, and those of the coherence rule."""
        more = [_build(engine) for engine in self.profile.robustness_scorers]
        return [*self.evaluation_scorers, *more]

    @cached_property
    def embedder(self) -> TextEmbedder | None:
        """The embedder that compares prompts by meaning; None if the profile names none."""
        return _build(self.profile.embedder) if self.profile.embedder else None

    @cached_property
    def evaluation_features(self) -> FeatureExtractor | None:
        """The features of the evaluation's distances, None where there are none."""
        chosen = self.profile.evaluation_features
        return _build(chosen) if chosen else None

    @cached_property
    def cost_features(self) -> FeatureExtractor:
        """The extractor that the cost model reads.

        Raises:
            ConfigError: the profile has no cost_model section.
        """
        if self.profile.cost_model is None:
            raise ConfigError("the profile", ["cost_model: there is no such section"])
        return _build(self.profile.cost_model.features)

    @cached_property
    def personal_engines(self) -> tuple[Any, Any]:
        """The personal section's profile encoder, and its ban writer or None.

        Raises:
            ConfigError: the profile has no personal section.
        """
        chosen = self.profile.personal
        if chosen is None:
            raise ConfigError("the profile", ["personal: there is no such section"])
        return _build(chosen.encoder), _build(chosen.ban_writer) if chosen.ban_writer else None

    @cached_property
    def base(self) -> BaseModel:
        """The base model, ready to train."""
        choice = self.profile.base_model
        return BaseModel(
            model=resolve_model(choice.model),
            revision=choice.revision,
            device=self._device,
            dtype=choice.trained_in,
            vae=resolve_model(choice.vae) if choice.vae else None,
            vae_revision=choice.vae_revision,
            flow=choice.flow,
        )


def _keys(scorers: Sequence[ImageScorer] | Sequence[PairScorer]) -> dict[str, Sequence[str]]:
    return {scorer.name: scorer.keys for scorer in scorers}


def _build(engine: Engine) -> Any:
    """Build an engine; ``model`` and ``instruction`` may name a package's file or folder."""
    params: dict[str, Any] = dict(engine.params)
    try:
        for name in ("model", "instruction"):
            if isinstance(params.get(name), str):
                params[name] = resolve_model(params[name])
        return engine.model_copy(update={"params": params}).build()
    except (TypeError, ValueError) as error:
        raise EngineError(f"{engine.use} cannot be built: {error} (alignguard doctor)") from error
