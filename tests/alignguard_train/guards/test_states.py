"""Which token's state a guard reads, and which encoder it is of."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.states import FrozenEncoder, eos_positions, weights_hash
from benchmarks.tiny.diffusion import tiny_pipe, tiny_tokenizer, tiny_xl
from tests.alignguard_train.guards.small import (
    eos_first_encoder,
    eos_first_tokenizer,
    text_model,
)


def test_the_end_is_found_where_the_largest_id_is_another_token():
    encoder = eos_first_encoder()
    ids, _ = encoder.ids(["z b"])
    assert ids[0].argmax() == 1, "the largest id is the z's, not the end's"
    states = encoder.states(["z b"])
    tokens, eos = encoder.states_of_ids(ids)
    assert torch.equal(states.eos[0], tokens[0, 3])
    assert torch.equal(eos[0], tokens[0, 3])
    assert not torch.allclose(states.eos[0], tokens[0, 1])


def test_the_first_end_counts_where_texts_are_padded_with_it():
    ids = torch.tensor([[0, 5, 1, 1, 1], [0, 5, 7, 9, 1]])
    assert eos_positions(ids, 1).tolist() == [2, 4]


def test_ids_are_padded_and_cut_as_the_pipe_does():
    pipe = tiny_pipe("epsilon")
    prompts = ["", "a b c", "a b c d e f g h i j k l m n"]
    wanted = pipe.tokenizer(
        prompts, padding="max_length", truncation=True, max_length=12, return_tensors="pt"
    ).input_ids
    ids, cut = FrozenEncoder.of(pipe).ids(prompts)
    assert torch.equal(ids, wanted)
    assert cut.tolist() == [False, False, True]


def test_ids_without_an_end_are_refused_by_row():
    with pytest.raises(EngineError, match=r"row 1 .* no end-of-text token \(1\)"):
        eos_positions(torch.tensor([[0, 1], [0, 3]]), 1)


@pytest.mark.parametrize("make", [lambda: tiny_pipe("epsilon"), tiny_xl], ids=["sd15", "sdxl"])
def test_real_pipes_give_the_first_encoders_last_state(make):
    pipe = make()
    encoder, prompt = FrozenEncoder.of(pipe), "a b c"
    found = encoder.states([prompt])
    ids = pipe.tokenizer([prompt], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        model = pipe.text_encoder(ids)
    assert torch.allclose(found.tokens, model.last_hidden_state)
    assert torch.allclose(found.eos, model.pooler_output)
    assert encoder.identity.width == pipe.text_encoder.config.hidden_size
    assert encoder.identity.encoder == "CLIPTextModel"


def test_tokenizer_and_configuration_must_name_one_end():
    with pytest.raises(EngineError, match=r"ends a text with id 1, .* eos_token_id 9"):
        eos_first_encoder(eos_in_config=9)


def test_the_old_configurations_of_the_real_checkpoints_are_accepted():
    """They say 2, and CLIP pools at the largest id, which is the end in OpenAI's vocabulary."""
    tokenizer = tiny_tokenizer()
    FrozenEncoder(tokenizer, text_model(tokenizer, eos_in_config=2))


def test_the_old_configuration_is_refused_where_the_largest_id_is_not_the_end():
    with pytest.raises(EngineError, match="eos_token_id 2"):
        eos_first_encoder(eos_in_config=2)


def test_an_encoder_with_an_adapter_is_refused():
    tokenizer = eos_first_tokenizer()
    config = LoraConfig(r=2, target_modules=["q_proj"])
    adapted = inject_adapter_in_model(config, text_model(tokenizer))
    with pytest.raises(EngineError, match="LoRA adapter"):
        FrozenEncoder(tokenizer, adapted)


def test_states_do_not_depend_on_the_batch():
    encoder = eos_first_encoder()
    prompts = ["a b", "c", "d e f g"]
    together, one = encoder.states(prompts), encoder.states(prompts[1:2])
    assert torch.allclose(together.eos[1:2], one.eos, atol=1e-6)
    assert torch.allclose(together.tokens[1:2], one.tokens, atol=1e-6)


def test_a_prompt_longer_than_the_encoder_is_read_to_its_length_and_said(caplog):
    encoder = eos_first_encoder()
    states = encoder.states(["a b c d e f", "a b c d e f g"])
    assert states.truncated.tolist() == [False, True]
    assert torch.allclose(states.eos[0], states.eos[1], atol=1e-6), "what follows is not read"
    assert "1 of 2 prompts are longer than the encoder's 8 tokens" in caplog.text


def test_no_prompt_gives_no_row():
    assert len(eos_first_encoder().states([])) == 0


def test_a_half_precision_copy_is_the_same_encoder_and_other_weights_are_not():
    model = text_model(eos_first_tokenizer())
    assert weights_hash(copy.deepcopy(model).half()) == weights_hash(model)
    assert weights_hash(text_model(eos_first_tokenizer(), seed=1)) != weights_hash(model)


def test_a_pipe_without_a_text_encoder_is_refused():
    pipe = tiny_pipe("epsilon")
    pipe.text_encoder = None
    with pytest.raises(EngineError, match="no tokenizer and text_encoder"):
        FrozenEncoder.of(pipe)
