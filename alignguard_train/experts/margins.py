"""Cost margins of a training's pairs: stored costs, scaled to the recipe's median."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.contracts.recipes import ExpertRecipe
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
            "there are none"
        )
    safe, unsafe = encoded.costs.double().unbind(dim=1)
    scale = margin_scale((unsafe - safe).tolist(), recipe.cost_margin)
    return replace(encoded, costs=(encoded.costs * scale).float())
