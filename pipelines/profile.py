"""A profile: which engines, models, sizes and thresholds one deployment uses.

One YAML file, `pipelines/profiles/<name>.yaml` or any path, with the one that it extends; validated
whole: every fault is reported at once with its place in the file and its value.
"""

import importlib
import os
import re
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from alignguard_data.audit.rooms import AuditBounds
from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.reaching import url_fault
from alignguard_data.engines.speed import Speed
from alignguard_data.pairs.config import FilterRules
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.release.config import ReleaseConfig
from alignguard_data.scores.thresholds import threshold_of
from alignguard_train.contracts import adapter_names as names
from alignguard_train.contracts.flow import FlowTraining
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.guards.config import GuardsConfig
from alignguard_train.hardening.config import HardeningConfig
from alignguard_train.merge.config import MergeConfig
from alignguard_train.personal.config import PersonalConfig
from alignguard_train.reemergence.config import ReemergenceConfig
from alignguard_train.robustness.config import RobustnessConfig
from pipelines.moved_names import new_name
from pipelines.params import FaultyParams, changed, checked
from pipelines.profile_layers import profile_document, profile_path
from pipelines.profile_paths import resolve_model, spelt_as_path
from pipelines.rule_scores import faults_of_stated
from pipelines.runtime.devices import DEVICE
from pipelines.runtime.ray_cluster import RayCluster

PROFILE_VARIABLE = "ALIGNGUARD_PROFILE"
DEFAULT_PROFILE = "standin"


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


def _cron(line: str) -> str:
    import dagster as dg

    try:
        dg.ScheduleDefinition(job_name="any", cron_schedule=line)
    except dg.DagsterInvalidDefinitionError as error:
        raise ValueError("must be a cron line of five fields, such as `0 3 * * 1`") from error
    return line


def _timezone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ValueError("must be a time zone, such as `UTC` or `Europe/Berlin`") from error
    return name


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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Engine(_Strict):
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


class BaseModelChoice(_Strict):
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


RoomName = Literal[
    "taxonomy", "prompts", "images", "scores", "pairs", "index", "release", "guards", "experts",
    "merge", "hardening", "evaluation",
]  # fmt: skip
"""As in :mod:`pipelines.rooms`, which reads profiles."""


class _Recipe(_Strict):
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


class Personal(_Recipe):
    """Personal safety: users, the encoder of their profiles, who decides their bans, the recipe."""

    users: PersonalConfig
    encoder: Engine = Field(
        default_factory=lambda: Engine(use="alignguard_train.personal:MultiHot")
    )
    ban_writer: Engine | None = None
    """Language model that decides bans; None: the published rules."""


