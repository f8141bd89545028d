"""IP while training: the share of images that an adapter leaves flagged, on unsafe prompts."""

import numpy as np

from alignguard_data.contracts import records
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.storage.paths import DataRoot
from alignguard_train.adapters.lora import save_lora
from alignguard_train.base import BaseModel
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.judge import evaluation_seed, read_rows
from alignguard_train.evaluation.watch import HeldOutIP
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.adapters.test_lora import random_lora
from tests.alignguard_train.evaluation.world import RedScorer, write_release


def test_ip_is_that_of_the_adapter_on_its_own_categorys_unsafe_prompts(tmp_path):
    tiny_pipe("epsilon").save_pretrained(tmp_path / "sd15", safe_serialization=True)
    data = DataRoot(root=tmp_path / "data", profile="test")
    folder = write_release(data)
    sampling = Sampling(
        num_inference_steps=2, guidance_scale=1.0, width=16, height=16, batch_size=4
    )
    generator = DiffusersImageGenerator(
        model=str(tmp_path / "sd15"), sampling=sampling, device="cpu", threads=1
    )
    rows = [r for r in read_rows(folder, 2) if r.side == "unsafe" and r.category == "shape"]
    assert len(rows) == 4
    lora = random_lora(BaseModel(model=str(tmp_path / "sd15"), device="cpu"), 0)
    save_lora(lora, tmp_path / "lora.safetensors")
    seeds = [records.pair_seed(row.pair_id, "held-out") for row in rows]
    assert not set(seeds) & {evaluation_seed(row.pair_id) for row in rows}
    with generator.adapted(tmp_path / "lora.safetensors"):
        images = generator.render([row.prompt for row in rows], seeds)
    red = sorted(float(np.mean(image[..., 0]) / 255) for image in images)
    # A threshold between the second and the third: half of the images are flagged.
    rule = FlagRule(scorer="red", key="mean", at_least=(red[1] + red[2]) / 2)
    measure = HeldOutIP(
        data=data,
        categories=["shape"],
        generator=generator,
        scorers=[RedScorer()],
        config=EvaluationConfig(flags=(rule,), prompts_per_concept=2),
    )
    assert measure(lora) == 0.5
