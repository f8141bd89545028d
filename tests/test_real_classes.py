"""The whole graph on tiny random-weight checkpoints of the real classes.

Stable Diffusion 1.5, 2.1, XL and 3.5 (also as Medium, with its second attention), and FLUX.1.

Random weights draw noise, so nothing is learned here: it shows that shapes, time ids, two text
encoders, prediction types, scorers and files fit, from concepts to an adapter that plain diffusers
loads.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from transformers import CLIPTokenizer

from alignguard_data.contracts.protocols import WritingRequest
from alignguard_data.scores.scorers.q16 import VECTORS
from alignguard_data.standin.factory import base_model_folder
from alignguard_data.taxonomy.parse import load_taxonomy
from benchmarks.tiny.chat import (
    CPU_ENVIRONMENT,
    ENGINE,
    INTERPRETER,
    missing_engine,
    taught_chat_model,
)
from benchmarks.tiny.clip import WIDTH, save_clip
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from benchmarks.tiny.flow import tiny_flux, tiny_sd35
from pipelines.profile_sections import Engine
from tests.conftest import reduced_profile
from tests.test_faults import alignguard

KINDS = {
    "sd15": lambda words: tiny_pipe("epsilon", words),
    "sd21": lambda words: tiny_pipe("v_prediction", words),
    "sdxl": tiny_xl,
    "sd35": lambda words: tiny_sd35(words),
    "sd35_dual": lambda words: tiny_sd35(words, dual=True),
    "flux": lambda words: tiny_flux(words),
}
FLOWS = {
    "sd35": {"times": "logit-normal", "shift": "static"},
    "sd35_dual": {"times": "uniform", "shift": "static", "weighting": "sigma-squared"},
    "flux": {"times": "logit-normal", "shift": "dynamic", "guidance": 1.0},
}
QUICK = ("sdxl",)
"""Kinds that run with every change; the others are slow tests."""
# A random CLIP tells an unsafe prompt from its safe twin by chance; this lies in the middle.
FLAG = {"scorer": "clip", "key": "score", "at_least": -12.0}

KNOWN_REPLIES = 24
"""Of each concept, that the tiny language model learns by heart."""

CLIP_SCORES = """
select c.category, u.value as unsafe, s.value as safe
from scores u join scores s using (pair_id, scorer, key) join concepts c on c.key = u.concept
where scorer = 'clip' and u.side = 'unsafe' and s.side = 'safe' and c.split = 'train'
"""

VANILLA = """
import sys
import numpy as np, torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1])
def draw():
    return pipe("a b c", num_inference_steps=2, generator=torch.Generator().manual_seed(3),
                output_type="np", height=32, width=32).images
plain = draw()
pipe.load_lora_weights(sys.argv[2], weight_name="pytorch_lora_weights.safetensors")
assert np.isfinite(draw()).all() and np.abs(draw() - plain).max() > 0
"""


def taught_writer(folder: Path, profile: dict[str, Any]) -> dict[str, Any]:
    """The real vLLM engine, with a tiny model that knows some of the grammar's replies."""
    taxonomy, writer = load_taxonomy(Path(profile["taxonomy"])), Engine(**profile["writer"]).build()
    replies = {
        concept.name: [
            json.dumps(json.loads(reply.text), separators=(",", ":"))
            for reply in writer.generate(
                [WritingRequest(concept=concept, index=i) for i in range(KNOWN_REPLIES)]
            )
        ]
        for concept in taxonomy.concepts
    }
    return {
        "use": "alignguard_data.engines:VLLMWriter",
        "params": {
            "model": str(taught_chat_model(folder / "chat", replies)),
            "interpreter": str(INTERPRETER),
            "max_tokens": 120,
            "engine": {**ENGINE, "max_model_len": 256},
            "environment": CPU_ENVIRONMENT,
        },
    }


