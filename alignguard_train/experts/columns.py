"""Meanings of the columns of an expert's table."""

from collections.abc import Mapping

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "history": {
        "step": "Number of the optimizer step, from 0",
        "loss": "What the optimizer minimizes: the preference or SFT loss and the preservation",
        "dpo": "Preference or SFT loss, mean over the step's pairs",
        "preservation": "Mean squared distance to the reference on preserved rows, unweighted",
        "margin": "By how much the adapter lowers the chosen error more than the rejected one",
        "implicit_accuracy": "Share of pairs with a positive margin; a tie counts half",
        "e_w": "Mean squared error on chosen images with the adapter",
        "e_l": "Mean squared error on rejected images with the adapter",
        "e_w_ref": "Mean squared error on chosen images without the adapter",
        "e_l_ref": "Mean squared error on rejected images without the adapter",
        "grad_norm": "Norm of the step's gradient before it is clipped",
        "lr": "Learning rate of the step",
    },
}
"""Meaning by table and column."""
