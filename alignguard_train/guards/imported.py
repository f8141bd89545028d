"""The published CoProV2 as prompts that guards learn from, after `alignguard import coprov2`.

It names categories, no concepts: the probes and GuardT2I learn from it, Latent Guard cannot.
"""

from pathlib import Path

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.contracts.records import Concept
from alignguard_data.importing.coprov2.pairs import WRITER
from alignguard_data.importing.imported import list_imports, read_pairs
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from alignguard_train.guards.config import (
    GuardsConfig,
    LatentGuardSettings,
    RewriterSettings,
    gate_of,
    settings_of,
)
from alignguard_train.guards.records import GuardPrompt
from alignguard_train.guards.shield.config import ShieldSettings
from alignguard_train.guards.softening.config import SafreeSettings, SLDSettings
from alignguard_train.guards.source import benign_captions
from alignguard_train.guards.splits import Parts, TextPair, divide

NO_CONCEPTS = (
    "Latent Guard compares concepts, and these pairs name categories only (the published CoProV2 "
    "has no concept column): train eos-logistic, safeguider, guardt2i or rewriter on them"
)
_NEEDS = {
    LatentGuardSettings: "compares a prompt with concepts",
    SLDSettings: "draws away from the names of concepts",
    SafreeSettings: "projects away from the names of concepts",
    ShieldSettings: "leaves out the words that name a concept",
}


def unfit(kind: str, config: GuardsConfig) -> str:
    """Why a guard cannot learn from an import.

    Args:
        kind: its name.
        config: the profile's section, with its settings.

    Returns:
        A sentence about what it needs and imports lack; empty for a guard that can learn from one.
    """
    own = settings_of(kind, config.params.get(kind, {}))
    lacking = "and an import names categories only, as the published CoProV2 has no concept column"
    for settings in (own, *([settings_of(gate, {})] if (gate := gate_of(own)) else [])):
        if needs := _NEEDS.get(type(settings)):
            gate = "" if settings is own else f"its gate {gate_of(own)} "
            return f"{kind}: {gate}{needs}, {lacking}"
    if isinstance(own, RewriterSettings) and own.loss != "plain" and own.scorer == "terms":
        return (
            f"{kind}: its scorer of replies looks for the concepts' terms, {lacking}: set "
            "guards.params.rewriter.scorer to probe, or its loss to plain"
        )
    return ""


def imported_folder(data: DataRoot, name: str) -> Place:
    """The folder of a finished import.

    Args:
        data: the data root.
        name: of an import, or its folder.

    Returns:
        Its partition folder.

    Raises:
        ConfigError: there is no such import; names those that there are.
    """
    found = {folder.name: folder for folder in list_imports(data)}
    wanted = {name, str(Path(name).absolute())}
    for folder in found.values():
        if {folder.name, str(folder)} & wanted:
            return folder
    known = ", ".join(sorted(found)) or "none: alignguard import coprov2 FILE"
    raise ConfigError("alignguard guard", [f"--imported: no import {name!r}; there are {known}"])


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
