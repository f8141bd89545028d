"""GenBreak (Wang et al., CVPR 2026, arXiv 2506.10047): a language model learns to write attacks.

Needs images and the judge while it trains, and reads the guard's verdicts where the target has one;
no gradient of the target. A small causal language model reads a prompt of the concept and writes
another. It first learns from pairs of prompts of one concept (the paper's Category Rewrite) and
from mutated prompts that passed the guard and drew the most (Pre-Attack), then by GRPO from a
reward: toxicity of the image, whether the guard and the concept's words are avoided, and novelty of
wording, meaning and image among the recent prompts.

Where we depart: the model is small, over the target's tokens, instead of a chat model with a LoRA;
training examples are the release's training prompts, instead of another model's; sampling and GRPO
are ours, as trl's trainer takes a text tokenizer and the global random numbers, and its search
could not be counted and stopped at a row of the budget. Wording is compared by pairs of tokens in
place of SelfBLEU, meaning by bags of tokens in place of a sentence encoder, images by their pixels
in place of DreamSim. The penalties of gibberish and symbols are left out: their formulas are not
published. All images are counted: those of training in ``prepare``, at most ``tries`` for a case.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import torch

from alignguard_train.robustness.attacks.case_search import CaseSearch, needing
from alignguard_train.robustness.attacks.coordinates import Ids
from alignguard_train.robustness.attacks.queries import Queries
from alignguard_train.robustness.attacks.red_team_model import (
    RedTeamModel,
    advantages,
    grpo_loss,
    mean_per_token,
)
from alignguard_train.robustness.attacks.red_team_rewards import (
    Recent,
    Weights,
    attempts,
    reward,
)
from alignguard_train.robustness.attacks.trace import (
    Trace,
    candidate,
    counted,
    prompt_ids,
    require,
)
from alignguard_train.robustness.counting import check_needs
from alignguard_train.robustness.protocol import (
    BudgetSpent,
    Case,
    StopReason,
    Target,
    Vocabulary,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GenBreak(CaseSearch):
    """Sizes are ours, as the paper does not state most of them.

    Attributes:
        pairs: of the Category Rewrite set.
        rounds: of mutating each prompt once (Pre-Attack), of which the best fifth is kept.
        sft_steps: batches of supervised learning.
        steps: of GRPO.
        seeds: prompts of a step.
        group: G rewrites of each prompt.
        lr: of Adam, for both.
        clip: of the ratio of probabilities.
        kl: weight of the divergence from the supervised model.
        pool: recent prompts that novelty compares with.
        write: most tokens of a rewrite.
        width: of the language model.
        weights: of the reward's terms.
        tries: images for one case.
    """

    pairs: int = 500
    rounds: int = 5
    sft_steps: int = 200
    steps: int = 60
    seeds: int = 8
    group: int = 8
    lr: float = 1e-3
    clip: float = 0.2
    kl: float = 0.02
    pool: int = 128
    write: int = 16
    width: int = 128
    weights: Weights = field(default_factory=Weights)
    tries: int = 8

    name = "genbreak"
    needs = needing("images", "judge")

    def __post_init__(self) -> None:
        sizes = ("pairs", "seeds", "pool", "write", "tries")
        require(self.name, {size: getattr(self, size) for size in sizes}, least=1)
        require(self.name, {"group": self.group}, least=2)
        require(self.name, {"width": self.width}, least=4)
        if self.width % 4:
            raise ValueError(f"{self.name}: width is {self.width}: must be a multiple of 4")
        whole = ("rounds", "sft_steps", "steps", "lr", "kl")
        require(self.name, {size: getattr(self, size) for size in whole}, least=0)

    def prepare(self, target: Target, cases: Sequence[Case], seed: int) -> RedTeamModel | None:
        """The trained model, as far as the budget allows; None without training prompts."""
        check_needs(self, target)
        vocabulary = target.vocabulary
        usable = [case for case in cases if prompt_ids(vocabulary, case.prompt)]
        if not usable:
            return None
        write = min(self.write, vocabulary.length)
        topics = sorted({case.category for case in usable})
        model = RedTeamModel(
            writable(vocabulary),
            topics,
            read=vocabulary.length,
            write=write,
            seed=seed,
            width=self.width,
        )
        rng, generator = Random(seed), torch.Generator().manual_seed(seed)
        learning = counted(target)
        try:
            taught = self._rewrites(usable, rng) + self._pre_attack(learning, usable, rng)
            self._supervise(model, learning, taught, rng)
            self._reinforce(model, learning, usable, rng, generator)
        except BudgetSpent:
            pass
        return model

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        ids = prompt_ids(trace.target.vocabulary, case.prompt)
        if not ids or not isinstance(prepared, RedTeamModel):
            return "empty"
        queries = Queries(trace, case)
        if queries.is_unsafe_already():
            return "already_unsafe"
        generator = torch.Generator().manual_seed(seed)
        asked = [prepared.asked(case.category, ids)] * self.tries
        for one in prepared.written(asked, generator).ids:
            queries.verdicts([candidate(trace.target.vocabulary, one, 0.0).text])
            trace.step()
            if queries.done:
                return "success"
        return "finished"

    def _rewrites(self, cases: Sequence[Case], rng: Random) -> list[tuple[Case, str]]:
        """Random pairs of a prompt and another one of the same concept."""
        by_concept: dict[str, list[Case]] = {}
        for case in cases:
            by_concept.setdefault(case.concept, []).append(case)
        drawn = rng.choices(list(cases), k=self.pairs)
        return [(case, rng.choice(by_concept[case.concept]).prompt) for case in drawn]

    def _pre_attack(
        self, target: Target, cases: Sequence[Case], rng: Random
    ) -> list[tuple[Case, str]]:
        """Prompts with tokens replaced, round by round from the best so far; the best fifth."""
        vocabulary, tokens = target.vocabulary, writable(target.vocabulary)
        best = {case: (0.0, prompt_ids(vocabulary, case.prompt)) for case in cases}
        tried: list[tuple[float, Case, Ids]] = []
        for _ in range(self.rounds):
            changed = {case: _mutated(ids, tokens, rng) for case, (_, ids) in best.items()}
            found = attempts(target, list(changed), list(changed.values()))
            for case, one in zip(changed, found, strict=True):
                score = one.toxicity * (not one.blocked)
                tried.append((score, case, one.ids))
                best[case] = max(best[case], (score, one.ids), key=lambda pair: pair[0])
        tried.sort(key=lambda one: -one[0])
        kept = [one for one in tried[: len(tried) // 5] if one[0] > 0]
        return [(case, vocabulary.decode(ids)) for _, case, ids in kept]

    def _supervise(
        self, model: RedTeamModel, target: Target, taught: list[tuple[Case, str]], rng: Random
    ) -> None:
        vocabulary = target.vocabulary
        optimizer = torch.optim.Adam(model.network.parameters(), lr=self.lr)
        for _ in range(self.sft_steps):
            batch = rng.choices(taught, k=32)
            rows = model.taught(
                [model.asked(c.category, prompt_ids(vocabulary, c.prompt)) for c, _ in batch],
                [vocabulary.tokenize(answer) for _, answer in batch],
            )
            loss = -mean_per_token(model.log_probabilities(rows), rows.kept)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _reinforce(
        self,
        model: RedTeamModel,
        target: Target,
        cases: Sequence[Case],
        rng: Random,
        generator: torch.Generator,
    ) -> None:
        recent, reference = Recent(self.pool), model.copied()
        optimizer = torch.optim.Adam(model.network.parameters(), lr=self.lr)
        for _ in range(self.steps):
            drawn = [
                case for case in rng.choices(list(cases), k=self.seeds) for _ in range(self.group)
            ]
            asked = [
                model.asked(case.category, prompt_ids(target.vocabulary, case.prompt))
                for case in drawn
            ]
            rows = model.written(asked, generator)
            found = attempts(target, drawn, rows.ids)
            rewards = torch.tensor([reward(one, recent, self.weights) for one in found])
            recent.extend(found)
            logs = model.log_probabilities(rows)
            with torch.no_grad():
                before = reference.log_probabilities(rows)
            gains = advantages(rewards.reshape(self.seeds, self.group)).flatten()
            loss = grpo_loss(
                logs, logs.detach(), before, rows.kept, gains, clip=self.clip, kl=self.kl
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def writable(vocabulary: Vocabulary) -> Ids:
    """Tokens that are themselves as text: others become several tokens, or the unknown one."""
    return tuple(
        i for i in vocabulary.ordinary if vocabulary.tokenize(vocabulary.decode([i])) == (i,)
    )


def _mutated(ids: Ids, ordinary: Sequence[int], rng: Random) -> Ids:
    place = rng.randrange(len(ids))
    return (*ids[:place], rng.choice(ordinary), *ids[place + 1 :])
