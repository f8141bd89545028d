"""The index benchmark's five queries in pandas, from the same shards."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow.dataset as ds

from alignguard_data.audit.funnel import concept_manifests
from alignguard_data.index.tables import SHARD_TABLES
from alignguard_data.index.views import NEAR
from alignguard_data.storage.paths import DataRoot
from alignguard_data.taxonomy.parse import Taxonomy
from benchmarks.synthetic import FLAGS


class Shards:
    """Reads columns of every concept's shard into one frame, again for each query."""

    def __init__(self, data: DataRoot, taxonomy: Taxonomy) -> None:
        found = concept_manifests(data, taxonomy)
        self._files = {
            table.name: [
                str(data.partition(room, key) / manifest.file(table.shard).name)
                for (room, key), manifest in found.items()
                if room == table.room
            ]
            for table in SHARD_TABLES
        }
        self.concepts = pd.DataFrame(
            {
                "concept": [c.key for c in taxonomy.concepts],
                "category": [c.category for c in taxonomy.concepts],
            }
        )

    def frame(self, table: str, *columns: str) -> pd.DataFrame:
        """The columns of all concepts."""
        return ds.dataset(self._files[table]).to_table(columns=list(columns)).to_pandas()


def _funnel(shards: Shards, pair: str) -> list[Any]:
    return _rows(shards.frame("dropped_pairs", "reason").groupby("reason").size())


def _coverage(shards: Shards, pair: str) -> list[Any]:
    pairs = shards.frame("prompt_pairs", "concept", "role")
    counted = pd.DataFrame(
        {
            "pairs": pairs.groupby("concept").size(),
            "evaluation": pairs[pairs["role"] == "evaluation"].groupby("concept").size(),
            "kept": shards.frame("kept_pairs", "concept").groupby("concept").size(),
            "dropped": shards.frame("dropped_pairs", "concept").groupby("concept").size(),
        },
        index=pd.Index(shards.concepts["concept"]),
    )
    return _rows(counted.fillna(0).sort_index())


def _flag_rates(shards: Shards, pair: str) -> list[Any]:
    scores = _ruled(shards, "c3")
    scores["over"] = scores["value"] >= scores["at_least"]
    grouped = scores.groupby(["concept", "side", "scorer"])["over"]
    return _rows(grouped.agg(["size", "mean"]))


def _lineage(shards: Shards, pair: str) -> list[Any]:
    pairs = shards.frame("prompt_pairs", "pair_id", "concept", "role")
    images = shards.frame("images", "pair_id", "side", "image_id")
    images = images[(images["pair_id"] == pair) & (images["side"] == "unsafe")]
    kept = shards.frame("kept_pairs", "pair_id")
    dropped = shards.frame("dropped_pairs", "pair_id", "reason")
    found = pairs[pairs["pair_id"] == pair].merge(images, on="pair_id", how="left")
    found["kept"] = found["pair_id"].isin(kept["pair_id"])
    return _rows(found.merge(dropped, on="pair_id", how="left"))


def _near_misses(shards: Shards, pair: str) -> list[Any]:
    scores = _ruled(shards, "c3")
    near = (scores["value"] - scores["at_least"]).abs() <= NEAR * scores["at_least"].abs()
    return [(int(near.sum()), round(float(scores["value"][near].sum()), 3))]


def _ruled(shards: Shards, category: str) -> pd.DataFrame:
    """Scores of a category's images with their thresholds."""
    columns = ("subject", "concept", "side", "scorer", "key", "value")
    scores = shards.frame("scores", *columns)
    held = shards.concepts[shards.concepts["category"] == category]["concept"]
    scores = scores[(scores["subject"] == "image") & scores["concept"].isin(held)]
    return scores.merge(pd.DataFrame(FLAGS, columns=["scorer", "key", "at_least"]))


def _rows(frame: pd.DataFrame | pd.Series) -> list[Any]:
    return list(frame.reset_index().itertuples(index=False, name=None))


PANDAS: dict[str, Callable[[Shards, str], list[Any]]] = {
    "funnel": _funnel,
    "coverage": _coverage,
    "flag_rates": _flag_rates,
    "lineage": _lineage,
    "near_misses": _near_misses,
}
