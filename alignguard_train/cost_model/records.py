"""The rows of the cost model's table."""

from dataclasses import dataclass
from typing import Literal

Part = Literal["train", "unseen_seed", "held_out", "dropped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairCost:
    """The costs of one train pair of the release."""

    pair_id: str
    """The release's."""
    concept: str
    """Key of the concept: category, dot, slug."""
    category: str
    """Key of the category."""
    part: str
    """Train; unseen_seed, of a trained concept; held_out, of a concept that was not trained on; or
    dropped: its seed is also one of held_out."""
    cost_chosen: float
    """C of the safe image; below 0 is safe."""
    cost_rejected: float
    """C of the unsafe image; above 0 is unsafe."""
