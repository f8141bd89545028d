"""`alignguard doctor`: what this machine can run, with a fix for what is missing."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import psutil
from rich.text import Text

from alignguard_data.contracts.errors import AlignGuardError
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, scratch
from pipelines.cli.check import Check
from pipelines.cli.console import Output, table
from pipelines.cli.needs import profile_needs
from pipelines.profile import load_profile
from pipelines.profile_layers import profile_path, shipped_profiles
from pipelines.profile_paths import resolve_model
from pipelines.resources import Engines, data_root

NEEDED_FREE_BYTES = 2 * 2**30
NEEDED_MEMORY_BYTES = 4 * 2**30
_COLOURS = {"ok": "green", "warning": "yellow", "missing": "red"}
_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "dagster", "duckdb", "nudenet")


def examine() -> Iterator[Check]:
    """Check this machine, each shipped profile, and the chosen profile's needs.

    Python, libraries, the device, memory, disk, and what the profile needs before its first run.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Check(
        what="Python",
        state="ok" if good else "missing",
        found=version,
        fix="" if good else "install Python 3.11: make clean-env run PYTHON=python3.11",
    )
    yield from _libraries()
    yield _device()
    memory = psutil.virtual_memory().available
    yield _enough("memory free", memory, NEEDED_MEMORY_BYTES, "close other programs")
    root = data_root()
    here = scratch(root)
    existing = next(p for p in (here, *here.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    yield _enough("disk free", free, NEEDED_FREE_BYTES, "export ALIGNGUARD_ROOT=/a/larger/disk")
    yield _writable(root)
    for name in shipped_profiles():
        yield _profile(name)
    profile = load_profile()
    engines = Engines(profile, data_root())
    yield _fits(engines)
    yield _scores(engines)
    yield from _twins(engines)
    yield from profile_needs(profile, engines.taxonomy)


def _libraries() -> Iterator[Check]:
    for name in _LIBRARIES:
        if importlib.util.find_spec(name) is None:
            fix = "pip install -c constraints.txt -e ."
            yield Check(what=name, state="missing", found="not installed", fix=fix)
        else:
            yield Check(what=name, state="ok", found=metadata.version(name))
    for name in ("torchvision", "torch-fidelity"):
        if importlib.util.find_spec(name.replace("-", "_")) is not None:
            fix = f"pip uninstall {name}  (AlignGuard does not need it)"
            yield Check(what=name, state="warning", found=metadata.version(name), fix=fix)


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        found = f"{torch.cuda.get_device_name(0)}, {torch.cuda.device_count()} GPU(s)"
        return Check(what="device", state="ok", found=found)
    fix = "real base models need a GPU: pip install torch==2.13.0 (a CUDA build) on such a machine"
    cores = os.cpu_count() or 1
    return Check(what="device", state="ok", found=f"CPU, {cores} cores: stand-in only", fix=fix)


def _enough(what: str, have: int, need: int, fix: str) -> Check:
    state = "ok" if have >= need else "warning"
    found = f"{have / 2**30:.1f} GiB (wanted: {need / 2**30:.0f})"
    return Check(what=what, state=state, found=found, fix="" if state == "ok" else fix)


def _writable(root: Place) -> Check:
    try:
        DataRoot(root=root, profile=load_profile().name).prepare()
    except AlignGuardError as error:
        fix = "export ALIGNGUARD_ROOT=$HOME/alignguard-data"
        return Check(what="data root", state="missing", found=str(error), fix=fix)
    return Check(what="data root", state="ok", found=str(root))


def _profile(name: str) -> Check:
    what = f"profile {name}"
    try:
        profile = load_profile(name)
        concepts = len(Engines(profile, data_root()).taxonomy.concepts)
    except AlignGuardError as error:
        fix = f"edit {profile_path(name)}"
        return Check(what=what, state="missing", found=str(error), fix=fix)
    model = resolve_model(profile.base_model.model)
    found = f"valid: {concepts} concepts, base model {Path(model).name}"
    return Check(what=what, state="ok", found=found, fix=f"needs: alignguard doctor -p {name}")


def _fits(engines: Engines) -> Check:
    """Whether every setting of the profile fits its base model."""
    try:
        engines.check_base_model()
    except AlignGuardError as error:
        fix = f"edit profile {engines.profile.name}"
        return Check(what="settings for the model", state="missing", found=str(error), fix=fix)
    found = "every setting fits the base model, as far as its files are here or its shapes known"
    return Check(what="settings for the model", state="ok", found=found)


def _scores(engines: Engines) -> Check:
    """Whether a scorer provides every score that the profile's rules read."""
    try:
        engines.check_scores()
    except AlignGuardError as error:
        fix = f"edit the rules or the scorers of profile {engines.profile.name}"
        return Check(what="scores of rules", state="missing", found=str(error), fix=fix)
    return Check(what="scores of rules", state="ok", found="every rule reads a score that there is")


def _twins(engines: Engines) -> Iterator[Check]:
    """Whether the writer of safe twins can be built, if the profile has one of its own."""
    if engines.profile.twin_writer is None:
        return
    try:
        found = engines.writer.model_id
    except AlignGuardError as error:
        fix = f"edit twin_writer of profile {engines.profile.name}"
        yield Check(what="twin writer", state="missing", found=str(error), fix=fix)
        return
    yield Check(what="twin writer", state="ok", found=found)


def doctor_command(console: Output, *, as_json: bool) -> int:
    """Print every check; returns 1 if something is missing."""
    checks = list(examine())
    if as_json:
        console.json([asdict(check) for check in checks])
    else:
        shown = table("what", "state", "found", "fix")
        for check in checks:
            state = Text(check.state, _COLOURS[check.state])
            shown.add_row(check.what, state, check.found, check.fix)
        console.print(shown)
    return 1 if any(check.state == "missing" for check in checks) else 0
