"""Cost margins of a training's pairs: stored costs, scaled to the recipe's median."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.release.checks import rows_of
from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.release.reader import release_folder
from alignguard_data.storage.paths import DataRoot
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.cost_model.reader import costs_of
from alignguard_train.encodings.encoder import EncodedPreferences


def margin_scale(gaps: Sequence[float], median: float) -> float:
    """The lambda at which the pairs' median margin is ``median``.

    Args:
        gaps: cost of the rejected image less that of the chosen one, of each pair.
        median: wanted, in logits.

    Returns:
        A factor of costs.

    Raises:
        EngineError: half of the rejected images cost no more than their chosen ones.
    """
    found = torch.tensor(gaps, dtype=torch.float64).quantile(0.5).item()
    if not found > 0:
        raise EngineError(
            f"cost_margin ({median:g}) cannot be reached: the median cost of rejected images less "
            f"that of chosen ones is {found:.3g} over {len(gaps)} pairs, and must be positive"
        )
    return median / found


def with_margins(encoded: EncodedPreferences, recipe: ExpertRecipe) -> EncodedPreferences:
    """Pairs whose costs are in logits, so that their median gap is the recipe's margin.

    Args:
        encoded: pairs with the costs of a cost model.
        recipe: its ``cost_margin`` is the median.

    Returns:
        The pairs; without costs if the recipe has no cost margin.

    Raises:
        EngineError: the recipe needs costs and there are none, or they have the wrong sign.
    """
    if not recipe.cost_margin:
        return replace(encoded, costs=None)
    if encoded.costs is None:
        raise EngineError(
            f"cost_margin ({recipe.cost_margin:g}) needs the pairs' costs of a cost model, and "
            "there are none (docs/how-to/cost-model.md)"
        )
    safe, unsafe = encoded.costs.double().unbind(dim=1)
    scale = margin_scale((unsafe - safe).tolist(), recipe.cost_margin)
    return replace(encoded, costs=(encoded.costs * scale).float())


def margin_counts(
    data: DataRoot, categories: Collection[str], recipe: ExpertRecipe
) -> dict[str, float]:
    """What the recipe's margin is on an expert's pairs, for its manifest.

    Args:
        data: the data root.
        categories: of the expert's pairs.
        recipe: of the expert.

    Returns:
        ``lambda``, the ``median`` margin in logits, and the share that margin_max ``cut off``; none
        without a cost margin.

    Raises:
        InputMissing: there is no cost model of the newest release.
        EngineError: the costs have the wrong sign.
    """
    if not recipe.cost_margin:
        return {}
    hard, known = hard_rows(release_folder(data)), costs_of(data)
    rows = rows_of(release_folder(data), "train", ("pair_id", "category")).to_pylist()
    own = [row["pair_id"] for row in rows if row["category"] in categories]
    gaps = [known[pair][1] - known[pair][0] for pair in own if pair not in hard]
    scale = margin_scale(gaps, recipe.cost_margin)
    cut = sum(abs(scale * gap) > recipe.margin_max for gap in gaps) / len(gaps)
    return {
        "cost margin lambda": round(scale, 5),
        "cost margin median": recipe.cost_margin,
        "cost margin cut off": round(cut, 4),
    }
