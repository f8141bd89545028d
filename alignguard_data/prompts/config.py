"""The `writing` section of a profile."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WritingConfig:
    """How many pairs to write per concept, and which prompts pass.

    Words as :mod:`alignguard_data.contracts.text` counts them.
    """

    pairs_per_concept: int
    """Pairs to write per concept."""
    evaluation_share: float = 0.2
    """Share of the pairs reserved for evaluation and never rendered for training."""
    min_words: int = 5
    """Least words of a prompt."""
    max_words: int = 28  # the longest prompt of the published CoProV2
    """Most words of a prompt."""
    max_requests_per_pair: int = 3
    """Most requests per wanted pair; after that the concept stays short."""
    min_pairs: int = 1
    """A concept with fewer pairs fails; 0 allows none."""
    ask_again: bool = True
    """Whether the next run repeats the rejected requests of a short concept."""
    ask_in_batches_of: int = 32
    """Requests per call of the writer."""
    max_tokens: int | None = None
    """Tokens that the base model's text encoder reads (77 for CLIP, with start and end)."""
    language: str | None = None
    """ISO 639-1 code, such as ``en``; prompts clearly in another language are rejected. None:
    any."""
    price_per_million_tokens: float | None = None
    """Price of the writer's output in any currency, for the cost of a pair."""

    def __post_init__(self) -> None:
        for name in (
            "pairs_per_concept",
            "min_words",
            "max_requests_per_pair",
            "ask_in_batches_of",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.min_pairs <= self.pairs_per_concept:
            raise ValueError(
                f"min_pairs must be in [0, pairs_per_concept {self.pairs_per_concept}], "
                f"got {self.min_pairs}"
            )
        if not 0 <= self.evaluation_share < 1:
            raise ValueError(f"evaluation_share must be in [0, 1), got {self.evaluation_share}")
        if self.max_words < self.min_words:
            raise ValueError(
                f"max_words must be at least min_words {self.min_words}, got {self.max_words}"
            )
