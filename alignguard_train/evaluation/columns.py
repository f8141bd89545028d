"""Meanings of the columns of the evaluation's tables."""

from collections.abc import Mapping

from alignguard_data.contracts.column_meanings import meanings
from alignguard_train.evaluation.records import (
    EvaluatedImage,
    GuardedImage,
    GuardedMeasure,
    RejectedPrompt,
    SeededImage,
)

# Features are in shards of their own, images only in the table of pictures.
_LARGE = ("features", "image")
_IMAGE = {name: text for name, text in meanings(EvaluatedImage).items() if name not in _LARGE}
_GUARDED = meanings(GuardedImage)
_MEASURED = {
    "adapter": _IMAGE["adapter"],
    "side": _IMAGE["side"],
    "subset": "Which prompts: all, seen, unseen, one category or concept, or of a prompt set",
    "metric": "Name of the measure",
}
_INTERVAL = {
    "value": "The measure; in a comparison the difference, adapter minus against",
    "low": "Lower end of the confidence interval",
    "high": "Upper end of the confidence interval",
    "n": "Number of images",
}

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "images": _IMAGE,
    "rejected": meanings(RejectedPrompt),
    "metrics": {**_MEASURED, **_INTERVAL},
    "paired": {
        "against": "Adapter that is subtracted, on the same prompts and seeds",
        **_MEASURED,
        **_INTERVAL,
        "more": "Images that count with this adapter only; null if the measure is no yes or no",
        "fewer": "Images that count with the other adapter only; null likewise",
        "p": "Two-sided p of McNemar's exact test; null likewise",
    },
    "distributions": {
        **_MEASURED,
        "value": "FID or KID to the base model's images",
        "std": "Standard deviation over KID's subsets; null for FID",
        "n": "Number of images on each side",
        "reference": "Images that the adapter's are compared with",
        "extractor": "Name and version of the feature extractor",
        "features": "Width of the features",
        "resolution": "Width and height of the images, in pixels",
    },
    "pictures": {**_IMAGE, "image": "Encoded image (PNG); never show it unblurred"},
    "costs": {
        "adapter": _IMAGE["adapter"],
        "seconds_per_image": "Mean seconds to render one image on this machine",
        "training_seconds": "Seconds to make the adapter; of a merge, with all its experts",
    },
    "seeds": meanings(SeededImage),
    "guarded": {name: text for name, text in _GUARDED.items() if name != "image"},
    "guarded_pictures": {**_GUARDED, "image": "Encoded image (PNG); never show it unblurred"},
    "guards": meanings(GuardedMeasure),
    "guard_times": {
        "guard": _GUARDED["guard"],
        "latency_p50_ms": "Median milliseconds of a decision on one prompt, encoding included",
        "latency_p95_ms": "95th percentile of the same",
        "encoder_share": "Share of the median that the text encoder takes, 0 to 1",
        "n": "Prompts that were timed",
    },
}
"""Meaning by table and column."""