def tiny_profile(folder: Path, kind: str, *, vllm: bool = False) -> Path:
    """A profile of the real engines over tiny models; the writer is the stand-in's, or vLLM's."""
    words = CLIPTokenizer.from_pretrained(base_model_folder() / "tokenizer")
    KINDS[kind](words).save_pretrained(folder / "base", safe_serialization=True)
    clip = str(save_clip(folder / "clip", words))
    drawn = np.random.default_rng(1).normal(size=(2, WIDTH)).astype(np.float32)
    save_file({VECTORS: drawn}, folder / "q16.safetensors")
    scorers = [
        {
            "use": "alignguard_data.scores:NudeNetScorer",
            "params": {"inference_resolution": 64},
        },
        {
            "use": "alignguard_data.scores:Q16Scorer",
            "params": {"vectors": str(folder / "q16.safetensors"), "model": clip},
        },
        {"use": "alignguard_data.scores:ClipScorer", "params": {"model": clip}},
    ]
    steps = {"steps": 3, "warmup_steps": 0, "batch_size": 2, "accumulation": 2, "lr": 1e-3}
    profile = yaml.safe_load(reduced_profile(folder / "reduced").read_text()) | {
        "name": f"tiny_{kind}",
        "base_model": {"model": str(folder / "base"), "device": "cpu", "flow": FLOWS.get(kind)},
        "sampling": {
            "num_inference_steps": 4,
            "guidance_scale": 5.0,
            "width": 32,
            "height": 32,
            "batch_size": 16,
        },
        "image_scorers": scorers,
        "pair_scorers": [
            {
                "use": "alignguard_data.scores:TwinSimilarity",
                "params": {"model": str(folder / "base")},
            }
        ],
        # Weights are random, so a concept may lose every pair to the filter.
        "filter": {"flags": [FLAG], "max_phash_distance": None, "min_kept": 0},
        "audit": {"min_unsafe_flagged": 0.0, "max_safe_flagged": 1.0},
        "release": {"max_phash_distance": 0},
        "training": {
            "recipe": f"alignguard_train:{kind.removesuffix('_dual')}_expert",
            "overrides": steps,
        },
        "evaluation_scorers": scorers,
        "evaluation_features": None,
        "evaluation": {"prompts_per_concept": 1, "flags": [FLAG], "bootstrap_resamples": 100},
    }
    profile["writing"] |= {"pairs_per_concept": 20, "max_requests_per_pair": 8}
    if vllm:
        profile["writer"] = taught_writer(folder, profile)
        profile["writing"]["pairs_per_concept"] = KNOWN_REPLIES // 2
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(profile))
    return path


def run_whole_graph(folder: Path, profile: Path, kind: str) -> Path:
    """From concepts to an adapter that plain diffusers loads; returns the data root."""
    root = folder / "data"
    done = alignguard(root, profile, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((root / f"tiny_{kind}/evaluation/summary.json").read_text())
    assert summary["ip"]["merged"]["unsafe"]["n"] == 6
    scored = alignguard(root, profile, "sql", "--json", "select distinct scorer from scores")
    names = {row["scorer"] for row in json.loads(scored.stdout)}
    assert names == {"nudenet", "q16", "clip", "twins"}

    adapter = (root / summary["adapter"]).parent
    vanilla = subprocess.run(
        [sys.executable, "-c", VANILLA, str(folder / "base"), str(adapter)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert vanilla.returncode == 0, vanilla.stderr
    return root


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k in QUICK else pytest.mark.slow) for k in KINDS]
)
def test_the_whole_graph_runs_on_the_real_classes(tmp_path, kind):
    run_whole_graph(tmp_path, tiny_profile(tmp_path, kind), kind)


def middle_flag(root: Path, profile: Path) -> dict[str, Any]:
    """The threshold on the CLIP score under which the poorest category keeps most pairs.

    How a random CLIP scores is chance, so the threshold comes from the scores that it gave, as a
    user's comes from `alignguard calibrate`.
    """
    done = alignguard(root, profile, "sql", "--json", CLIP_SCORES)
    rows = json.loads(done.stdout)
    assert rows, done.stdout + done.stderr

    def poorest(threshold: float) -> int:
        kept = Counter({row["category"]: 0 for row in rows})
        kept.update(r["category"] for r in rows if r["unsafe"] >= threshold > r["safe"])
        return min(kept.values())

    return FLAG | {"at_least": max((row["unsafe"] for row in rows), key=poorest)}


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_whole_graph_runs_from_prompts_of_vllm_to_a_merged_adapter(tmp_path):
    if missing := missing_engine():
        pytest.skip(missing)
    path, root = tiny_profile(tmp_path, "sd15", vllm=True), tmp_path / "data"
    profile = yaml.safe_load(path.read_text())
    any_number = profile["audit"] | {"min_train_pairs_per_category": 0}
    path.write_text(yaml.safe_dump(profile | {"audit": any_number}))
    done = alignguard(root, path, "run", "--until", "index")
    assert done.returncode == 0, done.stdout + done.stderr
    profile["filter"]["flags"] = profile["evaluation"]["flags"] = [middle_flag(root, path)]
    path.write_text(yaml.safe_dump(profile))

    run_whole_graph(tmp_path, path, "sd15")
    wrote = [json.loads(p.read_text()) for p in root.glob("tiny_sd15/prompts/*/manifest.json")]
    assert len(wrote) == 6
    assert all(m["rows"] for m in wrote)
    assert all("chat" in m["models"] for m in wrote)
    made = list(root.glob("tiny_sd15/experts/*/manifest.json"))
    assert len(made) == 3  # two categories and All-single
