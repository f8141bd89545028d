"""One concept's partition whose safe images are edits of the unsafe ones."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from alignguard_data.contracts.pixels import reject_reason
from alignguard_data.contracts.records import (
    SIDES,
    RejectedImage,
    RenderedImage,
    Side,
    schema_of,
    to_table,
)
from alignguard_data.images.editing import EDITED, Made, Request
from alignguard_data.images.records import EditedPair
from alignguard_data.images.rendering import Rendering, Row
from alignguard_data.storage.tally import Tally

TABLE = "edits"
"""Shard with one :class:`EditedPair` a pair; only of partitions with edited images."""


class EditedRendering(Rendering):
    """A partition that is made pair by pair. A pair is done once its row of ``edits`` is saved."""

    _shards: tuple[tuple[str, Any, str], ...] = (
        *Rendering._shards,
        (TABLE, EditedPair, "edits-kept"),
    )

    def _saved(self, names: Sequence[str]) -> set[tuple[str, Side]]:
        edits = [name for name in names if name.startswith(f"{TABLE}-")]
        pairs = {
            pair
            for name in edits
            for pair in self._work.load_batch(name, columns=["pair_id"])["pair_id"].to_pylist()
        }
        return {(pair, side) for pair in pairs for side in SIDES}

    def requests(self) -> list[Request]:
        """The pairs that are not made, by id."""
        sides: dict[str, dict[str, Row]] = {}
        for row in self.missing:
            sides.setdefault(row.pair_id, {})[row.side] = row
        return [
            Request(
                pair_id=pair,
                concept=found["unsafe"].concept,
                unsafe_prompt=found["unsafe"].prompt,
                safe_prompt=found["safe"].prompt,
                seed=found["unsafe"].seed,
            )
            for pair, found in sides.items()
        ]

    def save_pairs(self, requests: Sequence[Request], made: Sequence[Made]) -> None:
        """Encode and save some pairs.

        All three files are written, empty ones too, the one that makes them count last: what a
        killed process left of them is overwritten when its pairs are made again.
        """
        images: list[RenderedImage] = []
        rejected: list[RejectedImage] = []
        for one, found in zip(requests, made, strict=True):
            for side in SIDES:
                row = Row(
                    pair_id=one.pair_id,
                    concept=one.concept,
                    side=side,
                    prompt=one.safe_prompt if side == "safe" else one.unsafe_prompt,
                    seed=one.seed,
                )
                picture = found.safe if side == "safe" else found.unsafe
                reason = found.record.outcome if picture is None else reject_reason(picture)
                if picture is None or reason:
                    rejected.append(RejectedImage(reason=reason or "", **dataclasses.asdict(row)))
                else:
                    images.append(self._image(row, picture))
        name = requests[0].pair_id
        self._work.save_batch(f"images-{name}", to_table(RenderedImage, images))
        self._work.save_batch(f"rejected-{name}", to_table(RejectedImage, rejected))
        edits = to_table(EditedPair, [found.record for found in made])
        self._work.save_batch(f"{TABLE}-{name}", edits)
        self._have |= {(one.pair_id, side) for one in requests for side in SIDES}

    def _edits(self) -> pa.Table:
        names = [name for name in self._work.saved_names() if name.startswith(f"{TABLE}-")]
        parts = [self._work.load_batch(name) for name in names]
        whole = pa.concat_tables([schema_of(EditedPair).empty_table(), *parts])
        return whole.sort_by("pair_id").combine_chunks()

    def _more_tables(self) -> dict[str, pa.Table]:
        return {TABLE: self._edits()}

    def _more_counts(self) -> dict[str, Any]:
        attempts = self._edits()["attempts"].to_pylist()
        return {
            "pairs_edited": self._passed(),
            "edits_drawn": sum(attempts),
            "edits_redrawn": sum(max(0, number - 1) for number in attempts),
        }

    def _passed(self) -> int:
        return Counter(self._edits()["outcome"].to_pylist())[EDITED]

    def _tally(self, rejected: pa.Table) -> Tally:
        refused = [row for row in self._edits().to_pylist() if row["outcome"] != EDITED]
        example = ""
        if refused:
            # An edited image is most often refused for the field that is named.
            one, fields = refused[0], "edited_pairs.strength, retries, flags"
            example = (
                f"pair {one['pair_id']} after {one['attempts']} edits, background distance "
                f"{one['background_distance']:.3f} (see {fields}, max_background_distance)"
            )
        return Tally(
            wanted=len(self._wanted) // 2,
            made=self._passed(),
            unit="edited pairs",
            example=example,
        )
