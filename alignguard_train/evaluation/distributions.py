"""FID and KID: distances between sets of images, on features of our own extractors.

The reference is the base model's images of the same prompts and seeds. Every row carries its
reference, n, resolution and extractor, as a figure means nothing without them. Per-image measures
(IP, CLIP score, distances) are in ``metrics``.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions at import, where no type checker sees them.

import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.evaluation.shards import FeatureRows, keys_of
from alignguard_train.evaluation.statistics import subsets

Features = npt.NDArray[np.float32]

REFERENCE = "the base model's images of the same prompts and seeds"
KID_SUBSETS = 50
KID_SUBSET_SIZE = 1000
UPDATE_ROWS = 1024
"""Features converted to float64 at a time."""

DISTRIBUTIONS_SCHEMA = pa.schema(
    [
        pa.field("adapter", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("std", pa.float64()),  # over KID's subsets; FID has none
        pa.field("n", pa.int64(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("extractor", pa.string(), nullable=False),
        pa.field("features", pa.int64(), nullable=False),
        pa.field("resolution", pa.string(), nullable=False),
    ]
)


def fid(features: Features, reference: Features) -> float:
    """Frechet distance of the Gaussians fitted to two sets of features, by torchmetrics.

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` (Heusel et al., 2017). It is biased upward for
    few images, and S is singular for n <= width: compare only at equal n.

    Args:
        features: of the images (n, width).
        reference: of the images to compare with (m, width).

    Returns:
        The distance; 0 for equal Gaussians.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_given(features.shape[1]))
    return float(_filled(metric, features, reference).compute())


def kid(
    features: Features,
    reference: Features,
    *,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean and standard deviation, over random subsets, of the unbiased squared MMD.

    With the kernel ``(x.y / width + 1)^3`` (Binkowski et al., 2018), by torchmetrics. It may be
    below 0.

    Args:
        features: of the images (n, width).
        reference: of the images to compare with (m, width).
        subsets: number of random subsets.
        subset_size: images of a subset, at most n and m.
        seed: of the subsets.

    Returns:
        Mean and standard deviation over the subsets.
    """
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(subset_size, len(features), len(reference))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # it keeps all features: they are few
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(
            feature=_given(features.shape[1]), subsets=subsets, subset_size=size
        )
        mean, std = _filled(metric, features, reference).compute()
    return float(mean), float(std)


def _given(width: int) -> Any:
    """A feature module that passes precomputed features through."""
    import torch

    module = torch.nn.Identity()
    module.num_features = width  # pyright: ignore[reportArgumentType]
    return module


def _filled(metric: Any, features: Features, reference: Features) -> Any:
    import torch

    # float64: sums of squares over thousands of images lose too much in float32.
    metric.set_dtype(torch.float64)
    for values, real in ((reference, True), (features, False)):
        for first in range(0, len(values), UPDATE_ROWS):
            rows = values[first : first + UPDATE_ROWS].astype(np.float64)
            metric.update(torch.from_numpy(rows), real=real)
    return metric


def distributions_table(
    images: pa.Table, features: Callable[[str], FeatureRows], *, extractor: str
) -> pa.Table:
    """FID and KID of every adapter on safe and benign prompts; empty without an extractor.

    ``features`` returns one adapter's features, so only two adapters' are in memory. KID's subsets
    hold half of the images, at most 1,000. Subsets with fewer than 4 images are left out.
    """
    rows = []
    names = dict.fromkeys(images["adapter"].to_pylist()) if extractor else ()
    safe = images.filter(pc.equal(images["side"], "safe"))
    reference = features(BASE) if BASE in names else None
    for name in names:
        if name == BASE or reference is None:
            continue
        own = features(name)
        for subset, part in subsets(_of(safe, name), keys=False):
            if part.num_rows < 4:
                continue
            keys = keys_of(part)
            pair = own.of(keys), reference.of(keys)
            stated = {
                "adapter": name,
                "side": "safe",
                "subset": subset,
                "n": part.num_rows,
                "reference": REFERENCE,
                "extractor": extractor,
                "features": pair[0].shape[1],
                "resolution": _resolution(part),
            }
            rows += [{**stated, **found} for found in _both(*pair, name, subset)]
    return pa.Table.from_pylist(rows, schema=DISTRIBUTIONS_SCHEMA)


def _both(
    features: Features, reference: Features, name: str, subset: str
) -> Iterator[dict[str, str | float | None]]:
    yield {"metric": "fid", "value": fid(features, reference), "std": None}
    digest = hashlib.blake2b(f"{name}/{subset}".encode(), digest_size=4).digest()
    half = min(KID_SUBSET_SIZE, len(features) // 2)
    mean, std = kid(features, reference, subset_size=half, seed=int.from_bytes(digest))
    yield {"metric": "kid", "value": mean, "std": std}


def _of(images: pa.Table, adapter: str) -> pa.Table:
    return images.filter(pc.equal(images["adapter"], adapter)).sort_by("pair_id")


def _resolution(images: pa.Table) -> str:
    sizes = set(zip(images["width"].to_pylist(), images["height"].to_pylist(), strict=True))
    return " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
