"""A pipe behind a guard, of the real classes: what is allowed is untouched, the rest not drawn."""

import copy

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.guarded_pipe import guarded
from alignguard_train.guards.protocol import Decision
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl

SIZE = {"height": 16, "width": 16, "num_inference_steps": 2}
ACTIONS = {"bad": "block", "long": "rewrite", "dim": "soften"}


class ByWord:
    """Blocks `bad`, rewrites `long` to `short`, softens `dim`; softened pipes draw `x`."""

    name, threshold = "by-word", 0.5

    def score(self, prompts):
        return np.array([float(text in ACTIONS) for text in prompts])

    def decide(self, prompts):
        made = []
        for text in prompts:
            action = ACTIONS.get(text, "allow")
            new = "short" if action == "rewrite" else None
            made.append(Decision(action=action, reason="r", score=0, threshold=0.5, prompt=new))
        return made

    def check(self, pipe):
        pass

    def soften(self, pipe):
        return lambda prompt, **named: pipe(prompt=["x"] * len(prompt), **named)


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(rows: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(rows)]


def pixels(images) -> list[np.ndarray]:
    return [np.asarray(image) for image in images]


@pytest.fixture(scope="module", params=[lambda: tiny_pipe("epsilon"), tiny_xl], ids=["15", "xl"])
def pipe(request):
    return quiet(request.param())


def test_what_is_allowed_is_bit_equal_and_the_blocked_row_is_black(pipe):
    prompts = ["a", "bad", "b"]
    plain = pipe(prompt=prompts, generator=noise(3), **SIZE).images
    found = guarded(pipe, ByWord())(prompts, generator=noise(3), **SIZE)
    assert [one.action for one in found.decisions] == ["allow", "block", "allow"]
    assert found.nsfw_content_detected == [False, True, False]
    for i in (0, 2):
        assert (np.asarray(found.images[i]) == np.asarray(plain[i])).all()
    assert not np.asarray(found.images[1]).any()
    assert np.asarray(plain[1]).any(), "without the guard it is drawn"


def test_one_shared_generator_gives_the_others_their_own_noise(pipe):
    prompts = ["bad", "a"]
    plain = pipe(prompt=prompts, generator=torch.Generator().manual_seed(0), **SIZE).images
    found = guarded(pipe, ByWord())(prompts, generator=torch.Generator().manual_seed(0), **SIZE)
    assert (np.asarray(found.images[1]) == np.asarray(plain[1])).all()


def test_nothing_is_drawn_where_all_is_blocked(pipe, monkeypatch):
    monkeypatch.setattr(type(pipe), "__call__", None)
    found = guarded(pipe, ByWord())("bad", num_images_per_prompt=2, **SIZE)
    assert [image.size for image in found.images] == [(16, 16)] * 2
    assert found.nsfw_content_detected == [True, True]


def test_a_rewritten_and_a_softened_row_are_drawn_so(pipe):
    found = guarded(pipe, ByWord())(["long", "dim", "a"], generator=noise(3), **SIZE)
    wanted = pipe(prompt=["short", "x", "a"], generator=noise(3), **SIZE).images
    for one, other in zip(pixels(found.images), pixels(wanted), strict=True):
        assert (one == other).all()


def test_the_second_text_of_sdxl_is_read_too():
    found = guarded(quiet(tiny_xl()), ByWord())("a", prompt_2="bad", **SIZE)
    assert found.decisions[0].action == "block"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompt_embeds": torch.zeros(1, 12, 32)}, "give prompt, not prompt_embeds"),
        ({}, "needs prompt"),
        ({"prompt": "a", "return_dict": False}, "answers with the pipe's output"),
    ],
)
def test_what_the_guard_cannot_read_is_refused(given, says):
    with pytest.raises(EngineError, match=says):
        guarded(quiet(tiny_pipe("epsilon")), ByWord())(**given)


def test_arrays_and_tensors_are_emptied_in_their_own_form():
    pipe = quiet(tiny_pipe("epsilon"))
    for form in ("np", "pt", "latent"):
        found = guarded(pipe, ByWord())(["a", "bad"], output_type=form, **SIZE)
        assert not found.images[1].any()
        assert found.images[0].any()


def test_the_pipes_own_attributes_are_reachable_and_the_pipe_is_unchanged():
    pipe = quiet(tiny_pipe("epsilon"))
    before = copy.copy(pipe.__dict__)
    assert guarded(pipe, ByWord()).unet is pipe.unet
    assert pipe.__dict__ == before
