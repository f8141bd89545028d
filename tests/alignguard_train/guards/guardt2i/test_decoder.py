"""The decoder follows the embedding, counts positions up and reads embeddings as they are."""

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.config import GuardT2ISettings
from alignguard_train.guards.guardt2i.decoder import (
    IGNORED,
    decoded,
    labels_of,
    negative_log_likelihood,
    train_decoder,
)
from alignguard_train.guards.guardt2i.fitting import new_decoder
from alignguard_train.guards.states import TextStates
from tests.alignguard_train.guards.small import standin_encoder

SMALL = {"layers": 1, "width": 32, "heads": 2, "steps": 150, "batch_size": 16}
TEXTS = [
    f"a {colour} {thing} on the {side} of a {field}"
    for colour in ("red", "blue")
    for thing in ("ball", "box")
    for side in ("left", "right")
    for field in ("meadow", "heath")
]


@pytest.fixture(scope="module")
def encoder():
    return standin_encoder()


@pytest.fixture(scope="module", params=["tokens", "eos"])
def trained(encoder, request):
    settings = GuardT2ISettings(**SMALL, condition=request.param, learning_rate=1e-2)
    decoder = new_decoder(settings, encoder, 0)
    ids, _ = encoder.ids(TEXTS)
    train_decoder(decoder, encoder.states(TEXTS), ids, settings, seed=0)
    return decoder


def test_the_decoded_text_follows_the_embedding_and_not_the_typed_ids(trained, encoder):
    ids, _ = encoder.ids(TEXTS)
    states = encoder.states(TEXTS)
    written = decoded(trained, states, ids)
    right = (written[:, : int((ids[0] == 716).nonzero()[0])] == ids[:, :12][:, :10]).float()
    assert right.mean() > 0.9
    turned = decoded(trained, states[torch.arange(len(TEXTS) - 1, -1, -1)], ids)
    assert torch.equal(turned, written.flip(0))


def test_with_one_embedding_for_all_it_is_no_better_than_a_guess(trained, encoder):
    """Four binary choices a prompt: without its embedding at least 4 log 2 nats are lost."""
    ids, _ = encoder.ids(TEXTS)
    states = encoder.states(TEXTS)
    same = states[torch.zeros(len(TEXTS), dtype=torch.long)]
    tokens = (labels_of(ids, 716) != IGNORED).sum(dim=1)
    assert float((negative_log_likelihood(trained, states, ids) * tokens).mean()) < 2.0
    assert float((negative_log_likelihood(trained, same, ids) * tokens).mean()) > 2.5


def test_decoding_uses_the_positions_of_training(trained, encoder):
    """Each token that is written is the likeliest one of a single pass over the whole text."""
    ids, _ = encoder.ids(TEXTS)
    states = encoder.states(TEXTS)
    written = decoded(trained, states, ids)
    logits = trained(written[:, :-1], *trained.condition(states, ids))
    labels = labels_of(written, 716)
    known = labels != IGNORED
    assert torch.equal(logits.argmax(dim=-1)[known], labels[known])
    swapped = trained(written[:, [0, 2, 1]], *trained.condition(states, ids))
    assert not torch.allclose(swapped[:, -1], logits[:, 2]), "the order of tokens matters"


def test_keeping_keys_and_values_changes_no_token_and_reads_one_place_a_step(trained, encoder):
    """Against the plain loop, which reads the whole text again for every token."""
    ids, _ = encoder.ids(TEXTS)
    states = encoder.states(TEXTS)
    encoded, plain = trained.condition(states, ids), torch.full((len(ids), 1), 715)
    places = []
    inner = trained.model.register_forward_pre_hook(
        lambda _, __, named: places.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    kept = decoded(trained, states, ids)
    inner.remove()
    with torch.no_grad():
        for _ in range(len(places)):
            following = trained(plain, *encoded)[:, -1].argmax(dim=-1)
            plain = torch.cat([plain, following[:, None]], dim=1)
    labels = labels_of(kept, 716)
    known = labels != IGNORED
    assert known.sum(dim=1).min() > 8
    assert torch.equal(
        kept[:, 1 : plain.shape[1]][known[:, : len(places)]], plain[:, 1:][known[:, : len(places)]]
    )
    assert set(places) == {1}


def test_small_changes_of_an_embedding_are_seen(trained, encoder):
    """The published loaders round embeddings to integers, under which these are equal."""
    ids, _ = encoder.ids(TEXTS[:1])
    states = encoder.states(TEXTS[:1])
    moved = TextStates(
        tokens=states.tokens + 0.01, eos=states.eos + 0.01, truncated=states.truncated
    )
    one, other = (negative_log_likelihood(trained, x, ids) for x in (states, moved))
    assert not torch.equal(one, other)


def test_padding_is_neither_learned_nor_read(encoder):
    settings = GuardT2ISettings(**SMALL)
    decoder = new_decoder(settings, encoder, 0)
    ids, _ = encoder.ids(["a red ball"])
    labels = labels_of(ids, 716)
    assert labels[0, :4].tolist() == [*ids[0, 1:4].tolist(), 716]
    assert (labels[0, 4:] == IGNORED).all()
    states = encoder.states(["a red ball"])
    other = states.tokens.clone()
    other[:, 5:] = 9.0
    moved = TextStates(tokens=other, eos=states.eos, truncated=states.truncated)
    one, two = (negative_log_likelihood(decoder, x, ids) for x in (states, moved))
    assert torch.equal(one, two)


def test_a_prompt_does_not_depend_on_its_neighbours(trained, encoder):
    ids, _ = encoder.ids(TEXTS)
    states = encoder.states(TEXTS)
    whole = negative_log_likelihood(trained, states, ids)
    alone = negative_log_likelihood(trained, states[:1], ids[:1])
    assert alone[0] == pytest.approx(float(whole[0]), abs=1e-5)


def test_a_loss_that_is_not_finite_is_refused(encoder):
    settings = GuardT2ISettings(**{**SMALL, "steps": 2})
    ids, _ = encoder.ids(TEXTS[:2])
    broken = encoder.states(TEXTS[:2])
    broken = TextStates(
        tokens=broken.tokens * torch.nan, eos=broken.eos, truncated=broken.truncated
    )
    with pytest.raises(EngineError, match="GuardT2I's loss is not finite"):
        train_decoder(new_decoder(settings, encoder, 0), broken, ids, settings, seed=0)
