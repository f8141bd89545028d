"""Sections of a profile that name code: engines, base model, training, personal."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.reaching import url_fault
from alignguard_data.engines.speed import Speed
from alignguard_train.contracts.flow import FlowTraining
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.cost_model.config import CostModelConfig
from alignguard_train.personal.config import PersonalConfig
from pipelines.moved_names import new_name
from pipelines.params import FaultyParams, changed, checked
from pipelines.profile_paths import resolve_model, spelt_as_path
from pipelines.runtime.devices import DEVICE


def _importable(use: str) -> str:
    module, _, name = use.partition(":")
    if not name:
        raise ValueError("must look like `package.module:function`")
    if moved := new_name(use):
        raise ValueError(f"has moved: write `{moved}`")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot be imported ({error})") from error
    if not callable(found):
        raise ValueError("is not a function")
    return use


def _imported(use: str) -> Callable[..., Any]:
    module, _, name = use.partition(":")
    return getattr(importlib.import_module(module), name)


def _folder_or_id(model: str) -> str:
    folder = resolve_model(model)
    if model.startswith("package:") and not Path(folder).is_dir():
        raise ValueError(f"is not a folder of an installed package ({folder})")
    if spelt_as_path(model) and not Path(model).is_dir():
        raise ValueError("is not a folder")
    return model


def _device(device: str) -> str:
    if not re.fullmatch(DEVICE, device):
        raise ValueError("must be `cpu` or `cuda:NUMBER`")
    return device


class Section(BaseModel):
    """A part of a profile: frozen, and an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Engine(Section):
    """A function that builds a generator or scorer, and its keyword arguments."""

    use: Annotated[str, AfterValidator(_importable)]
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _params_fit(self) -> Self:
        url = self.params.get("base_url")
        wrong = [("base_url", fault, url)] if url and (fault := url_fault(str(url))) else []
        try:
            checked(_imported(self.use), self.params)
        except FaultyParams as error:
            raise FaultyParams([*error.faults, *wrong]) from error
        if wrong:
            raise FaultyParams(wrong)
        return self

    @property
    def builder(self) -> Callable[..., Any]:
        """The function or class that ``use`` names."""
        return _imported(self.use)

    def build(self) -> Any:
        """Call the function with its parameters.

        Raises:
            ConfigError: it refuses their values.
        """
        builder = self.builder
        try:
            return builder(**checked(builder, self.params))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the profile's params of {self.use}", [str(error)]) from error


class BaseModelChoice(Section):
    """The frozen checkpoint to align.

    A hub id with its revision, a folder, or ``package:<package>/<folder>`` for one that a Python
    package carries.
    """

    model: Annotated[str, AfterValidator(_folder_or_id)]
    revision: str | None = None
    device: str = "auto"
    devices: list[Annotated[str, AfterValidator(_device)]] = Field(default_factory=list)
    """Several GPUs of one machine: one process per GPU (docs/how-to/cluster.md)."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    training_dtype: Literal["float32", "tf32", "bfloat16"] | None = None
    """Training precision. ``tf32``: float32 weights and sums, products in TensorFloat-32 on a GPU.
    ``bfloat16`` halves weights and activations. The adapter is always float32. Default: the
    rendering precision, or float32 if that cannot be trained in."""
    threads: int = Field(default=2, ge=1, le=64)
    vae: Annotated[str, AfterValidator(_folder_or_id)] | None = None
    """Another VAE: a hub id or folder (SDXL's own overflows in float16)."""
    vae_revision: str | None = None
    flow: FlowTraining | None = None
    """How a flow model (SD3.5, FLUX) is trained; must be given for one, and for no other."""
    speed: Speed = Speed()

    @property
    def trained_in(self) -> str:
        """The training precision."""
        rendering = self.dtype if self.dtype in ("float32", "bfloat16") else "float32"
        return self.training_dtype or rendering

    @field_validator("training_dtype", mode="before")
    @classmethod
    def _not_without_a_scaler(cls, chosen: object) -> object:
        if chosen in ("float16", "fp16", "half"):
            raise ValueError(
                "float16 needs a gradient scaler, which is not supported: small gradients "
                "become 0; use tf32, bfloat16 or float32"
            )
        return chosen

    @model_validator(mode="after")
    def _hub_ids_have_revisions(self) -> Self:
        try:
            ModelSource(resolve_model(self.model), self.revision)
            if self.vae:
                ModelSource(resolve_model(self.vae), self.vae_revision, field="vae_revision")
        except EngineError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _each_device_once(self) -> "BaseModelChoice":
        if self.devices and self.device != "auto":
            raise ValueError(f"give device ({self.device}) or devices, not both")
        gpus = [device for device in self.devices if device != "cpu"]
        if len(set(gpus)) < len(gpus):
            raise ValueError(f"devices names a GPU twice: {', '.join(gpus)}")
        return self


class _Recipe(Section):
    """A recipe and this deployment's overrides."""

    recipe: Annotated[str, AfterValidator(_importable)]
    overrides: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _overrides_fit(self) -> Self:
        try:
            self.build_recipe()
        except FaultyParams as error:
            faults = [(f"overrides.{name}".rstrip("."), what, v) for name, what, v in error.faults]
            raise FaultyParams(faults) from error
        return self

    def build_recipe(self) -> ExpertRecipe:
        """The recipe with the overrides."""
        return changed(_imported(self.recipe)(), self.overrides)


class Training(_Recipe):
    """The experts' recipe and this deployment's overrides."""

    seed: int = 0
    all_single: bool = True
    """Also train one adapter on every category, with the experts' total number of steps."""
    parallel: int = Field(default=1, ge=1, le=64)
    """Experts trained in parallel, one process each."""
    processes: int = Field(default=1, ge=1, le=64)
    """Processes per expert, one per GPU (on a CPU for tests). Only the last bits of the weights
    change, so it is not in the fingerprint."""


class CostModel(Section):
    """How unsafe an image looks, learned from the release, for the recipe's `cost_margin`."""

    features: Engine
    """Extractor of frozen image features; of other weights than the evaluation's scorers."""
    settings: CostModelConfig = CostModelConfig()


class Personal(_Recipe):
    """Personal safety: users, the encoder of their profiles, who decides their bans, the recipe."""

    users: PersonalConfig
    encoder: Engine = Field(
        default_factory=lambda: Engine(use="alignguard_train.personal:MultiHot")
    )
    ban_writer: Engine | None = None
    """Language model that decides bans; None: the published rules."""
