"""Latent Guard: its formulas by hand, its sampling, and the checks that it must pass.

Trained in a made-up world: a concept is a direction, an unsafe prompt has a token of that
direction, its safe twin has not.
"""

import dataclasses
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_train.guards import registry
from alignguard_train.guards.config import LatentGuardSettings
from alignguard_train.guards.contrastive import ConceptPairs, contrastive_loss, train_layer
from alignguard_train.guards.latent_guard import (
    LatentGuard,
    LatentHead,
    MappingLayer,
    offsets_of,
)
from alignguard_train.guards.measures import auc
from alignguard_train.guards.states import TextStates
from tests.alignguard_train.guards.small import eos_first_encoder, header_for

WIDTH, TOKENS, CONCEPTS, UNSEEN, EACH = 16, 6, 30, 6, 4
SETTINGS = LatentGuardSettings(heads=2, head_width=8, out_width=16, steps=250, batch_size=30)


def prompts(
    concept: torch.Tensor | None,
    rows: int,
    generator: torch.Generator,
    theme: torch.Tensor | float = 0.0,
) -> torch.Tensor:
    """(rows, 1 + tokens, width), end-of-text state first: the mean of the tokens.

    The theme is what a prompt and its twin share.
    """
    tokens = 0.3 * torch.randn(rows, TOKENS, WIDTH, generator=generator)
    tokens[:, 4] += theme
    if concept is not None:
        tokens[:, 2] += concept
    return torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)


def as_states(rows: torch.Tensor) -> TextStates:
    cut = torch.zeros(len(rows), dtype=torch.bool)
    return TextStates(tokens=rows[:, 1:], eos=rows[:, 0], truncated=cut)


class World:
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        all_concepts = torch.randn(CONCEPTS + UNSEEN, WIDTH, generator=generator)
        self.concepts, self.unseen = all_concepts[:CONCEPTS], all_concepts[CONCEPTS:]
        themes = torch.randn(CONCEPTS, WIDTH, generator=generator)
        both = list(zip(self.concepts, themes, strict=True))
        unsafe = [prompts(one, EACH, generator, theme) for one, theme in both]
        self.pairs = ConceptPairs(
            unsafe=torch.cat(unsafe),
            safe=torch.cat([prompts(None, EACH, generator, theme) for theme in themes]),
            concept_of=torch.arange(CONCEPTS).repeat_interleave(EACH),
            concepts=self.concepts,
        )
        self.benign = as_states(prompts(None, 400, generator))
        self.test = [as_states(prompts(one, 20, generator)) for one in all_concepts]
        self.themed = [as_states(prompts(one, 20, generator, theme)) for one, theme in both]
        self.twins = [as_states(prompts(None, 20, generator, theme)) for theme in themes]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def layer(world: World) -> MappingLayer:
    return train_layer(world.pairs, SETTINGS, seed=0)


def head(layer: MappingLayer, concepts: torch.Tensor, benign: TextStates | None = None):
    names = [str(i) for i in range(len(concepts))]
    offsets = torch.zeros(len(concepts)) if benign is None else offsets_of(layer, benign, concepts)
    return LatentHead(layer, names, concepts, offsets)


def of_own_concept(layer: MappingLayer, world: World) -> float:
    """Area between a concept's scores on its own prompts and on those of the other concepts."""
    scorer = head(layer, world.concepts)
    scores = np.stack([scorer.matrix(one) for one in world.test[:CONCEPTS]])
    own = np.concatenate([scores[i, :, i] for i in range(CONCEPTS)])
    others = [scores[i, :, j] for i, j in itertools.permutations(range(CONCEPTS), 2)]
    return auc(own, np.concatenate(others))


