"""A profile: which engines, models, sizes and thresholds one deployment uses.

One YAML file, `pipelines/profiles/<name>.yaml` or any path, with the one that it extends; validated
whole: every fault is reported at once with its place in the file and its value.
"""

import os
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    model_validator,
)

from alignguard_data.audit.rooms import AuditBounds
from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.images.config import EditedPairs
from alignguard_data.pairs.config import FilterRules
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.release.config import ReleaseConfig
from alignguard_data.scores.thresholds import threshold_of
from alignguard_train.contracts import adapter_names as names
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.guards.config import GuardsConfig
from alignguard_train.hardening.config import HardeningConfig
from alignguard_train.merge.config import MergeConfig
from alignguard_train.reemergence.config import ReemergenceConfig
from alignguard_train.robustness.config import RobustnessConfig
from pipelines.cost_faults import faults_of_costs
from pipelines.params import FaultyParams
from pipelines.profile_layers import profile_document, profile_path
from pipelines.profile_sections import (
    BaseModelChoice,
    CostModel,
    Engine,
    Personal,
    Section,
    Training,
)
from pipelines.rule_scores import faults_of_stated
from pipelines.runtime.ray_cluster import RayCluster

PROFILE_VARIABLE = "ALIGNGUARD_PROFILE"
DEFAULT_PROFILE = "standin"


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


RoomName = Literal[
    "taxonomy", "prompts", "images", "scores", "pairs", "index", "release", "guards", "experts",
    "merge", "hardening", "evaluation",
]  # fmt: skip
"""As in :mod:`pipelines.rooms`, which reads profiles."""


class Profile(Section):
    """All settings of a deployment; see `pipelines/profiles/standin.yaml`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    description: str
    taxonomy: str
    writer: Engine
    twin_writer: Engine | None = None
    """Writes the safe side of every pair instead of the writer; default: the writer writes both."""
    writing: WritingConfig
    concept_check: Engine | None = None
    """Judges whether the twins differ in the concept; default: by their words."""
    base_model: BaseModelChoice
    sampling: Sampling
    edited_pairs: EditedPairs | None = None
    """Makes each safe image by editing the unsafe one; None: both are drawn from the same noise."""
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
    cost_model: CostModel | None = None
    """What tells how unsafe an image looks, for `cost_margin`; None: not made."""
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
    def _costs_are_made(self) -> Self:
        if faults := list(faults_of_costs(self)):
            raise ValueError("; ".join(faults))
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
