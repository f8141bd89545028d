"""What a target of a name gives, known before anything is loaded. Imports nothing heavy."""

from alignguard_train.contracts.adapter_names import (
    ALL_SINGLE,
    BASE,
    BEHIND,
    EXPERT,
    GUARD,
    HARDENED,
    MERGE,
    MERGED,
    PEER,
    behind_guard,
    guard_of,
)
from alignguard_train.contracts.peer_methods import IN_TEXT_ENCODER, IN_WEIGHTS, PEERS
from alignguard_train.guards.config import DRAWING, GUARDS
from alignguard_train.robustness.protocol import Capability


def capabilities_of(
    name: str, *, guarded: bool = False, gated: bool = False
) -> frozenset[Capability]:
    """What a target of this name gives.

    A peer that corrects images while they are denoised has no prediction of its own to attack:
    only peers in the weights give ``unet``. A guard on prompts takes nothing away: a search may ask
    the model behind it, and what it finds goes through the guard. A gate draws each text with
    another adapter, so there is no one denoiser to ask for predictions.
    """
    given: set[Capability] = {"text_encoder", "token_gradients", "images", "judge"}
    model = behind_guard(name)
    method = model.removeprefix(PEER)
    if method == model or method in IN_WEIGHTS:
        given |= {"base_unet"} if gated else {"unet", "base_unet"}
    if guarded or guard_of(name):
        given.add("guard")
    return frozenset(given)


def has_own_encoder(name: str) -> bool:
    """Whether a target reads prompts with another text encoder than the base model's.

    An attack on text states is then searched on it, not once for all targets.
    """
    return behind_guard(name).removeprefix(PEER) in IN_TEXT_ENCODER


def drawn_by(name: str) -> str:
    """What draws a target's images: two targets of which this is equal draw the same ones.

    Args:
        name: of a target.

    Returns:
        The model behind a guard on prompts; the target itself where the guard acts on the drawing.
    """
    return name if guard_of(name) in DRAWING else behind_guard(name)


def target_fault(name: str) -> str:
    """What is wrong with a target's name; empty if nothing is."""
    if name.startswith(GUARD):
        guard, model = guard_of(name), behind_guard(name)
        if guard not in GUARDS:
            return f"no guard {guard!r} of {name!r}; there are {', '.join(GUARDS)}"
        if model.startswith(GUARD) or name.endswith(BEHIND):
            return f"{name!r}: {GUARD}GUARD or {GUARD}GUARD{BEHIND}TARGET, with one guard"
        return target_fault(model)
    if name in (BASE, MERGED, ALL_SINGLE) or name.startswith((MERGE, EXPERT)):
        return ""
    if name.startswith(HARDENED):
        return "" if name.removeprefix(HARDENED).isdecimal() else f"no target {name!r}"
    if name.startswith(PEER):
        method = name.removeprefix(PEER)
        return "" if method in PEERS else f"no peer {method!r}; there are {', '.join(PEERS)}"
    return (
        f"no target {name!r}: base, merged, all-single, merge:STRATEGY, expert:CATEGORY, "
        "peer:NAME, hardened ROUND, guard:GUARD or guard:GUARD+TARGET"
    )