def test_the_cheap_scores_are_those_of_every_pair_by_itself():
    layer = MappingLayer(WIDTH, SETTINGS)
    rows, concepts = torch.randn(3, 1 + TOKENS, WIDTH), torch.randn(2, WIDTH)
    found = layer(rows, concepts)
    for i, j in itertools.product(range(3), range(2)):
        query, key = layer.query(concepts[j]), layer.key(rows[i])
        value = layer.value(rows[i])
        parts = []
        for h in range(2):
            own = slice(8 * h, 8 * h + 8)
            weights = (key[:, own] @ query[own] / 8**0.5).softmax(dim=0)
            parts.append(weights @ value[:, own])
        of_prompt, of_concept = layer.prompt_out(torch.cat(parts)), layer.concept_out(query)
        wanted = layer.scale * torch.cosine_similarity(of_prompt, of_concept, dim=0)
        assert found[i, j].item() == pytest.approx(wanted.item(), abs=1e-5)


def test_the_published_sizes_have_the_published_number_of_parameters():
    layer = MappingLayer(768, LatentGuardSettings())
    assert sum(x.numel() for x in layer.parameters()) == 1_312_513


def test_the_loss_of_a_hand_made_case():
    s = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    r = torch.tensor([[0.5, -1.0], [0.0, 1.0]])
    exp = torch.exp
    to_prompt = [
        -torch.log(exp(s[j, j]) / (exp(s[:, j]).sum() + exp(r[:, j]).sum())) for j in (0, 1)
    ]
    largest = exp(torch.tensor(0.5)) + exp(torch.tensor(1.0))
    to_concept = [-torch.log(exp(s[i, i]) / (exp(s[i]).sum() + largest)) for i in (0, 1)]
    wanted = sum(to_prompt) / 2 + sum(to_concept) / 2
    assert contrastive_loss(s, r).item() == pytest.approx(float(wanted), abs=1e-6)
    without = [torch.logsumexp(s, 0) - s.diagonal(), torch.logsumexp(s, 1) - s.diagonal()]
    assert contrastive_loss(s, None).item() == pytest.approx(float(sum(x.mean() for x in without)))


def test_no_step_holds_a_concept_twice(world, monkeypatch):
    seen = []
    real = MappingLayer.forward

    def watched(self, rows, concepts):
        seen.append(concepts)
        return real(self, rows, concepts)

    monkeypatch.setattr(MappingLayer, "forward", watched)
    train_layer(world.pairs, LatentGuardSettings(heads=1, steps=3, batch_size=7), seed=0)
    assert [len(batch) for batch in seen] == [7, 7, 7]
    assert all(len(batch.unique(dim=0)) == 7 for batch in seen)


def test_a_pair_without_a_twin_teaches_too(world):
    missing = world.pairs.safe.clone()
    missing[: 10 * EACH] = torch.nan
    pairs = ConceptPairs(
        unsafe=world.pairs.unsafe, safe=missing, concept_of=world.pairs.concept_of,
        concepts=world.concepts,
    )  # fmt: skip
    trained = train_layer(pairs, LatentGuardSettings(heads=1, steps=3), seed=0)
    assert all(torch.isfinite(x).all() for x in trained.parameters())


def test_one_concept_is_not_enough(world):
    pairs = ConceptPairs(
        unsafe=world.pairs.unsafe[:EACH], safe=world.pairs.safe[:EACH],
        concept_of=torch.zeros(EACH, dtype=torch.long), concepts=world.concepts[:1],
    )  # fmt: skip
    with pytest.raises(EngineError, match="two or more: got 1"):
        train_layer(pairs, SETTINGS, seed=0)


def test_concepts_shuffled_among_the_pairs_teach_nothing_of_concepts(world, layer):
    order = torch.randperm(CONCEPTS * EACH, generator=torch.Generator().manual_seed(1))
    shuffled = ConceptPairs(
        unsafe=world.pairs.unsafe, safe=world.pairs.safe,
        concept_of=world.pairs.concept_of[order], concepts=world.concepts,
    )  # fmt: skip
    assert of_own_concept(layer, world) > 0.9
    assert of_own_concept(train_layer(shuffled, SETTINGS, seed=0), world) == pytest.approx(
        0.5, abs=0.1
    )


def trained_without(world: World, **ablation: bool) -> MappingLayer:
    return train_layer(world.pairs, dataclasses.replace(SETTINGS, **ablation), seed=0)


def of_twins(layer: MappingLayer, world: World) -> float:
    """Area between seen concepts' prompts and their twins, which share all but the concept."""
    scorer = head(layer, world.concepts)
    unsafe, twins = (
        np.concatenate([scorer.scores(one) for one in sets]) for sets in (world.themed, world.twins)
    )
    return auc(unsafe, twins)


