"""The batched loop gives diffusers' own images, and a row never depends on its neighbours."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load_file

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.pickled import convert_weights
from alignguard_data.engines.speed import Speed
from benchmarks.tiny.diffusion import tiny_lcm, tiny_pipe, tiny_xl

SAMPLING = Sampling(num_inference_steps=4, guidance_scale=3.0, width=16, height=16, batch_size=4)
PROMPTS = [f"a field {n}" for n in "abcdefg"]
SEEDS = [2**62 + n for n in range(7)]


@pytest.fixture
def generator(tiny_folder):
    return DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", threads=2
    )


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_images_equal_those_of_the_diffusers_pipeline(tmp_path, prediction_type, guidance_scale):
    pipe = tiny_pipe(prediction_type)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")
    sampling = Sampling(
        num_inference_steps=4, guidance_scale=guidance_scale, width=16, height=16, batch_size=4
    )
    ours = DiffusersImageGenerator(
        model=str(tmp_path / "model"), sampling=sampling, device="cpu"
    ).render(PROMPTS, SEEDS)

    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    theirs = pipe(
        PROMPTS,
        latents=torch.cat(noise),
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        width=16,
        height=16,
        output_type="np",
    ).images

    assert ours.std() > 5, "the images must vary for the comparison to mean anything"
    assert np.abs(ours - (theirs * 255)).max() <= 1.01


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_chosen_solver_draws_what_diffusers_draws_with_it(tmp_path, prediction_type):
    pipe = tiny_pipe(prediction_type)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")
    sampling = dataclasses.replace(SAMPLING, solver="dpm++2m")
    with_own = DiffusersImageGenerator(
        model=str(tmp_path / "model"), sampling=SAMPLING, device="cpu"
    )
    own = with_own.render(PROMPTS, SEEDS)
    with with_own.sampled(sampling):
        ours = with_own.render(PROMPTS, SEEDS)

    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    theirs = pipe(
        PROMPTS, latents=torch.cat(noise), num_inference_steps=4, guidance_scale=3.0,
        width=16, height=16, output_type="np",
    ).images  # fmt: skip

    assert np.abs(ours - (theirs * 255)).max() <= 1.01
    assert np.abs(ours.astype(int) - own).max() > 2, "else the choice changes nothing"
    assert np.array_equal(with_own.render(PROMPTS, SEEDS), own), "the checkpoint's own is back"


def test_a_solver_for_a_distilled_model_is_refused_by_name(tmp_path):
    tiny_lcm().save_pretrained(tmp_path / "model")
    sampling = dataclasses.replace(SAMPLING, solver="dpm++2m")
    generator = DiffusersImageGenerator(model=str(tmp_path / "model"), sampling=sampling)
    with pytest.raises(EngineError, match=r"sampling\.solver: dpm\+\+2m .* LCMScheduler"):
        generator.render(PROMPTS, SEEDS)


def assert_same_picture(one, other):
    """Same but for rounding: no value more than one of 255 off, and fewer than one in a hundred."""
    difference = np.abs(one.astype(int) - other)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


KINDS = {"xl": tiny_xl, "lcm": tiny_lcm}


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_xl_and_distilled_models_draw_what_their_own_pipes_draw(tmp_path, kind, guidance_scale):
    pipe = KINDS[kind]()
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")
    sampling = Sampling(
        num_inference_steps=3, guidance_scale=guidance_scale, width=16, height=16, batch_size=4
    )
    generator = DiffusersImageGenerator(
        model=str(tmp_path / "model"), sampling=sampling, device="cpu", threads=2
    )
    ours = generator.render(PROMPTS, SEEDS)
    alone = np.concatenate(
        [generator.render([p], [s]) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    )
    assert_same_picture(ours, alone)

    def start(seed: int) -> torch.Generator:
        # The first draw is the noise; a scheduler that adds noise of its own goes on from there.
        generator = torch.Generator().manual_seed(seed)
        torch.randn(1, 4, 8, 8, generator=generator)
        return generator

    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    theirs = pipe(
        PROMPTS,
        latents=torch.cat(noise),
        generator=[start(seed) for seed in SEEDS],
        num_inference_steps=3,
        guidance_scale=guidance_scale,
        width=16,
        height=16,
        output_type="np",
    ).images
    assert ours.std() > 5, "the images must vary for the comparison to mean anything"
    assert np.abs(ours - theirs * 255).max() <= 1.01


def test_a_negative_prompt_of_xl_is_heard(tmp_path):
    tiny_xl().save_pretrained(tmp_path / "model")
    shown = []
    for words in ("", "zz"):
        sampling = Sampling(
            num_inference_steps=2, guidance_scale=7.0, width=16, height=16, negative_prompt=words
        )
        generator = DiffusersImageGenerator(model=str(tmp_path / "model"), sampling=sampling)
        shown.append(generator.render(PROMPTS[:1], SEEDS[:1]))
    assert not np.array_equal(*shown)


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
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (tmp_path / "x.safetensors").write_bytes(b"x")
    generator = DiffusersImageGenerator(model=str(tmp_path), sampling=SAMPLING)
    with pytest.raises(EngineError, match="is a FluxPipeline; this renders"):
        generator.render(["a"], [0])


def test_pickled_weights_alone_are_refused(tmp_path, tiny_folder):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    generator = DiffusersImageGenerator(model=str(folder), sampling=SAMPLING)
    with pytest.raises(EngineError, match="alignguard convert-weights") as caught:
        generator.render(["a"], [0])
    assert "unet/diffusion_pytorch_model.bin" in str(caught.value)

    assert convert_weights(folder) == [weights]
    assert np.array_equal(
        generator.render(PROMPTS, SEEDS),
        DiffusersImageGenerator(model=str(tiny_folder), sampling=SAMPLING).render(PROMPTS, SEEDS),
    )


def test_a_pickle_that_would_run_code_is_not_converted(tmp_path):
    ran = tmp_path / "ran"

    class Runs:
        def __reduce__(self):
            return Path.touch, (ran,)

    torch.save({"weight": torch.ones(2)}, tmp_path / "good.bin")
    torch.save({"weight": Runs()}, tmp_path / "bad.bin")
    with pytest.raises(
        EngineError, match=r"(?s)nothing was converted.*bad\.bin: it contains something"
    ) as caught:
        convert_weights(tmp_path)
    assert "good.bin" not in str(caught.value)
    assert not ran.exists()
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    "speed", [Speed(attention="math"), Speed(channels_last=False, vae_slicing=True)]
)
def test_ways_of_going_faster_draw_the_same(tiny_folder, generator, speed):
    other = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=speed
    )
    difference = generator.render(PROMPTS, SEEDS).astype(int) - other.render(PROMPTS, SEEDS)
    assert np.abs(difference).max() <= 1


def test_eight_bit_weights_draw_nearly_the_same_take_half_and_carry_adapters(
    tiny_folder, tiny_lora, generator
):
    small = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=Speed(quantization="float8")
    )
    assert small.revision == generator.revision + "+float8"
    before = small.render(PROMPTS, SEEDS)
    # e4m3 keeps three bits behind the point: near the image, not the image.
    difference = np.abs(generator.render(PROMPTS, SEEDS).astype(int) - before)
    assert 0 < difference.mean() < 8
    weights = dict(small._loaded()._pipe.unet.named_parameters())
    kinds = {name: str(weight.dtype) for name, weight in weights.items()}
    held = {name for name, kind in kinds.items() if kind == "torch.float8_e4m3fn"}
    assert held
    assert not any("norm" in name or ".to_q" in name for name in held)
    assert "mid_block.resnets.0.conv1.weight" in held

    with small.adapted(tiny_lora), generator.adapted(tiny_lora):
        adapted = np.abs(generator.render(PROMPTS, SEEDS).astype(int) - before).mean()
        assert np.abs(small.render(PROMPTS, SEEDS).astype(int) - before).mean() > adapted / 2
    assert np.array_equal(small.render(PROMPTS, SEEDS), before)


def test_eight_bit_weights_and_compilation_exclude_each_other():
    with pytest.raises(ValueError, match="quantization float8 cannot be combined with compile"):
        Speed(compile=True, quantization="float8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++)")
def test_a_compiled_unet_draws_the_same_and_is_compiled_once(tiny_folder, generator):
    compiled = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=Speed(compile=True)
    )
    # The last batch is short: were it not filled up, it would be compiled anew.
    with torch._dynamo.config.patch(error_on_recompile=True):
        first = compiled.render(PROMPTS, SEEDS)
        again = compiled.render(PROMPTS[:1], SEEDS[:1])
    assert np.abs(first.astype(int) - generator.render(PROMPTS, SEEDS)).max() <= 1
    assert np.array_equal(first[:1], again)


def test_a_row_is_bit_equal_whatever_its_neighbours(generator):
    """Five times in the same place of its batch, beside other rows each time."""
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


def test_an_adapter_renders_as_load_lora_weights_does_and_leaves_no_trace(
    tiny_folder, tiny_lora, generator
):
    base = generator.render(PROMPTS, SEEDS)
    with generator.adapted(tiny_lora):
        adapted = generator.render(PROMPTS, SEEDS)
    after = generator.render(PROMPTS, SEEDS)

    pipe = tiny_pipe()
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(tiny_lora.parent, weight_name=tiny_lora.name)
    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    theirs = pipe(
        PROMPTS,
        latents=torch.cat(noise),
        num_inference_steps=4,
        guidance_scale=3.0,
        width=16,
        height=16,
        output_type="np",
    ).images

    assert np.abs(adapted.astype(int) - base).max() > 5, "the adapter must do something"
    assert np.abs(adapted - theirs * 255).max() <= 1.01
    assert np.array_equal(base, after)


def test_an_adapter_given_from_the_start_enters_the_revision(tiny_folder, tiny_lora, generator):
    always = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", adapter=tiny_lora
    )
    with generator.adapted(tiny_lora):
        assert np.array_equal(always.render(PROMPTS, SEEDS), generator.render(PROMPTS, SEEDS))
    assert always.revision.startswith(generator.revision + "+")


def test_a_file_that_is_no_adapter_is_refused_by_name(tmp_path, generator):
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"not weights")
    with pytest.raises(EngineError, match=r"wrong\.safetensors"), generator.adapted(wrong):
        pass


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
