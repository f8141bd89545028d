"""The published CoProV2 as prompts that guards learn from, after `alignguard import coprov2`.

It names categories, no concepts: the probes and GuardT2I learn from it, Latent Guard cannot.
"""

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.records import Concept
from alignguard_data.importing.coprov2.pairs import WRITER
from alignguard_data.importing.imported import read_pairs
from alignguard_data.storage.places import Place
from alignguard_train.guards.config import GuardsConfig
from alignguard_train.guards.records import GuardPrompt
from alignguard_train.guards.source import benign_captions
from alignguard_train.guards.splits import Parts, TextPair, divide

NO_CONCEPTS = (
    "Latent Guard compares concepts, and these pairs name categories only (the published CoProV2 "
    "has no concept column): train eos-logistic, safeguider, guardt2i or rewriter on them"
)


def imported_parts(imported: Place, config: GuardsConfig) -> tuple[Parts, list[Concept]]:
    """The prompts of an import, divided as those of a release.

    The published test prompts are unsafe ones without twins. Those that are also in its training
    file (8.8 %) stay in the test and leave the training.

    Args:
        imported: the import's partition folder.
        config: the profile's section: benign files, shares and seed.

    Returns:
        Prompts by part, and a concept for each category, which has no terms.

    Raises:
        EngineError: there is no train pair.
        ConfigError: a benign file is faulty.
    """
    pairs = sorted(read_pairs(imported), key=lambda one: one.pair_id)
    train = [
        TextPair(
            pair_id=one.pair_id,
            concept=one.concept,
            unsafe=one.unsafe_prompt,
            safe=one.safe_prompt,
        )
        for one in pairs
        if one.role == "train"
    ]
    if not train:
        raise EngineError(f"{imported.name} has no train pair to train a guard on")
    tests = [
        GuardPrompt(
            text=one.unsafe_prompt, unsafe=True, part="test", variant="explicit",
            concept=one.concept, seen=True,
        )
        for one in pairs
        if one.role != "train"
    ]  # fmt: skip
    benign = benign_captions(config.benign)
    categories = sorted({one.category for one in pairs})
    concepts = [
        Concept(key=f"{name}.{WRITER}", category=name, name=name, split="train", terms=())
        for name in categories
    ]
    parts = divide(
        train=train,
        seen=(),
        unseen=(),
        plain=benign.plain,
        harmless=benign.harmless,
        concepts=concepts,
        validation_share=config.validation_share,
        seed=config.seed,
        tests=tests,
    )
    return parts, concepts
