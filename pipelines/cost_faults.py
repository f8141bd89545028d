"""What a profile's recipes ask of its cost model, found before anything is made."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.profile import Profile

PERSONAL = ("cost_margin", "clean_pairs")
"""Options for pairs whose chosen image is the safe one; a user's are turned around."""


def faults_of_costs(profile: "Profile") -> Iterator[str]:
    """One message per setting that cannot be trained with, by its field and value.

    Args:
        profile: the profile.

    Yields:
        The messages.
    """
    recipe = profile.recipe()
    if recipe.cost_margin and profile.cost_model is None:
        yield f"training: cost_margin ({recipe.cost_margin:g}) needs a cost_model section"
    if recipe.focusing and profile.training.processes > 1:
        yield (
            f"training.processes ({profile.training.processes}): focusing ({recipe.focusing:g}) "
            "compares the pairs of one forward pass, so it needs 1"
        )
    for name in PERSONAL:
        if profile.personal and (value := getattr(profile.personal.build_recipe(), name)):
            yield f"personal: {name} ({value:g}) is not for pairs that a user turns around"
    if profile.cost_model is None:
        return
    chosen, measures = profile.cost_model.features, profile.evaluation_features
    if measures and (measures.use, measures.params) == (chosen.use, chosen.params):
        yield (
            f"cost_model.features ({chosen.use}): evaluation_features measures with the same "
            "weights; choose another extractor"
        )
    for number, scorer in enumerate(profile.evaluation_scorers):
        model = scorer.params.get("model")
        if model is not None and model == chosen.params.get("model"):
            yield (
                f"cost_model.features.params.model ({model}): evaluation_scorers.{number} judges "
                "with the same weights; choose another model"
            )
