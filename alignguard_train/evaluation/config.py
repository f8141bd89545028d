"""The profile's section `evaluation`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from alignguard_data.contracts.flags import FlagRule, ScoreRead
from alignguard_train.contracts.peer_methods import PEERS
from alignguard_train.evaluation.prompt_files import Format
from alignguard_train.guards.config import GUARDS

Kind = Literal["unsafe", "benign"]


RELEASE_SET = "release"
"""Name of the set of the release's own evaluation prompts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSetConfig:
    """One prompt file to measure.

    Attributes:
        name: its name in results; ``[a-z0-9-]``.
        path: the file. A profile's paths are relative to the profile's folder.
        format: ``i2p``, ``unsafe_diffusion``, ``coprov2``, ``csv``, ``parquet`` or ``text``; by
            default the file's suffix decides.
        kind: ``unsafe``: images should not show what the prompt asks for; ``benign``: they should.
        limit: maximum number of prompts, those with the smallest ids.
        own_sampling: use the file's guidance and size; its seeds are always used.
        max_guidance: larger guidance in a file is lowered to this, and counted. I2P has user values
            up to 255, which produce no usable image.
    """

    name: str
    path: str
    format: Format | None = None
    kind: Kind = "unsafe"
    limit: int | None = None
    own_sampling: bool = True
    max_guidance: float = 30.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise ValueError(f"name must be of a-z, 0-9 and -, got {self.name!r}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be 1 or more, got {self.limit}")
        if not 1 <= self.max_guidance < 100:
            raise ValueError(f"max_guidance must lie in [1, 100), got {self.max_guidance}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreKey:
    """One score.

    Attributes:
        scorer: the scorer's name.
        key: the score's name among those of the scorer.
    """

    scorer: str
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """The metrics to compute, and the number of prompts.

    Attributes:
        flags: rules; an image is inappropriate if any fires.
        prompts_per_concept: maximum prompt pairs per concept, in the order of their ids.
        residue: rule that detects traces of a concept that the flags miss.
        fidelity: score in [0, 1]: does the image show what its prompt asks for?
        bootstrap_resamples: bootstrap resamples per interval.
        confidence: level of the intervals.
        clip_score: score of the match between image and prompt, of any range.
        prompt_sets: prompt files to measure in addition to the release's prompts.
        peers: other published methods to measure with the adapters, on the release's prompts and
            the sets'; names of :mod:`alignguard_train.peers.registry`.
        peer_params: the peers' parameters by name; defaults for the rest.
        seeds: images of each unsafe prompt, of every adapter but single experts and baseline
            merges. More than 1 adds SSR-N, the share of prompts with at least one flagged image; IP
            counts the first seed only.
        guards: trained guards to measure in front of the base model and of the merged adapter;
            names of :mod:`alignguard_train.guards.config`.
    """

    flags: tuple[FlagRule, ...]
    prompts_per_concept: int = 50
    residue: FlagRule | None = None
    fidelity: ScoreKey | None = None
    bootstrap_resamples: int = 2000
    confidence: float = 0.95
    clip_score: ScoreKey | None = None
    prompt_sets: tuple[PromptSetConfig, ...] = ()
    peers: tuple[str, ...] = ()
    peer_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    guards: tuple[str, ...] = ()
    seeds: int = 1

    def __post_init__(self) -> None:
        if not self.flags:
            raise ValueError("flags must hold at least one rule")
        if self.prompts_per_concept < 1:
            raise ValueError(
                f"prompts_per_concept must be 1 or more, got {self.prompts_per_concept}"
            )
        if self.seeds < 1:
            raise ValueError(f"seeds must be 1 or more, got {self.seeds}")
        if self.bootstrap_resamples < 100:
            raise ValueError(f"bootstrap_resamples must be 100+, got {self.bootstrap_resamples}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must lie in [0.5, 1), got {self.confidence}")
        names = [RELEASE_SET, *(chosen.name for chosen in self.prompt_sets)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"prompt_sets: names must differ, got {', '.join(twice)} again")
        _check_names("peers", self.peers, tuple(PEERS))
        _check_names("guards", self.guards, GUARDS)
        if strange := sorted(set(self.peer_params) - set(self.peers)):
            raise ValueError(f"peer_params: {', '.join(strange)} is not among peers")

    def scores_read(self) -> list[ScoreRead]:
        """The scores of images that rules and measures read."""
        read = [(f"flags.{number}", rule) for number, rule in enumerate(self.flags)]
        measures = ("residue", "fidelity", "clip_score")
        read += [(name, one) for name in measures if (one := getattr(self, name)) is not None]
        return [ScoreRead(f"evaluation.{field}", one.scorer, one.key) for field, one in read]


def _check_names(field: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for number, name in enumerate(given):
        if name not in known:
            raise ValueError(f"{field}: no {name!r}; there are {', '.join(known)}")
        if name in given[:number]:
            raise ValueError(f"{field}: {name} is named twice")
