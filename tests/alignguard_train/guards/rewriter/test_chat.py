"""A chat model by name gets a LoRA; the guard's file holds only that, and names the model."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.config import RewriterSettings
from alignguard_train.guards.rewriter.codec import INSTRUCTION
from alignguard_train.guards.rewriter.fitting import rewriter_guard
from alignguard_train.guards.rewriter.language import LanguageRewriter
from alignguard_train.guards.rewriter.model import identity_of, new_writer
from alignguard_train.guards.rewriter.star import TermScorer
from alignguard_train.guards.rewriter.tuning import Lesson, tune
from tests.alignguard_train.guards.small import header_for, standin_encoder

GOOD, BAD = "a red ball", "a red ball and a dark zigzag"
TEMPLATE = "{% for m in messages %}{{ m['content'] }} . {% endfor %}"


@pytest.fixture(scope="module")
def encoder():
    return standin_encoder()


@pytest.fixture(scope="module")
def settings(encoder, tmp_path_factory) -> RewriterSettings:
    """A tiny model with a chat template, in a folder as from a hub."""
    folder = tmp_path_factory.mktemp("models") / "tiny-chat"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(encoder.tokenizer), hidden_size=32, intermediate_size=32,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    before = encoder.tokenizer.chat_template
    encoder.tokenizer.chat_template = TEMPLATE
    encoder.tokenizer.save_pretrained(folder)
    encoder.tokenizer.chat_template = before
    return RewriterSettings(
        model=str(folder), rank=4, steps=60, batch_size=4, learning_rate=2e-2, longest=12
    )


def test_the_model_is_asked_by_its_template(encoder, settings):
    codec = new_writer(settings, encoder, 0).codec
    said = codec.text(codec.prompt(BAD))
    assert said.endswith("zigzag.") or said.endswith("zigzag .")
    assert INSTRUCTION.split()[0].lower() in said


def test_only_the_lora_is_trained_and_kept_and_the_start_is_the_model_without_it(encoder, settings):
    writer = new_writer(settings, encoder, 0)
    ids = torch.tensor([writer.codec.prompt(BAD)])
    start, before = writer.start(), writer.model(input_ids=ids).logits.detach()
    assert torch.equal(start.logits(ids, torch.ones_like(ids)), before), "a new LoRA is no change"
    tune(writer, [Lesson(prompt=BAD, reply=GOOD)], settings, steps=60, seed=0)
    assert LanguageRewriter(writer, 12).rewrite([BAD]) == [GOOD]
    assert torch.equal(start.logits(ids, torch.ones_like(ids)), before)
    assert all("lora_" in name for name in writer.tensors())
    again = new_writer(settings, encoder, 1)
    again.load(writer.tensors())
    assert LanguageRewriter(again, 12).rewrite([BAD]) == [GOOD]


def test_star_dss_of_a_chat_model_needs_no_copy_of_it(encoder, settings):
    writer = new_writer(settings, encoder, 0)
    lessons = [Lesson(prompt=BAD, reply=BAD)]
    tune(writer, lessons, settings, steps=5, scorer=TermScorer(["zigzag"]), loss="star_dss", seed=0)
    assert writer.start()._model is writer.model


def test_the_file_names_the_model_by_name_and_hash_and_refuses_another(encoder, settings):
    identity = identity_of(settings)
    assert identity.startswith("tiny-chat@")
    header = header_for(encoder, "rewriter", writer="other@1", terms={})
    with pytest.raises(EngineError, match="trained on other@1; this is tiny-chat@"):
        rewriter_guard(header, {}, encoder, settings)


def test_a_package_that_is_not_installed_is_named(encoder):
    with pytest.raises(EngineError, match=r"rewriter.model: package:no_such_model/x is not an"):
        new_writer(RewriterSettings(model="package:no_such_model/x"), encoder, 0)
