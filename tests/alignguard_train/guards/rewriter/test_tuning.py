"""A small language model learns replies; the loss decides what poison teaches it."""

import dataclasses

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.config import RewriterSettings
from alignguard_train.guards.rewriter.codec import PromptCodec, joined
from alignguard_train.guards.rewriter.language import LanguageRewriter
from alignguard_train.guards.rewriter.losses import IGNORED
from alignguard_train.guards.rewriter.model import new_writer
from alignguard_train.guards.rewriter.star import TermScorer
from alignguard_train.guards.rewriter.tuning import Lesson, _rows, batch_of, denoising, tune
from tests.alignguard_train.guards.small import standin_encoder

SMALL = RewriterSettings(
    layers=1, width=32, heads=2, batch_size=8, learning_rate=1e-2, chunk_words=2
)
GOOD, BAD = "a red ball", "a red ball and a dark zigzag"
PROMPTS = ("a red ball and a dark zigzag", "a blue box and a dark zigzag")
TERMS = ("zigzag",)


@pytest.fixture(scope="module")
def encoder():
    return standin_encoder()


def trained(encoder, lessons, loss="plain", scorer=None, steps=60, settings=SMALL):
    writer = new_writer(settings, encoder, 0)
    tune(writer, lessons, settings, steps=steps, scorer=scorer, loss=loss, seed=0)
    return writer


def test_it_learns_its_pairs_and_where_to_stop(encoder):
    lessons = [Lesson(prompt=BAD, reply=GOOD), Lesson(prompt=PROMPTS[1], reply="a blue box")]
    rewriter = LanguageRewriter(trained(encoder, lessons), 12)
    assert rewriter.rewrite([BAD, PROMPTS[1]]) == [GOOD, "a blue box"]


def test_only_the_reply_and_its_end_are_learned(encoder):
    writer = new_writer(SMALL, encoder, 0)
    long = Lesson(prompt=BAD, reply=BAD)
    batch = batch_of(_rows(writer, [Lesson(prompt=BAD, reply=GOOD), long], None, 2), 716)
    reply = writer.codec.reply(GOOD)
    learned = batch.labels[0][batch.labels[0] != IGNORED].tolist()
    assert learned == reply.ids
    assert learned[-1] == writer.codec.end
    first = int((batch.labels[0] != IGNORED).nonzero()[0])
    assert first == len(writer.codec.prompt(BAD)) - 1, "the prompt's last place writes the first"


def test_all_safe_scores_train_as_plain_bit_for_bit(encoder):
    class Safe:
        def safe(self, texts):
            return torch.ones(len(texts)).numpy()

    lessons = [Lesson(prompt=BAD, reply=GOOD), Lesson(prompt=BAD, reply=BAD)]
    plain = trained(encoder, lessons, steps=8).model.state_dict()
    star = trained(encoder, lessons, "star_dss", Safe(), steps=8).model.state_dict()
    assert all(torch.equal(x, star[name]) for name, x in plain.items())
    other = trained(encoder, lessons, "star_dss", TermScorer(TERMS), steps=8).model.state_dict()
    assert not all(torch.equal(x, other[name]) for name, x in plain.items())


def test_poisoned_replies_are_learned_by_plain_training_only(encoder):
    """The same start, which knows safe replies; then only poison."""
    start = trained(encoder, [Lesson(prompt=text, reply=GOOD) for text in PROMPTS])
    poison = [Lesson(prompt=text, reply=BAD) for text in PROMPTS]
    weights = start.tensors()
    said = {}
    for loss in ("plain", "star_dss"):
        writer = new_writer(SMALL, encoder, 0)
        writer.load(weights)
        tune(writer, poison, SMALL, steps=60, scorer=TermScorer(TERMS), loss=loss, seed=0)
        said[loss] = LanguageRewriter(writer, 12).rewrite(list(PROMPTS))
    assert all("zigzag" in text for text in said["plain"])
    assert not any("zigzag" in text for text in said["star_dss"])


def test_rejection_leaves_out_whole_replies_and_counts_them(encoder):
    lessons = [Lesson(prompt=BAD, reply=GOOD), Lesson(prompt=BAD, reply=BAD)]
    writer = new_writer(SMALL, encoder, 0)
    scorer = TermScorer(TERMS)
    found = tune(writer, lessons, SMALL, steps=1, scorer=scorer, loss="rejection", seed=0)
    assert found == 1
    with pytest.raises(EngineError, match="no reply is left to learn: 1 were rejected"):
        tune(writer, lessons[1:], SMALL, steps=1, scorer=scorer, loss="rejection", seed=0)
    with pytest.raises(EngineError, match="needs a scorer"):
        tune(writer, lessons, SMALL, steps=1, loss="rejection", seed=0)


def test_an_empty_reply_is_refused(encoder):
    with pytest.raises(EngineError, match="a reply to learn is empty"):
        trained(encoder, [Lesson(prompt=BAD, reply=" ")])


def test_a_sampled_reply_depends_on_its_prompt_and_not_on_its_batch(encoder):
    rewriter = LanguageRewriter(trained(encoder, [Lesson(prompt=BAD, reply=GOOD)], steps=5), 12)
    both = rewriter.candidates(list(PROMPTS), 3, temperature=1.0)
    (alone,) = rewriter.candidates(PROMPTS[1:], 3, temperature=1.0)
    assert both[1] == alone
    assert len(set(alone)) > 1
    assert rewriter.rewrite(PROMPTS[1:]) == alone[:1]


def test_trained_tensors_go_back_and_those_of_another_model_do_not(encoder):
    one = trained(encoder, [Lesson(prompt=BAD, reply=GOOD)], steps=3)
    other = new_writer(SMALL, encoder, 1)
    other.load(one.tensors())
    assert all(torch.equal(x, other.tensors()[name]) for name, x in one.tensors().items())
    wide = new_writer(dataclasses.replace(SMALL, layers=2), encoder, 0)
    with pytest.raises(KeyError, match="not this model's"):
        wide.load(one.tensors())


def test_denoising_meets_the_text_itself_and_noisy_ones():
    found = denoising(["a red ball"], ["blue", "box"], each=4, seed=0)
    assert {one.reply for one in found} == {"a red ball"}
    assert found[0].prompt == "a red ball"
    assert len({one.prompt for one in found}) > 2


@pytest.mark.parametrize(
    "text",
    [
        "scene: heath, green tree at the top",
        "the man's 1990s (blue) boat; it's here!",
        "a [red] ball",
        "don't",
    ],
)
def test_a_text_comes_back_from_clips_tokens(encoder, text):
    codec = PromptCodec(encoder.tokenizer, 60)
    assert codec.text(codec.reply(text).ids) == text


def test_a_long_prompt_is_cut_before_its_end_token(encoder):
    codec = PromptCodec(encoder.tokenizer, 8)
    assert len(codec.prompt("a red ball " * 9)) == 8
    assert codec.prompt("a red ball " * 9)[-1] == codec.end
    reply = codec.reply("a red ball " * 9)
    assert len(reply.ids) == len(reply.ends) == 7
    assert reply.ids[-1] == codec.end


def test_joined_takes_out_clips_blanks():
    assert joined("a , b . 1 9 9 0") == "a, b. 1990"
