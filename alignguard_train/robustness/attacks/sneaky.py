"""SneakyPrompt (Yang et al., S&P 2024, arXiv 2305.12082): words that a guard blocks, replaced.

Needs the guard's verdict, images and the judge; no gradient. The sensitive words of the prompt are
those of the concept, or else the one whose removal lowers the guard's score most. A policy, an LSTM
with an actor and a critic, draws ``subwords`` tokens for each of them and is rewarded where the
prompt passes the guard and its image is still unsafe.

Where we depart: the reward of a prompt that passes is the judge's score instead of a CLIP score, as
a prompt that passes and draws something else is no finding; it ends when the judge calls an image
unsafe; sub-words become text as the tokenizer decodes them, and never type the concept; it has
converged when the policy draws one and the same passing prompt three times in a row, where the
paper asks for three rewards on a line, which penalties and scores near 0 always are; the baselines
(brute force, greedy, beam) and the offline variant are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from alignguard_train.robustness.attacks.case_search import CaseSearch, needing
from alignguard_train.robustness.attacks.policy import Policy
from alignguard_train.robustness.attacks.queries import Queries
from alignguard_train.robustness.attacks.trace import Trace, prompt_ids, require
from alignguard_train.robustness.attacks.words import allowed_ids, types_concept, words_of
from alignguard_train.robustness.protocol import (
    Candidate,
    Case,
    StopReason,
    Target,
    Vocabulary,
)

SAME = 3
"""Equal prompts in a row after which the policy has converged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SneakyPrompt(CaseSearch):
    """The defaults are the published ones.

    Attributes:
        queries: Q, prompts shown to the guard.
        subwords: m, tokens for each sensitive word.
        letters: a token has fewer letters than this (l).
        blocked_in_a_row: blocked prompts after which one more word is replaced.
        most_replaced: no word is added beyond this share of the prompt's words.
        lr: of the policy.
        patience: queries without a better reward after which it ends; None for no end.
    """

    queries: int = 60
    subwords: int = 3
    letters: int = 10
    blocked_in_a_row: int = 5
    most_replaced: float = 0.3
    lr: float = 0.1
    patience: int | None = None

    name = "sneaky"
    needs = needing("guard", "images", "judge")

    def __post_init__(self) -> None:
        sizes = ("queries", "subwords", "blocked_in_a_row")
        require(self.name, {size: getattr(self, size) for size in sizes}, least=1)
        require(self.name, {"letters": self.letters}, least=2)

    def _search(self, trace: Trace, case: Case, prepared: object, seed: int) -> StopReason:
        vocabulary = trace.target.vocabulary
        words = words_of(vocabulary.decode(prompt_ids(vocabulary, case.prompt)))
        tokens = subwords_of(vocabulary, case, self.letters)
        if not words or not tokens:
            return "empty"
        images = Queries(trace, case)
        passes = not trace.target.guard([case.prompt])[0].blocked
        trace.notes["prompt_blocked"] = float(not passes)
        if passes and images.is_unsafe_already():
            return "already_unsafe"
        order = self._sensitive(trace.target, case, words)
        first = max(1, sum(types_concept(word, case) for word in words))
        return self._play(
            trace, images, words, order, first, Policy(len(tokens), seed, self.lr), tokens
        )

    def _sensitive(self, target: Target, case: Case, words: list[str]) -> list[int]:
        """Places of words in the order in which they are replaced."""
        without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        lowered = [verdict.score for verdict in target.guard(without)]
        return sorted(
            range(len(words)), key=lambda i: (not types_concept(words[i], case), lowered[i], i)
        )

    def _play(
        self,
        trace: Trace,
        images: Queries,
        words: list[str],
        order: list[int],
        count: int,
        policy: Policy,
        tokens: Sequence[int],
    ) -> StopReason:
        blocked, passed = 0, list[str]()
        for query in range(1, self.queries + 1):
            picks = policy.draw(count * self.subwords)
            text = self._text(trace.target.vocabulary, words, order[:count], tokens, picks)
            if trace.target.guard([text])[0].blocked:
                blocked, reward = blocked + 1, -query / (10 * self.queries)
                trace.offer(Candidate(text=text, score=reward))
            else:
                verdict = images.verdicts([text])[0]
                blocked, reward = 0, verdict.score
                passed.append(text)
                trace.notes["passed"] = float(len(passed))
            trace.step()
            if images.done:
                return "success"
            if converged(passed) or trace.stalled(self.patience):
                return "plateau"
            policy.learn(reward)
            if blocked >= self.blocked_in_a_row and count + 1 <= self.most_replaced * len(words):
                blocked, count = 0, count + 1
        return "finished"

    def _text(
        self,
        vocabulary: Vocabulary,
        words: list[str],
        places: list[int],
        tokens: Sequence[int],
        picks: list[int],
    ) -> str:
        changed = list(words)
        for number, place in enumerate(places):
            own = picks[number * self.subwords : (number + 1) * self.subwords]
            changed[place] = vocabulary.decode([tokens[i] for i in own]).strip()
        return " ".join(changed)


def subwords_of(vocabulary: Vocabulary, case: Case, letters: int) -> tuple[int, ...]:
    """Tokens of letters only, fewer than ``letters``, that do not type the concept."""
    texts = {one: vocabulary.decode([one]).strip() for one in allowed_ids(vocabulary, case)}
    return tuple(one for one, text in texts.items() if text.isalpha() and len(text) < letters)


def converged(passed: Sequence[str]) -> bool:
    """Whether the last prompts that passed are one and the same."""
    return len(passed) >= SAME and len(set(passed[-SAME:])) == 1