class Profile(_Strict):
    """All settings of a deployment; see `pipelines/profiles/standin.yaml`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    description: str
    taxonomy: str
    writer: Engine
    writing: WritingConfig
    concept_check: Engine | None = None
    """Judges whether the twins differ in the concept; default: by their words."""
    base_model: BaseModelChoice
    sampling: Sampling
    image_scorers: list[Engine] = Field(min_length=1)
    pair_scorers: list[Engine] = Field(default_factory=list)
    filter: FilterRules
    audit: AuditBounds
    release: ReleaseConfig
    embedder: Engine | None = None
    """Judges whether two prompts mean the same; needed for `release.max_semantic_cosine`."""
    release_max_age_days: float | None = Field(default=None, gt=0)
    """An older release is shown as not fresh; None: no limit."""
    guards: GuardsConfig = GuardsConfig()
    """What reads a prompt before the model draws; none is trained by default."""
    training: Training
    merge: MergeConfig
    evaluation: EvaluationConfig
    personal: Personal | None = None
    """One adapter that draws by each user's bans; None: not made."""
    evaluation_scorers: list[Engine] = Field(min_length=1)
    evaluation_features: Engine | None = None
    """Features for FID, KID and feature distances; None: not measured."""
    robustness: RobustnessConfig = RobustnessConfig()
    """What `alignguard attack` runs; its judge is the evaluation's."""
    robustness_scorers: list[Engine] = Field(default_factory=list)
    """More scorers for `robustness.coherent`."""
    reemergence: ReemergenceConfig = ReemergenceConfig()
    """What `alignguard reemergence` fine-tunes and measures; its judge is the evaluation's."""
    hardening: HardeningConfig = HardeningConfig()
    """What a round of `alignguard harden` attacks with, and how long the experts go on."""
    licences: dict[str, str] = Field(default_factory=dict)
    """Model to its licence, which the user accepts; shown by `alignguard doctor`."""
    concepts_per_run: int = Field(default=100, ge=1)
    expected_seconds: dict[RoomName, float] = Field(default_factory=dict)
    """Seconds per room on the profile author's machine; `alignguard run` estimates a first run from
    them."""
    ray: RayCluster | None = None
    """Ray cluster for the steps that load a model; None: they run here."""
    refresh: Annotated[str, AfterValidator(_cron)] | None = None
    """Cron line of the schedule that tops up concepts and cuts a release; off until enabled in the
    UI."""
    refresh_timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    """Time zone of the cron line, for example `Europe/Berlin`."""

    @model_validator(mode="after")
    def _meanings_have_a_judge(self) -> Self:
        if self.release.max_semantic_cosine is not None and self.embedder is None:
            raise ValueError("release.max_semantic_cosine needs an embedder")
        return self

    @model_validator(mode="after")
    def _targets_are_made(self) -> Self:
        made = {names.BASE, names.MERGED, *map(names.merge_name, self.merge.strategies[1:])}
        if self.training.all_single:
            made.add(names.ALL_SINGLE)
        kinds = (names.EXPERT, names.PEER, names.HARDENED)
        for target in map(names.behind_guard, self.robustness.targets):
            if target not in made and not target.startswith(kinds):
                raise ValueError(
                    f"robustness.targets: this profile makes no {target}: {', '.join(sorted(made))}"
                )
        for adapter in self.reemergence.adapters or ():
            if adapter not in made and not adapter.startswith(names.EXPERT):
                known = ", ".join(sorted(made - {names.BASE}))
                raise ValueError(f"reemergence.adapters: this profile makes no {adapter}: {known}")
        return self

    def recipe(self) -> ExpertRecipe:
        """The expert recipe with this profile's overrides."""
        return self.training.build_recipe()


def settled(name_or_path: str) -> str:
    """A name of the profile that is valid in every folder, for another process."""
    is_file = name_or_path.endswith((".yaml", ".yml"))
    return str(profile_path(name_or_path)) if is_file else name_or_path


RENAMED = {"personal.users.nobody": "personal.users.unconditional"}
"""Settings by their old names; a profile with one is refused with the new name."""


def load_profile(name_or_path: str | None = None) -> Profile:
    """The profile by name or path, else the one that ``ALIGNGUARD_PROFILE`` names.

    Raises:
        ConfigError: the file is missing, is not YAML, or has faults (all of them listed).
    """
    wanted = name_or_path or os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE
    path = profile_path(wanted)
    content = profile_document(wanted)
    if faults := _take_calibrations(content):
        raise ConfigError(str(path), faults)
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        faults = [fault for one in error.errors() for fault in _faults(one)]
        raise ConfigError(str(path), faults) from error
    if faults := faults_of_stated(profile):
        raise ConfigError(str(path), faults)
    return profile


def _take_calibrations(content: dict[str, Any]) -> list[str]:
    """Replace flag rules' ``calibrated: FILE`` by thresholds; return the faults."""
    faults = []
    for section in ("filter", "evaluation"):
        chosen = content.get(section)
        rules = chosen.get("flags") if isinstance(chosen, dict) else None
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            if not isinstance(rule, dict) or "calibrated" not in rule:
                continue
            place = f"{section}.flags.{number}.calibrated"
            file = Path(str(rule.pop("calibrated")))
            if "at_least" in rule:
                faults.append(f"{place}: give either this or at_least")
                continue
            try:
                known = threshold_of(file, str(rule.get("scorer")), str(rule.get("key")))
                rule |= {"at_least": known.at_least, "version": known.version}
            except ValueError as error:
                faults.append(f"{place}: {error}")
    return faults


def _faults(error: Any) -> Iterator[str]:
    place = ".".join(str(part) for part in error["loc"])
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, FaultyParams):
        section = place if place in ("training", "personal") else f"{place}.params"
        for name, what, value in cause.faults:
            yield f"{section}.{name}".rstrip(".") + f": {what} (got {_shown(value)})"
    elif place in RENAMED:
        yield f"{place}: is called {RENAMED[place]} now (got {_shown(error.get('input'))})"
    else:
        yield f"{place}: {error['msg']} (got {_shown(error.get('input'))})"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."  # the end identifies a path
