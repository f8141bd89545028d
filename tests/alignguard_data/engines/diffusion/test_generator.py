"""A row never depends on its neighbours, and what fails is named."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_data.engines.diffusion.seven_prompts import (
    PROMPTS,
    SAMPLING,
    SEEDS,
    assert_same_picture,
)


def test_another_vae_is_used_and_enters_the_revision(tmp_path, tiny_folder, generator):
    other = tiny_pipe().vae
    torch.nn.init.normal_(other.decoder.conv_out.weight)
    other.save_pretrained(tmp_path / "vae")
    changed = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", vae=str(tmp_path / "vae")
    )
    assert changed.revision.startswith(generator.revision + "+")
    assert not np.array_equal(changed.render(["a"], [1]), generator.render(["a"], [1]))


def test_a_checkpoint_of_another_kind_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "PixArtSigmaPipeline"}')
    (tmp_path / "x.safetensors").write_bytes(b"x")
    generator = DiffusersImageGenerator(model=str(tmp_path), sampling=SAMPLING)
    with pytest.raises(EngineError, match="is a PixArtSigmaPipeline; this renders"):
        generator.render(["a"], [0])


def test_a_row_is_bit_equal_whatever_its_neighbours(generator):
    """Five times in the same place of its batch, with other rows each time."""
    place, size = 2, SAMPLING.batch_size
    drawn = []
    for turn in range(5):
        rows = [(turn + i) % len(PROMPTS) for i in range(size)]
        rows[place] = 3
        images = generator.render([PROMPTS[i] for i in rows], [SEEDS[i] for i in rows])
        drawn.append(images[place])
    assert all(np.array_equal(drawn[0], other) for other in drawn[1:])


def test_a_row_is_the_same_picture_wherever_it_lies_in_its_batch(generator):
    together = generator.render(PROMPTS, SEEDS)
    alone = np.concatenate(
        [generator.render([p], [s]) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    )
    backwards = generator.render(PROMPTS[::-1], SEEDS[::-1])[::-1]
    assert_same_picture(together, alone)
    assert_same_picture(together, backwards)


def test_the_number_of_workers_changes_no_bit(tiny_folder, generator):
    one = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", threads=1
    )
    assert np.array_equal(one.render(PROMPTS, SEEDS), generator.render(PROMPTS, SEEDS))
    assert (one.images_per_call, generator.images_per_call) == (4, 8)


def test_two_prompts_of_one_seed_share_their_noise(generator):
    same = generator.render(["a", "a"], [5, 5])
    other = generator.render(["a", "a"], [5, 6])
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(other[0], other[1])


def test_another_guidance_and_size_hold_for_a_block_and_draw_what_they_draw_alone(
    tiny_folder, generator
):
    wild = dataclasses.replace(SAMPLING, guidance_scale=9.0, width=32)
    alone = DiffusersImageGenerator(model=str(tiny_folder), sampling=wild, device="cpu")
    before = generator.render(PROMPTS, SEEDS)
    with generator.sampled(wild):
        inside = generator.render(PROMPTS, SEEDS)
    assert np.array_equal(inside, alone.render(PROMPTS, SEEDS))
    assert inside.shape == (7, 16, 32, 3)
    assert np.array_equal(generator.render(PROMPTS, SEEDS), before)
    assert generator.sampling == SAMPLING


def test_progress_counts_every_image_once(generator):
    done: list[int] = []
    generator.render(PROMPTS, SEEDS, done.append)
    assert sorted(done) == [3, 4]


def test_the_callers_number_of_threads_is_put_back(generator):
    before = torch.get_num_threads()
    generator.render(PROMPTS, SEEDS)
    assert torch.get_num_threads() == before


def test_running_out_of_memory_halves_the_batch_for_good(generator, caplog):
    whole = generator.render(PROMPTS, SEEDS)
    pipe = generator._loaded()
    forward = pipe._pipe.unet.forward

    def small_only(rows, *args, **kwargs):
        if len(rows) > 4:  # guidance doubles the rows
            raise torch.OutOfMemoryError("injected")
        return forward(rows, *args, **kwargs)

    pipe._pipe.unet.forward = small_only
    again = generator.render(PROMPTS, SEEDS)
    assert generator.images_per_call == 4
    assert "batches of 2" in caplog.text
    assert np.abs(again.astype(int) - whole).max() <= 1

    pipe._pipe.unet.forward = lambda *a, **k: (_ for _ in ()).throw(torch.OutOfMemoryError("no"))
    with pytest.raises(EngineError, match="one image does not fit"):
        generator.render(PROMPTS, SEEDS)


def test_a_device_that_disappears_is_one_line_and_says_that_nothing_is_lost(generator):
    pipe = generator._loaded()

    def gone(*args, **kwargs):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nfor debugging ...")

    pipe._pipe.unet.forward = gone
    with pytest.raises(EngineError, match=r"cpu failed .*launch failure\); the images so far are"):
        generator.render(PROMPTS, SEEDS)


def test_latents_that_are_not_finite_give_a_black_image_only_in_their_row(generator):
    pipe = generator._loaded()
    latents = torch.randn(3, 4, 8, 8)
    latents[1, 0, 0, 0] = torch.nan
    shown = pipe._decode(latents)
    assert not shown[1].any()
    assert shown[0].any()
    assert shown[2].any()


def test_a_hub_id_without_a_revision_is_refused():
    with pytest.raises(EngineError, match="revision"):
        DiffusersImageGenerator(model="someone/some-model", sampling=SAMPLING)


def test_a_folder_that_is_no_pipeline_is_an_engine_error(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    generator = DiffusersImageGenerator(model=str(tmp_path), sampling=SAMPLING)
    with pytest.raises(EngineError, match="cannot be loaded"):
        generator.render(["a"], [0])


def test_identity_is_known_without_importing_torch(tiny_folder):
    code = (
        "import sys\n"
        "from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator\n"
        "from alignguard_data.images.room import Sampling\n"
        f"g = DiffusersImageGenerator(model={str(tiny_folder)!r}, sampling=Sampling())\n"
        "assert g.model_id == 'tiny' and len(g.revision) == 16\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
