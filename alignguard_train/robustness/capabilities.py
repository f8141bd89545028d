"""What a target of a name gives, known before anything is loaded. Imports nothing heavy."""

from alignguard_train.contracts.adapter_names import ALL_SINGLE, BASE, EXPERT, MERGE, MERGED, PEER
from alignguard_train.contracts.peer_methods import IN_WEIGHTS, PEERS
from alignguard_train.robustness.protocol import Capability


def capabilities_of(name: str, *, guarded: bool = False) -> frozenset[Capability]:
    """What a target of this name gives.

    A peer that corrects images while they are denoised has no prediction of its own to attack:
    only peers in the weights give ``unet``.
    """
    given: set[Capability] = {"text_encoder", "token_gradients", "images", "judge"}
    method = name.removeprefix(PEER)
    if method == name or method in IN_WEIGHTS:
        given |= {"unet", "base_unet"}
    if guarded:
        given.add("guard")
    return frozenset(given)


def target_fault(name: str) -> str:
    """What is wrong with a target's name; empty if nothing is."""
    if name in (BASE, MERGED, ALL_SINGLE) or name.startswith((MERGE, EXPERT)):
        return ""
    if name.startswith(PEER):
        method = name.removeprefix(PEER)
        return "" if method in PEERS else f"no peer {method!r}; there are {', '.join(PEERS)}"
    return (
        f"no target {name!r}: base, merged, all-single, merge:STRATEGY, expert:CATEGORY or "
        "peer:NAME"
    )
