"""Profile encoders: what a vector says, and that it is one user's alone."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

from alignguard_data.contracts.errors import EngineError
from alignguard_data.standin.factory import base_model_folder
from alignguard_train.personal.profile_encoders import (
    ClipText,
    HfLLM,
    MultiHot,
    in_words,
    statistics,
)
from tests.alignguard_train.personal.world import ADULT, users


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    """A Qwen2 of random weights that reads characters; its padding is its end of text."""
    folder = tmp_path_factory.mktemp("llm")
    characters = [*"abcdefghijklmnopqrstuvwxyz0123456789:;,.- "]
    vocabulary = {c: i for i, c in enumerate(["<|endoftext|>", "?", *characters])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="<|endoftext|>", unk_token="?", padding_side="left"
    ).save_pretrained(folder)
    shape = Qwen2Config(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    Qwen2Model(shape).save_pretrained(folder)
    return HfLLM(str(folder), batch_size=3)


@pytest.fixture(params=["multihot", "clip_text", "hf_llm"])
def encoder(request, llm):
    made = {
        "multihot": MultiHot,
        "clip_text": lambda: ClipText(str(base_model_folder()), device="cpu"),
        "hf_llm": lambda: llm,
    }
    found = made[request.param]()
    assert found.name == request.param
    return found


def test_a_vector_is_float32_finite_and_does_not_depend_on_the_others(encoder):
    people = users()
    together = encoder.encode(people)
    assert together.dtype == np.float32
    assert together.shape[0] == len(people)
    assert np.isfinite(together).all()
    for user, vector in zip(people, together, strict=True):
        assert np.allclose(encoder.encode([user])[0], vector, atol=1e-5)


def test_users_who_ban_other_categories_differ(encoder):
    swapped = replace(ADULT, banned=ADULT.allowed, allowed=ADULT.banned)
    first, second = encoder.encode([ADULT, swapped])
    assert np.abs(first - second).max() > 1e-3


def test_a_version_names_the_model(encoder):
    assert encoder.version
    assert "/" not in encoder.version


def test_multihot_has_one_bit_per_ban_and_one_per_attribute():
    (vector,) = MultiHot().encode([ADULT])
    assert vector.tolist()[:2] == [1.0, 0.0]
    assert len(vector) == 2 + 8 + 2 + 4 + 4 + 7
    assert vector.sum() == 1 + 5


@pytest.mark.parametrize(
    "change", [{"age_group": "elderly"}, {"gender": "female"}, {"religion": "islam"},
               {"physical": "hearing-impairment"}, {"mental": "war"}],
)  # fmt: skip
def test_multihot_shows_every_attribute(change):
    first, second = MultiHot().encode([ADULT, replace(ADULT, **change)])
    assert np.abs(first - second).sum() == 2


def test_multihot_refuses_users_of_different_taxonomies():
    with pytest.raises(EngineError, match="different categories"):
        MultiHot().encode([ADULT, replace(ADULT, allowed=("other",))])


def test_the_llm_vector_is_a_mean_not_a_sum(llm):
    """States are RMS-normalised, so each has length sqrt(16): a mean is no longer, a sum is."""
    long = replace(ADULT, allowed=("banded " * 200,))
    assert max(np.linalg.norm(vector) for vector in llm.encode([ADULT, long])) <= 4.001


def test_padding_is_not_counted(llm):
    """The shorter text of a batch is padded; the tokenizer's own side is left."""
    short, long = ADULT, replace(ADULT, allowed=("banded " * 20,))
    alone, together = llm.encode([short])[0], llm.encode([short, long])[0]
    assert np.allclose(alone, together, atol=1e-5)


def test_vectors_that_are_not_finite_are_refused(llm, monkeypatch):
    monkeypatch.setattr(HfLLM, "_means", lambda self, texts: np.full((len(texts), 4), np.nan))
    with pytest.raises(EngineError, match="not finite"):
        llm.encode([ADULT])


def test_statistics_standardise_the_seen_users():
    vectors = np.random.default_rng(0).normal(3, 2, (200, 5)).astype(np.float32)
    vectors[:, 2] = 7.0
    mean, deviation = statistics(vectors, standardised=True)
    whitened = (vectors - mean) / deviation
    assert np.allclose(whitened.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(whitened.std(axis=0), [1, 1, 0, 1, 1], atol=1e-4)
    none = statistics(vectors, standardised=False)
    assert [np.unique(one).tolist() for one in none] == [[0.0], [1.0]]


def test_a_profile_in_words_says_every_attribute_and_ban():
    texts = {in_words(replace(ADULT, **{n: v})) for n, v in itertools.chain(
        [("age", 31), ("gender", "female"), ("religion", "islam"), ("mental", "war")],
        [("physical", "visual-impairment"), ("banned", ()), ("allowed", ())],
    )}  # fmt: skip
    assert len(texts | {in_words(ADULT)}) == 8
