"""Meanings of the columns of the merge's tables."""

from collections.abc import Mapping

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "winners": {
        "layer": "Name of the layer in the base model's UNet",
        "expert": "Category of the expert",
        "won": "Output rows of the layer that Co-Merge gives to the expert",
        "share": "The same as a share of the layer's output rows",
    },
    "truncation": {
        "strategy": "Name of the merge strategy",
        "layer": "Name of the layer in the base model's UNet",
        "relative_error": "Frobenius norm of what the lower rank loses, over the layer's change",
    },
}
"""Meaning by table and column."""
