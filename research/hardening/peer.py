"""AdvUnlearn under the attacks of hardening: a peer that trains the text encoder under attack."""

import dataclasses
from pathlib import Path
from typing import Any

from alignguard_data.release.reader import release_folder
from alignguard_train.contracts.adapter_names import peer_name
from alignguard_train.evaluation.contenders import EXAMPLES, Contender
from alignguard_train.peers.registry import make_peer
from alignguard_train.peers.release_concepts import release_concepts
from benchmarks.peers import chosen
from research.hardening.control import cases_of, evaluated
from research.hardening.measure import engines_of, line_of

ADV_UNLEARN = "adv_unlearn"
PEER_ARM = peer_name(ADV_UNLEARN)


def measure_peer(folder: Path, seed: int) -> dict[str, Any]:
    """Train, attack and evaluate the peer on a seed's release, at the strength chosen for it.

    Args:
        folder: where each seed has its data root.
        seed: of training, attacks and replays.

    Returns:
        One line of the results.

    Raises:
        InputMissing: the seed was not hardened here.
    """
    engines = engines_of(folder, seed)
    given = {**chosen(ADV_UNLEARN), "seed": seed}
    evaluation = dataclasses.replace(
        engines.profile.evaluation, peers=(ADV_UNLEARN,), peer_params={ADV_UNLEARN: given}
    )
    cases = cases_of(engines, {}, (PEER_ARM,), evaluation, key=ADV_UNLEARN)
    concepts = release_concepts(release_folder(engines.data), examples=EXAMPLES)
    drawn = Contender(name=PEER_ARM, peer=make_peer(ADV_UNLEARN, given))
    return line_of(seed, PEER_ARM, [], cases, evaluated(engines, [drawn], concepts))
