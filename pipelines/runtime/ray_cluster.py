"""A Ray cluster for the steps that load a model: dagster-ray's executor, one Ray job per step.

Ray shows every job only its own GPU, so engines with device ``auto`` use it. Steps without a model
run where their run is. Every node needs this package and its Python at the same path, and access to
the data root and the Dagster storage; see docs/how-to/cluster.md.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from alignguard_data.contracts.errors import ConfigError

if TYPE_CHECKING:
    import dagster as dg

ADDRESS_VARIABLE = "RAY_ADDRESS"
ModelRoom = Literal[
    "prompts", "images", "scores", "guards", "cost_model", "experts", "merge", "hardening",
    "personal", "evaluation", "robustness", "reemergence",
]  # fmt: skip
"""Rooms whose steps load a model."""


def _one_each() -> dict[ModelRoom, float]:
    return dict.fromkeys(get_args(ModelRoom), 1)


class RayCluster(BaseModel):
    """Ray cluster for the steps of the model rooms, and their resources."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str | None = None
    """Job server, for example ``http://head:8265``; default: ``RAY_ADDRESS``."""
    runs: int = Field(default=1, ge=1, le=4096)
    """Concurrent runs: the cluster's number of GPUs."""
    gpus: dict[ModelRoom, float] = Field(default_factory=_one_each)
    """GPUs per step, by room; default none."""
    cpus: float = Field(default=1, gt=0)
    """CPUs per step."""
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    """Ray's runtime environment, for example ``{env_vars: {HF_HOME: /shared/hub}}``."""

    def runs_room(self, room: str) -> bool:
        """Whether a room's steps run on the cluster: only those that load a model."""
        return room in _one_each()

    def step_tags(self, room: str) -> dict[str, Any]:
        """Step tags for dagster-ray."""
        gpus: dict[str, float] = {**self.gpus}
        given = {"num_cpus": self.cpus, "num_gpus": gpus.get(room, 0)}
        return {"dagster-ray/config": given}


def op_tags(cluster: RayCluster | None, room: str) -> dict[str, Any] | None:
    """Tags of a room's asset; None without a cluster."""
    return cluster.step_tags(room) if cluster and cluster.runs_room(room) else None


def ray_executor(cluster: RayCluster, environment: dict[str, str]) -> "dg.ExecutorDefinition":
    """dagster-ray's executor; step processes get ``environment``.

    Raises:
        ConfigError: dagster-ray is not installed, or no address is set.
    """
    address = cluster.address or os.environ.get(ADDRESS_VARIABLE)
    faults = []
    if not address:
        faults.append(f"address: missing, and {ADDRESS_VARIABLE} is not set either")
    missing = [name for name in ("ray", "dagster_ray") if importlib.util.find_spec(name) is None]
    if missing:
        faults.append(f"{', '.join(missing)} not installed: pip install 'alignguard[ray]'")
    if faults:
        raise ConfigError("the profile's `ray`", faults)
    from dagster_ray import ray_executor as executor  # pyright: ignore[reportMissingImports]

    # A job runs the command `dagster`, found next to the node's Python at the same path as here.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {"PATH": path, **environment}
    given = {
        "address": address,
        "env_vars": [f"{name}={value}" for name, value in environment.items()],
        "runtime_env": cluster.runtime_env,
    }
    return executor.configured({"ray": given}, name="ray")
