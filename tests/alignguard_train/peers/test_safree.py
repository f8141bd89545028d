"""SAFREE: projections, trigger tokens, how long the moved text is used; on a pipe as well."""

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import encode_texts
from alignguard_train.peers.safree import (
    SAFREE,
    filtering_share,
    moved_out,
    projection,
    trigger_tokens,
)
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from tests.alignguard_train.peers.made_up import CONCEPTS, drawn


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_projection_keeps_its_span_and_removes_what_is_orthogonal():
    rows = random(3, 8)
    p = projection(rows)
    assert torch.allclose(rows @ p, rows, atol=1e-5)
    assert torch.allclose(p @ p, p, atol=1e-5)
    assert torch.allclose(p, p.T, atol=1e-5)
    rest = random(5, 8, seed=1)
    assert torch.allclose((rest - rest @ p) @ rows.T, torch.zeros(5, 3), atol=1e-5)


def test_dependent_rows_span_no_more_than_the_others():
    rows = random(2, 6)
    twice = torch.cat([rows, rows.sum(0, keepdim=True)])
    assert torch.allclose(projection(twice), projection(rows), atol=1e-5)


def test_moved_states_are_orthogonal_to_the_concepts():
    concepts, prompt, states = random(2, 8), projection(random(4, 8, seed=1)), random(5, 8, seed=2)
    moved = moved_out(states, prompt, projection(concepts))
    assert torch.allclose(moved @ concepts.T, torch.zeros(5, 2), atol=1e-5)


def test_the_token_without_which_the_text_is_far_from_the_concepts_is_the_trigger():
    toxic = projection(torch.tensor([[1.0, 0.0, 0.0]]))
    masked = torch.tensor([[9.0, 1.0, 0.0], [9.0, 0.0, 1.0], [2.0, 3.0, 0.0]])
    # Distances 1, 1 and 3; the others' means are 2, 2 and 1.
    assert trigger_tokens(masked, toxic, alpha=0.01).tolist() == [False, False, True]
    assert trigger_tokens(masked, toxic, alpha=2.5).tolist() == [False, False, False]
    assert trigger_tokens(masked[:1], toxic, alpha=0.0).tolist() == [False]


def test_the_further_the_text_moves_the_longer_the_moved_one_is_used():
    states = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    same = filtering_share(states, states, longest=0.2, midpoint=0.5)
    half = filtering_share(
        states, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), longest=0.2, midpoint=0.5
    )
    away = filtering_share(states, -states, longest=0.2, midpoint=0.5)
    assert same == pytest.approx(0.0, abs=1e-6)
    assert half == pytest.approx(0.1)
    assert away == pytest.approx(0.2)


def test_only_trigger_tokens_change_and_an_empty_prompt_does_not():
    pipe = tiny_pipe()
    peer = SAFREE(alpha=-0.01, self_validating=False)
    changed = peer.apply(pipe, CONCEPTS)
    for text in ("x y a b", ""):
        plain, packed = encode_texts(pipe, [text]).states, encode_texts(changed, [text]).states
        tokens = plain.shape[1]
        assert packed.shape[1] == 2 * tokens + 1
        assert torch.equal(packed[:, tokens : 2 * tokens], plain)
        moved = (packed[0, :tokens] != plain[0]).any(dim=1).nonzero().flatten().tolist()
        assert moved == [] if not text else len(moved) > 0 and set(moved) <= {1, 2, 3, 4}


def test_the_moved_text_is_used_for_its_share_of_the_steps_alone():
    pipe = tiny_pipe()
    chosen = {"alpha": -0.01, "midpoint": -1.0}
    never, always = (
        drawn(SAFREE(longest=longest, **chosen).apply(pipe, CONCEPTS)) for longest in (0.0, 1.0)
    )
    plain = drawn(SAFREE(alpha=-0.01, self_validating=False).apply(pipe, CONCEPTS))
    assert np.array_equal(never, drawn(pipe))
    assert np.array_equal(always, plain)
    assert not np.array_equal(always, never)


def test_a_prompt_by_diffusers_own_loop_and_by_rows_of_a_batch_agree():
    pipe = SAFREE(alpha=-0.01, self_validating=False).apply(tiny_pipe(), CONCEPTS)
    both = encode_texts(pipe, ["x y a b", "z"]).states
    assert torch.allclose(both[1:], encode_texts(pipe, ["z"]).states, atol=1e-5)


def test_another_class_of_pipe_is_refused():
    with pytest.raises(EngineError, match="StableDiffusionXLPipeline"):
        SAFREE().apply(tiny_xl(), CONCEPTS)