def of_unseen(layer: MappingLayer, world: World) -> float:
    scorer = head(layer, world.unseen)
    unsafe = np.concatenate([scorer.scores(one) for one in world.test[CONCEPTS:]])
    return auc(unsafe, scorer.scores(world.benign))


def test_without_safe_twins_it_takes_a_twin_for_its_concept(world, layer):
    assert of_twins(layer, world) > 0.9
    assert of_twins(trained_without(world, safe_twins=False), world) < of_twins(layer, world) - 0.03


def test_without_cross_attention_it_finds_fewer_unseen_concepts(world, layer):
    without = trained_without(world, cross_attention=False)
    assert of_unseen(without, world) < of_unseen(layer, world) - 0.02


def test_a_concept_added_without_training_raises_recall_on_its_prompts(world, layer):
    listed = head(layer, world.concepts[:5], world.benign)
    threshold = np.percentile(listed.scores(world.benign), 99)
    before, after, named = [], [], []
    for concept, own in zip(world.unseen, world.test[CONCEPTS:], strict=True):
        longer = head(layer, torch.cat([world.concepts[:5], concept[None]]), world.benign)
        before.append((listed.scores(own) >= threshold).mean())
        after.append((longer.scores(own) >= threshold).mean())
        named.append(longer.details(own).count("5") / len(own))
    assert np.mean(after) > np.mean(before) + 0.3
    assert np.mean(named) > 0.7, "and the reason names it"


def test_an_offset_is_the_99th_percentile_of_the_concepts_benign_scores(world, layer):
    plain = head(layer, world.concepts).matrix(world.benign)
    moved = head(layer, world.concepts, world.benign).matrix(world.benign)
    assert np.allclose(plain - moved, np.percentile(plain, 99, axis=0), atol=1e-4)
    assert (moved > 0).mean(axis=0).max() <= 0.011


def test_scores_do_not_depend_on_the_batch(world, layer):
    scorer = head(layer, world.concepts)
    together = scorer.scores(world.benign)
    alone = [scorer.scores(world.benign[i : i + 1])[0] for i in range(5)]
    assert np.allclose(together[:5], alone, atol=1e-4)


def guard(blacklist: dict[str, str], **more) -> LatentGuard:
    encoder = eos_first_encoder()
    torch.manual_seed(0)
    layer = MappingLayer(encoder.identity.width, SETTINGS)
    return LatentGuard(
        header_for(encoder, "latent-guard"), encoder, layer, blacklist,
        references=["a b", "c"], trained_on=["x.a"], **more,
    )  # fmt: skip


def test_an_empty_blacklist_allows_with_its_reason():
    (decided,) = guard({}).decide(["a"])
    assert (decided.action, decided.reason, decided.failed) == ("allow", "empty_blacklist", False)
    assert guard({}).score(["a", "b"]).tolist() == [-np.inf, -np.inf]


def test_an_unseen_concept_is_used_by_its_text_and_said(caplog):
    other = guard({"x.a": "a"}).with_blacklist({"x.a": "a", "x.new": "c d"})
    assert "1 of 2 concepts were not in the guard's training and are used by their text: x.new" in (
        caplog.text
    )
    assert other.head.names == ("x.a", "x.new")
    assert np.isfinite(other.score(["c d"])).all()


@pytest.mark.parametrize(
    ("text", "says"), [("", "'k': the concept's text is empty"), ("a b c d e f g", "9 tokens")]
)
def test_texts_that_name_no_concept_are_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        guard({"x.a": "a"}).with_blacklist({"k": text})


def test_references_are_no_run_of_the_alphabet():
    texts = [f"{letter} {number}" for letter in "abcdefgh" for number in range(10)]
    prompts = [SimpleNamespace(text=text, unsafe=False) for text in texts]
    training: Any = SimpleNamespace(prompts=prompts)
    drawn = registry._references(training, LatentGuardSettings(references=20), seed=0)
    assert len(set(drawn)) == 20
    assert len({text[0] for text in drawn}) >= 6
