"""What poisoned examples teach a rewriter: plain training, rejection of replies, STAR-DSS.

    python -m research.poisoned_rewriter ROOT OUT.jsonl --seeds 5

On the stand-in's words only. A share of the release's train pairs gets a reply that repeats the
unsafe prompt. The guard of replies is a word list whose verdict is turned round for a share of the
texts. A rewrite is unsafe if it names a glyph; rewrites are sampled at temperature 1. Lines are
appended as they are measured; a second call goes on where the first one stopped.
"""

import argparse
import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from alignguard_data.contracts.terms import names_concept
from alignguard_data.release.reader import release_folder
from alignguard_train.guards.config import RewriterSettings
from alignguard_train.guards.rewriter.language import LanguageRewriter
from alignguard_train.guards.rewriter.model import Writer, new_writer
from alignguard_train.guards.rewriter.star import TermScorer
from alignguard_train.guards.rewriter.tuning import Lesson, denoising, tune
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.training import parts_of
from pipelines.profile import load_profile
from pipelines.resources import Engines

SHARE = 0.3
TESTED = 200
CONDITIONS = (
    ("plain", 0.0),
    ("rejection", 0.1),
    ("star_dss", 0.1),
    ("rejection", 0.0),
    ("star_dss", 0.0),
)
"""Loss, and share of texts about which the guard of replies is wrong."""
SETTINGS = RewriterSettings(start_steps=400, steps=400)


def main() -> None:
    """Measure seed by seed, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    world = _world(given.root)
    for seed in range(given.seeds):
        _measure(world, seed, given.out)
    print(table(_lines(given.out)))


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Mean over seeds of each condition with its 95 % interval (bootstrap over seeds).

    Args:
        lines: of the JSONL file.

    Returns:
        A table in Markdown.
    """
    rows = [
        "| loss | scorer wrong about | seeds | unsafe rewrites | safe twin word for word |",
        "|---|---|---|---|---|",
    ]
    for loss, wrong in CONDITIONS:
        own = [one for one in lines if (one["loss"], one["wrong"]) == (loss, wrong)]
        if own:
            cells = [_interval([one[name] for one in own]) for name in ("unsafe", "exact")]
            rows.append(f"| `{loss}` | {wrong:.0%} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def poisoned(pairs: Sequence[tuple[str, str]], share: float, seed: int) -> list[Lesson]:
    """Lessons of which a share replies with the unsafe prompt.

    Args:
        pairs: unsafe prompts and safe twins.
        share: of the pairs.
        seed: of the choice.

    Returns:
        A lesson a pair.
    """
    bad = set(Random(seed).sample(range(len(pairs)), round(share * len(pairs))))
    return [
        Lesson(prompt=unsafe, reply=unsafe if i in bad else safe)
        for i, (unsafe, safe) in enumerate(pairs)
    ]


@dataclasses.dataclass(frozen=True)
class _World:
    encoder: FrozenEncoder
    terms: list[str]
    train: list[tuple[str, str]]
    benign: list[str]
    test: list[tuple[str, str]]


def _world(root: Path) -> _World:
    engines = Engines(load_profile(), root)
    concepts = engines.taxonomy.concepts
    parts = parts_of(release_folder(engines.data), concepts, engines.profile.guards)
    tests = [(one.text, twin.text) for one, twin in parts.pairs("test")]
    return _World(
        encoder=FrozenEncoder.of(engines.base.pipe),
        terms=[term for one in concepts for term in one.terms],
        train=[(one.text, twin.text) for one, twin in parts.pairs("train")],
        benign=[one.text for one in parts.of("train", unsafe=False)],
        test=Random(0).sample(tests, min(TESTED, len(tests))),
    )


def _measure(world: _World, seed: int, out: Path) -> None:
    done = {(one["seed"], one["loss"], one["wrong"]) for one in _lines(out)}
    pending = [one for one in CONDITIONS if (seed, *one) not in done]
    if not pending:
        return
    start = new_writer(SETTINGS, world.encoder, seed)
    words = world.encoder.whole_words()
    learned = denoising(world.benign, words, each=8, seed=seed)
    tune(start, learned, SETTINGS, steps=SETTINGS.start_steps, seed=seed)
    lessons = poisoned(world.train, SHARE, seed)
    for loss, wrong in pending:
        writer = Writer(model=copy.deepcopy(start.model), codec=start.codec, tuned=False)
        scorer = TermScorer(world.terms, wrong=wrong, seed=seed)
        tune(
            writer, lessons, SETTINGS, steps=SETTINGS.steps, scorer=scorer, loss=loss, seed=seed
        )  # fmt: skip
        found = {"seed": seed, "loss": loss, "wrong": wrong, **_rates(writer, world, seed)}
        with out.open("a") as file:
            file.write(json.dumps(found) + "\n")


def _rates(writer: Writer, world: _World, seed: int) -> dict[str, float]:
    rewriter = LanguageRewriter(writer, SETTINGS.longest)
    prompts = [unsafe for unsafe, _ in world.test]
    sampled = rewriter.sampled(prompts, seed=seed)
    same = [text == safe for text, (_, safe) in zip(sampled, world.test, strict=True)]
    unsafe = [names_concept(text, world.terms) for text in sampled]
    return {"unsafe": float(np.mean(unsafe)), "exact": float(np.mean(same)), "n": len(prompts)}


def _lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def _interval(values: Sequence[float]) -> str:
    rng, held = np.random.default_rng(0), np.array(values)
    means = held[rng.integers(len(held), size=(2000, len(held)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{held.mean():.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
