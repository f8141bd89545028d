"""The shield: explain, find, rewrite, verify or block; and what is drawn at several scopes."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, MotionAdapter
from safetensors.numpy import load_file

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.guarded_pipe import guarded
from alignguard_train.guards.protocol import by_threshold
from alignguard_train.guards.reader import guard_file
from alignguard_train.guards.shield.config import ShieldSettings
from alignguard_train.guards.shield.detector import _drawn, scan_of, train_detector
from alignguard_train.guards.shield.roles import explain, options, risky_words, verified
from alignguard_train.guards.shield.scan import OutputScan, finished
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.guards.composed import SAFE, UNSAFE, brightness, made, release
from tests.alignguard_train.guards.release import BASE, TRAIN, pairs_of

SIZE = {"height": 16, "width": 16, "num_inference_steps": 8, "output_type": "np"}


def by_word(texts):
    """A score by hand: every `bad` adds 1."""
    return np.array([float(text.split().count("bad")) for text in texts])


PAIRS = [("a bad cat runs", "a cat runs"), ("one bad dog", "one dog")]


def test_explaining_says_what_each_word_adds():
    found = explain("a bad cat", by_word)
    assert found.score == 1.0
    assert found.drops == (0.0, 1.0, 0.0)


def test_risky_words_are_those_that_make_it_unsafe_and_those_of_all_negative_examples():
    because = explain("a bad cat", by_word)
    assert risky_words(because, [], by_word, 0.5, 8) == {"bad"}
    negative = [("a bad dark cat", "a cat"), ("one bad dark dog", "one dog")]
    because = explain("a bad dark cat", by_word)
    assert risky_words(because, negative, by_word, 0.5, 8) == {"bad", "dark"}


def test_options_hold_no_risky_word_and_keep_most_of_the_prompt_first():
    found = options("a bad cat sits", frozenset({"bad"}), PAIRS, "a bad answer")
    assert found == ["a cat sits", "a cat runs", "one dog"]


def test_a_concepts_name_is_risky_and_in_no_option_though_the_score_misses_it():
    because = explain("a bad dark zigzag", by_word)
    assert risky_words(because, [], by_word, 0.5, 8, ["zigzag"]) == {"bad", "zigzag"}
    pairs = [("x", "a zigzag again"), ("y", "a cat")]
    assert options("a bad cat", frozenset({"bad"}), pairs, "one zigzag", ["zigzag"]) == ["a cat"]


def test_the_verifier_can_reject_all():
    assert verified(["bad", "good"], by_word, 0.5) == "good"
    assert verified(["bad", "bad bad"], by_word, 0.5) == ""
    assert verified([], by_word, 0.5) == ""


def test_a_benign_prompt_is_left_as_it_is():
    (one,) = made("shield").decide([SAFE])
    assert (one.action, one.prompt) == ("allow", None)


def test_a_flagged_prompt_becomes_a_verified_one_without_the_concept():
    guard = made("shield")
    (one,) = guard.decide([UNSAFE])
    assert one.action == "rewrite"
    assert one.prompt
    assert "zigzag" not in one.prompt
    assert guard.score([one.prompt])[0] < guard.threshold <= one.score
    assert set(one.prompt.split()) & set(SAFE.split())


def test_examples_are_of_the_training_part_only():
    data, _ = release()
    from alignguard_data.storage import manifest as manifests
    from alignguard_train.guards.splits import text_id

    guard = made("shield")
    tested = set(
        manifests.read(data.partition("guards", "shield"), "scores")["text_id"].to_pylist()
    )
    assert guard._examples.pairs
    assert not {text_id(text) for pair in guard._examples.pairs for text in pair} & tested


def test_a_rewriter_is_asked_and_its_answer_is_verified():
    class Writes:
        asked = 0

        def __init__(self, answer):
            self.answer = answer

        def rewrite(self, prompts):
            type(self).asked += 1
            return [self.answer] * len(prompts)

    close = "a red ball on the left of a meadow, opposite"
    (one,) = made("shield").changed(rewriter=Writes(close)).decide([UNSAFE])
    assert one.action == "rewrite"
    unsafe = Writes(UNSAFE + " and a dark star")
    (one,) = made("shield").changed(rewriter=unsafe).decide([UNSAFE])
    assert Writes.asked == 2
    assert "star" not in str(one.prompt)


def test_after_two_rounds_without_a_safe_text_it_blocks():
    guard = made("shield")
    rounds = []

    class Everything:
        def scores(self, states):
            return np.full(len(states), guard.threshold + 1)

        def details(self, states):
            return [""] * len(states)

    gate = type(guard._gate)(guard._gate.header, guard.encoder, Everything())
    blocks = type(guard)(guard.header, guard.encoder, gate, guard._settings, guard._examples)
    nearest = blocks._examples.nearest
    blocks._examples.nearest = lambda texts, k: rounds.append(texts) or nearest(texts, k)
    try:
        (one,) = blocks.decide([UNSAFE])
    finally:
        del blocks._examples.nearest
    assert (one.action, one.reason, one.failed) == ("block", "no_rewriting_is_verified", False)
    assert len(rounds) == 2


class Allows:
    """Allows every prompt, and scans."""

    name, threshold = "allows", 0.5

    def __init__(self, threshold, previews=(0.25, 0.5, 0.75)):
        self.scan = OutputScan(detector=brightness, threshold=threshold, side=8, previews=previews)
        self.watches = []

    def decide(self, prompts):
        return [by_threshold(0.0, 0.5) for _ in prompts]

    def check(self, pipe):
        pass

    def watching(self, pipe, rows, steps, texts):
        from alignguard_train.guards.shield.scan import Watch

        self.watches.append(Watch(self.scan, pipe, rows, steps))
        return self.watches[-1]


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(rows):
    return [torch.Generator().manual_seed(i) for i in range(rows)]


def test_a_small_thing_is_found_in_a_crop_where_the_whole_image_hides_it():
    image = torch.zeros(1, 1, 3, 16, 16)
    image[..., :5, :5] = 1.0
    scan = OutputScan(detector=brightness, threshold=0.5, side=8)
    scores, where = scan.scores(image)
    whole = OutputScan(detector=brightness, threshold=0.5, side=8, grids=())
    assert whole.scores(image)[0].item() < 0.2
    assert scores.item() > 0.5
    assert where == ["frame 0, crop 1 of 3x3"]


def test_one_frame_of_a_video_is_enough_and_is_named():
    video = torch.zeros(1, 4, 3, 8, 8)
    video[:, 2] = 1.0
    scores, where = OutputScan(detector=brightness, threshold=0.5, side=8).scores(video)
    assert scores.item() == pytest.approx(1.0)
    assert where[0].startswith("frame 2")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_preview_of_a_ddim_step_is_its_own_estimate(prediction):
    """Both latents are a x + s e of one x and e, so x is exact."""
    scheduler = tiny_pipe(prediction).scheduler
    scheduler.set_timesteps(8)
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    output = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    t, after = scheduler.timesteps[2], scheduler.timesteps[3]
    made_step = scheduler.step(output, t, z)
    found = finished(scheduler, z, made_step.prev_sample, t, after)
    torch.testing.assert_close(found, made_step.pred_original_sample, atol=1e-4, rtol=1e-4)


def test_a_flagged_preview_stops_the_steps_and_the_image_is_black():
    pipe, guard = quiet(tiny_pipe("epsilon")), Allows(threshold=0.0)
    steps = []
    forward = pipe.unet.forward
    pipe.unet.forward = lambda *a, **n: steps.append(1) or forward(*a, **n)
    found = guarded(pipe, guard)(["a", "b"], generator=noise(2), **SIZE)
    assert [one.action for one in found.decisions] == ["block", "block"]
    assert found.decisions[0].reason.startswith("flagged_image: preview at 25%")
    assert len(steps) == guard.watches[0].stopped_at == 2
    assert not np.asarray(found.images).any()


def test_a_scan_that_finds_nothing_leaves_the_images_as_they_are():
    pipe, guard = quiet(tiny_pipe("epsilon")), Allows(threshold=9.0)
    plain = pipe(["a", "b"], generator=noise(2), **SIZE).images
    found = guarded(pipe, guard)(["a", "b"], generator=noise(2), **SIZE)
    np.testing.assert_array_equal(found.images, plain)
    assert [one.action for one in found.decisions] == ["allow", "allow"]
    assert guard.watches[0].stopped_at is None


def test_only_the_flagged_row_of_a_batch_is_blocked():
    pipe = quiet(tiny_pipe("epsilon"))
    plain = pipe(["a", "b"], generator=noise(2), **SIZE).images
    scores = [
        OutputScan(detector=brightness, threshold=0, side=8)
        .scores(torch.from_numpy(one).permute(2, 0, 1)[None, None])[0]
        .item()
        for one in plain
    ]
    guard = Allows(threshold=float(np.mean(scores)), previews=())
    found = guarded(pipe, guard)(["a", "b"], generator=noise(2), **SIZE)
    blocked = [one.action == "block" for one in found.decisions]
    assert blocked == [score > np.mean(scores) for score in scores]
    assert [not image.any() for image in found.images] == blocked


def test_a_score_that_is_no_number_blocks():
    guard = Allows(threshold=0.5)
    guard.scan = dataclasses.replace(guard.scan, detector=lambda x: x.mean(dim=(1, 2, 3)) * np.nan)
    found = guarded(quiet(tiny_pipe("epsilon")), guard)(["a"], generator=noise(1), **SIZE)
    assert [one.action for one in found.decisions] == ["block"]


@pytest.mark.parametrize("given", [{"output_type": "latent"}, {"callback_on_step_end": print}])
def test_what_the_scan_cannot_read_or_share_is_refused(given):
    pipe = quiet(tiny_pipe("epsilon"))
    with pytest.raises(EngineError):
        guarded(pipe, Allows(threshold=9.0))(["a"], **{**SIZE, **given})


@pytest.fixture(scope="module")
def video_pipe() -> AnimateDiffPipeline:
    pipe = tiny_pipe("epsilon")
    torch.manual_seed(0)
    motion = MotionAdapter(
        block_out_channels=tuple(pipe.unet.config.block_out_channels), motion_layers_per_block=1,
        motion_norm_num_groups=4, motion_num_attention_heads=2, use_motion_mid_block=False,
    )  # fmt: skip
    return quiet(
        AnimateDiffPipeline(
            vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer,
            unet=pipe.unet, motion_adapter=motion, scheduler=pipe.scheduler,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("threshold", "action"), [(9.0, "allow"), (0.0, "block")])
def test_a_video_pipe_is_wrapped_and_its_frames_are_scopes(video_pipe, threshold, action):
    guard = Allows(threshold=threshold)
    size = {**SIZE, "num_frames": 4}
    found = guarded(video_pipe, guard)(["a"], generator=noise(1), **size)
    assert [one.action for one in found.decisions] == [action]
    frames = np.asarray(found.frames)
    assert frames.shape[:2] == (1, 4)
    assert frames.any() == (action == "allow")


def test_a_blocked_prompt_of_a_video_pipe_is_black_frames(video_pipe):
    class Blocks(Allows):
        def decide(self, prompts):
            return [by_threshold(1.0, 0.5) for _ in prompts]

    found = guarded(video_pipe, Blocks(9.0))(["a"], num_frames=4, height=16, width=16)
    assert [len(video) for video in found.frames] == [4]
    assert not np.asarray(found.frames[0][0]).any()


def test_the_trained_detector_finds_what_the_base_model_draws_and_shares_nothing_with_the_judge():
    guard = made("shield", renders=20, steps=6, side=32, epochs=10)
    scan = guard.scan
    assert scan is not None
    data, _ = release()
    own = load_file(guard_file(data, "shield"))
    from tests.alignguard_train.guards.test_room import SCORERS

    judges = [x for path in SCORERS.rglob("*.safetensors") for x in load_file(path).values()]
    judged = {(x.shape, x.tobytes()) for x in judges if x.size > 8}
    held = {(x.shape, x.tobytes()) for x in own.values()}
    assert len(held) > 5
    assert len(judged) > 5
    assert not held & judged
    size = {"height": 32, "width": 32, "num_inference_steps": 6, "output_type": "pt"}
    glyphs = [f"{SAFE}, opposite a dark {glyph}" for glyph in TRAIN]

    def scores(texts):
        drawn = quiet(BASE.pipe)(texts, generator=noise(len(texts)), **size).images
        return scan.scores(drawn[:, None].float())[0].mean().item()

    assert scores(glyphs) > scores([SAFE] * len(TRAIN))


def test_previews_count_in_the_threshold_so_few_safe_images_are_blocked():
    """A preview of few steps is not a finished image; a scan set on those alone blocks it."""
    settings = ShieldSettings(
        renders=100, steps=6, guidance_scale=3.0, solver="dpm++2m", side=32, epochs=20
    )
    pairs = [(str(one["caption"]), str(one["caption_safe"])) for one in pairs_of(TRAIN, 300, 40)]
    random.Random(0).shuffle(pairs)  # they are in the order of glyphs and sentences
    tensors, found = train_detector(BASE.pipe, pairs[:100], settings, target_fpr=0.01, seed=0)
    scan = scan_of(tensors, settings, threshold=found["threshold"])
    safe = _drawn(BASE.pipe, [safe for _, safe in pairs[100:]], settings, seed=1)
    assert safe.shape[:2] == (60, 4)
    blocked = (scan.scores(safe)[0] >= scan.threshold).double().mean().item()
    unsafe = _drawn(BASE.pipe, [unsafe for unsafe, _ in pairs[100:]], settings, seed=1)
    caught = (scan.scores(unsafe)[0] >= scan.threshold).double().mean().item()
    assert blocked <= 0.15
    assert caught >= 0.9
