"""One merge of experts by any strategy, and its truncation; no torch at import."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alignguard_train.base import BaseModel
from alignguard_train.merge.config import MergeConfig, Strategy

if TYPE_CHECKING:
    from alignguard_train.adapters.lora import Lora
    from alignguard_train.encodings.encoder import EncodedPreferences
    from alignguard_train.merge.strategies import Merged


def merge_by(
    strategy: Strategy,
    experts: "Sequence[Lora]",
    categories: Sequence[str],
    base: BaseModel,
    encoded: "EncodedPreferences",
    config: MergeConfig,
) -> "Merged":
    """Merge by any strategy; calibrates only for strategies that use it.

    Args:
        strategy: its name.
        experts: LoRA layers by name, of each expert.
        categories: the k-th is the one that expert k was trained on.
        base: the base model.
        encoded: pairs of all categories.
        config: the strategies' settings.

    Returns:
        The merged LoRA, and the winners of Co-Merge.

    Raises:
        ValueError: no expert, experts of different shape, or a category without pairs
            (``regmean``).
    """
    from alignguard_train.merge.calibration import measure_activity
    from alignguard_train.merge.regmean import regmean
    from alignguard_train.merge.strategies import Merged, merge

    if strategy == "regmean":
        return Merged(lora=regmean(base, experts, categories, encoded, config), winners={})
    read = strategy == "co-merge"
    activity = measure_activity(base, experts, encoded, config) if read else {}
    return merge(strategy, experts, activity, config)


def cut(
    lora: "Lora", rank: int | None
) -> "tuple[Lora, tuple[float | None, list[tuple[str, float]]]]":
    """Truncate an adapter to the configured rank.

    Args:
        lora: the adapter.
        rank: the highest rank of a layer; None leaves it as it is.

    Returns:
        The adapter, and its relative error in total (None: not truncated) and by layer.
    """
    if rank is None:
        return lora, (None, [])
    from alignguard_train.adapters.lora import layer_errors, relative_error, truncate

    stored = truncate(lora, rank)
    return stored, (relative_error(stored, lora), list(layer_errors(stored, lora).items()))
