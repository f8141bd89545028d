"""What the peers share: joined texts, epsilon, and errors that say what is wrong."""

import logging

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from alignguard_data.contracts.errors import EngineError
from alignguard_train.contracts.peer_methods import PEERS, TITLES
from alignguard_train.peers.concept import Concept
from alignguard_train.peers.pipes import epsilon_scale, joined_text
from alignguard_train.peers.registry import make_peer
from benchmarks.tiny.diffusion import TOKENS, tiny_pipe


def named(number: int) -> list[Concept]:
    return [Concept(category="c", name=name) for name in "abcdefghijklmnop"[:number]]


def test_names_are_joined_with_commas_where_they_fit_else_with_spaces():
    pipe = tiny_pipe()
    assert joined_text(pipe, named(2), "no {}") == "no a, b"
    assert joined_text(pipe, named(TOKENS - 2), "{}") == " ".join("abcdefghij")


def test_what_does_not_fit_is_left_out_and_told(caplog):
    with caplog.at_level(logging.WARNING):
        text = joined_text(tiny_pipe(), named(TOKENS), "{}")
    assert text == " ".join("abcdefghij")
    assert "2 of 12 concepts do not fit" in caplog.text


def test_a_flow_model_is_refused():
    with pytest.raises(EngineError, match="not flow"):
        epsilon_scale(FlowMatchEulerDiscreteScheduler(), torch.tensor(1.0))


def test_no_concepts_and_a_template_without_a_place_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        joined_text(tiny_pipe(), [], "{}")
    with pytest.raises(ValueError, match="'a dark'"):
        joined_text(tiny_pipe(), named(1), "a dark")


def test_every_peer_is_made_by_its_name():
    assert set(TITLES) == set(PEERS)
    assert all(make_peer(name) == make_peer(name, {}) for name in PEERS)
    with pytest.raises(ValueError, match="no peer 'sdl'; there are negative_prompt, sld"):
        make_peer("sdl")
    with pytest.raises(ValueError, match=r"sld: .*'leval'"):
        make_peer("sld", {"leval": "max"})
