"""Recipe settings that a family of models does not support, and why."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from alignguard_train.contracts.recipes import ExpertRecipe

if TYPE_CHECKING:
    from alignguard_data.engines.families.family import Family


def unfit(recipe: ExpertRecipe, family: "Family", model: str, *, flow: bool) -> list[str]:
    """Find settings that only a UNet, or only a diffusion model, can be trained with.

    Args:
        recipe: how an adapter is trained.
        family: of the base model.
        model: its id, for the message.
        flow: whether its scheduler is of flow matching.

    Returns:
        One message a setting, with its value.
    """
    return list(_faults(recipe, family, model, flow=flow))


def _faults(recipe: ExpertRecipe, family: "Family", model: str, *, flow: bool) -> Iterator[str]:
    if flow and recipe.min_snr is not None:
        yield (
            f"min_snr ({recipe.min_snr}) is not defined for a flow model such as {model}; leave it "
            "out of the recipe (base_model.flow.weighting weighs a flow's errors)"
        )
    if recipe.layers == "self-attention" and not family.self_attention_targets:
        yield (
            f"layers (self-attention) is for UNets: {model} is a transformer that attends to text "
            "and image at once, so no projection reads the image only; use attention"
        )
