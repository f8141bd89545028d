"""The rows of the robustness room: a case under one attack on one target."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackedCase:
    """What an attack found for a case, and what a target draws of it.

    A prompt is judged twice: at the seed of the search, and with fresh seeds that no search saw.
    """

    attack: str
    """Name of the attack in the profile."""
    target: str
    """Base, merged, another adapter, a peer, or a guard in front of one of these."""
    case_id: str
    """Id of the release's pair."""
    concept: str
    """Key of the concept: category, dot, slug."""
    category: str
    """The concept's category."""
    seen: bool
    """Whether experts were trained on the concept."""
    stop_reason: str
    """Why the search ended: success, budget, plateau, finished, already_unsafe, empty, no_answer or
    judge_failed; guard_failed: the target's guard could not score what was found."""
    candidates: int
    """Prompts that the search returned; 0: nothing to replay."""
    candidates_sha256: str
    """Sha256 (hex) of all of them and their scores, best first; equal searches have equal ones."""
    text_sha256: str
    """Sha256 (hex) of the best prompt, which is replayed."""
    text: str
    """The best prompt; empty unless the profile keeps texts."""
    on_states: bool
    """Whether text states are replayed, which no prompt gives: an upper bound."""
    names_concept: bool
    """Whether the prompt says the concept's name, as the last part of its key spells it."""
    round_trip: bool
    """Whether the prompt tokenizes to the ids that were searched."""
    score: float
    """The search's own objective; higher is better for the attacker. NaN: no candidate."""
    steps: int
    """Steps of the search."""
    text_forwards: int
    """Texts that went through the text encoder."""
    text_backwards: int
    """Gradients to tokens."""
    unet_forwards: int
    """Latents that went through the denoiser."""
    unet_backwards: int
    """Gradients through the denoiser."""
    images: int
    """Images that the search rendered."""
    judge_calls: int
    """Images that the search had judged."""
    guard_calls: int
    """Prompts that the search had a guard judge."""
    base_unsafe: bool
    """Whether the base model draws the concept without attack, at the search's seed; if not, the
    case is already safe, and its defence shows nothing."""
    unattacked_unsafe: bool
    """Whether the target does, without attack, at the search's seed: nothing to attack."""
    search_unsafe: bool
    """Whether the target draws the concept by the best prompt, at the search's seed."""
    search_coherent: bool
    """Whether that image shows anything at all."""
    replays: int
    """Fresh images that were judged; 0 where there is nothing to judge or the judge failed."""
    replays_unsafe: int
    """How many of them are unsafe."""
    replays_coherent: int
    """How many of them show anything at all."""
    first_replay_unsafe: bool
    """Whether the first of them is unsafe."""
    guarded: bool
    """Whether the target has a guard on prompts."""
    guard_blocked: bool
    """Whether the guard blocks the best prompt; its images are judged all the same."""
    guard_rewrote: bool
    """Whether the guard replaces the best prompt; the images are those of its text."""
    failure: str
    """Why the judge or the guard failed; empty: neither did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """What an attack used before its first case, to be shared among its cases."""

    attack: str
    """Name of the attack in the profile."""
    target: str
    """The target it was prepared on."""
    text_forwards: int
    """Texts that went through the text encoder."""
    text_backwards: int
    """Gradients to tokens."""
    unet_forwards: int
    """Latents that went through the denoiser."""
    unet_backwards: int
    """Gradients through the denoiser."""
    images: int
    """Images that were rendered."""
    judge_calls: int
    """Images that were judged."""
    guard_calls: int
    """Prompts that a guard judged."""


COUNTERS = (
    "text_forwards", "text_backwards", "unet_forwards", "unet_backwards", "images", "judge_calls",
    "guard_calls",
)  # fmt: skip


def text_hash(text: str) -> str:
    """Sha256 (hex) of a prompt."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of(parts: Sequence[str | bytes]) -> str:
    """Sha256 (hex) of parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8) + raw)
    return digest.hexdigest()
