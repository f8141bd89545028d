"""ESD-u: the target by hand, what is trained, and that training moves towards the target."""

import dataclasses

import numpy as np
import pytest
import torch

from alignguard_data.engines.diffusion.conditions import encode_texts
from alignguard_train.peers.esd import ESD, erased_target, outside_cross_attention
from alignguard_train.peers.pipes import epsilon_scale
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from tests.alignguard_train.peers.made_up import CONCEPTS, drawn, weights

QUICK = ESD(steps=2, batch_size=2, lr=1e-3, sampling_steps=3)


def test_target_by_hand():
    without, given = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    assert erased_target(without, without, given, eta=2.0).tolist() == [-3.0, 4.0]


def test_target_in_v_is_the_target_in_epsilon():
    """epsilon = sqrt(a) v + sqrt(1 - a) x_t, as the diffusion papers define v."""
    draw = torch.Generator().manual_seed(0)
    x, v_without, v_given = torch.randn(3, 7, generator=draw)
    scheduler = tiny_pipe("v_prediction").scheduler
    a = scheduler.alphas_cumprod[400]

    def epsilon(v):
        return a.sqrt() * v + (1 - a).sqrt() * x

    wanted = erased_target(epsilon(v_without), epsilon(v_without), epsilon(v_given), eta=1.5)
    found = erased_target(v_without, v_without, v_given, eta=1.5)
    assert torch.allclose(epsilon(found), wanted, atol=1e-6)
    assert epsilon_scale(scheduler, torch.tensor(400)) == pytest.approx(float(a.sqrt()))


@pytest.mark.parametrize("texts", ["name", "examples"])
def test_everything_outside_cross_attention_is_trained_and_the_given_pipe_is_not(texts):
    pipe = tiny_pipe()
    before, image = weights(pipe), drawn(pipe)
    erased = dataclasses.replace(QUICK, texts=texts).apply(pipe, CONCEPTS)
    differ = {n for n, x in erased.unet.state_dict().items() if not torch.equal(x, before[n])}
    assert not any("attn2" in name for name in differ), differ
    assert not any("norm" in name for name in differ), differ
    assert any("attn1" in name for name in differ)
    assert "conv_out.weight" in differ
    assert np.array_equal(drawn(pipe), image)
    assert not any(p.requires_grad for p in erased.unet.parameters())
    assert len(outside_cross_attention(pipe.unet)) > 20


def test_the_same_seed_gives_the_same_weights():
    pipe = tiny_pipe("epsilon")
    one, same, other = (
        weights(dataclasses.replace(QUICK, seed=seed).apply(pipe, CONCEPTS)) for seed in (0, 0, 1)
    )
    assert all(torch.equal(x, same[name]) for name, x in one.items())
    assert any(not torch.equal(x, other[name]) for name, x in one.items())


def test_training_brings_the_prediction_to_the_target():
    pipe = tiny_pipe("epsilon")
    # A strong eta: two texts hardly differ for a network that was never trained.
    peer = ESD(steps=60, batch_size=4, lr=1e-4, sampling_steps=3, eta=5.0)
    erased = peer.apply(pipe, CONCEPTS[:1])
    nothing, name = (encode_texts(pipe, [t] * 8).states for t in ("", CONCEPTS[0].name))
    noise = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        u, c = (pipe.unet(noise, 999, states).sample for states in (nothing, name))
        wanted = erased_target(u, u, c, eta=5.0)
        now = erased.unet(noise, 999, name).sample
    assert (now - wanted).pow(2).mean() < 0.6 * (c - wanted).pow(2).mean()


def test_two_text_encoders():
    erased = QUICK.apply(tiny_xl(), CONCEPTS)
    assert np.isfinite(drawn(erased)).all()
