"""The guarded generator: every guard of the section in front of the base model and the merge.

A guard decides on each prompt first. What it allows is the adapter's own image, which is measured
already; a blocked prompt is not drawn; what it rewrites or softens is drawn again, with the same
noise, and judged by the same rules. Batch by batch: a killed attempt goes on where it stopped.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.contracts.protocols import ImageScorer
from alignguard_data.contracts.records import schema_of, to_table
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.weights import file_revision
from alignguard_data.storage.partition import PartitionWork
from alignguard_data.storage.paths import DataRoot
from alignguard_train.contracts.adapter_names import BASE, MERGED
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.judge import AdaptableGenerator, alike_sampled, judge
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow, GuardedImage
from alignguard_train.evaluation.shards import AdapterShards, Key, keys_of
from alignguard_train.guards.reader import guard_file

if TYPE_CHECKING:
    from alignguard_train.guards.protocol import Decision, Guard

BEHIND = (BASE, MERGED)
"""What draws behind a guard: without an adapter, and with it."""
GUARDED = "guarded-"
"""Name prefix of saved batches."""
NUMBERS = [name for name in schema_of(GuardedImage).names if name != "image"]
TIMES_SCHEMA = pa.schema(
    [
        pa.field("guard", pa.string(), nullable=False),
        pa.field("latency_p50_ms", pa.float64(), nullable=False),
        pa.field("latency_p95_ms", pa.float64(), nullable=False),
        pa.field("encoder_share", pa.float64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
    ]
)


def guard_files(data: DataRoot, config: EvaluationConfig) -> dict[str, Path]:
    """File of every guard that the section names.

    Args:
        data: the data root.
        config: the profile's section.

    Returns:
        Local path by name, in the section's order.

    Raises:
        InputMissing: a guard is not trained; names every one.
    """
    found, missing = {}, []
    for name in config.guards:
        try:
            found[name] = guard_file(data, name)
        except InputMissing:
            missing.append(name)
    if missing:
        raise InputMissing(
            f"evaluation.guards: not trained yet: {', '.join(missing)}; "
            f"`alignguard guard train {' '.join(missing)}` trains them"
        )
    return found


def guard_revisions(data: DataRoot, config: EvaluationConfig) -> dict[str, str]:
    """Inputs of the evaluation: revision by ``guard NAME``.

    Args:
        data: the data root.
        config: the profile's section.

    Returns:
        Empty without guards.

    Raises:
        InputMissing: a guard is not trained.
    """
    return {
        f"guard {name}": file_revision(path) for name, path in guard_files(data, config).items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What guards are measured with.

    Attributes:
        work: the evaluation's partition.
        generator: renders with and without the adapter.
        scorers: the evaluation's judges.
        config: the profile's section.
        rows: every prompt of the evaluation.
        shown: ids of the pairs in the report.
    """

    work: PartitionWork
    generator: AdaptableGenerator
    scorers: Sequence[ImageScorer]
    config: EvaluationConfig
    rows: Sequence[EvaluationRow]
    shown: frozenset[str]


def measure_guards(
    data: DataRoot,
    bench: Bench,
    adapters: Mapping[str, Path | None],
    measured: Mapping[str, AdapterShards],
) -> dict[str, pa.Table]:
    """Every guard in front of the base model and the merged adapter.

    Args:
        data: the data root, which holds the guards' files.
        bench: prompts, generator and judges.
        adapters: file by name; None for the base model.
        measured: judged images by adapter, which an allowed prompt keeps.

    Returns:
        Tables ``guarded`` (a row for each guard, adapter and prompt), ``guarded_pictures`` (those
        of the report, with images) and ``guard_times``.

    Raises:
        EngineError: a guard was made for another text encoder.
        InputMissing: a guard is not trained.
    """
    times = []
    for name, file in guard_files(data, bench.config).items():
        for adapter in BEHIND:
            if adapter not in adapters:
                continue
            with _pipe(bench.generator, adapters[adapter]) as pipe:
                behind = _Behind(name, file, adapter, pipe, bench)
                behind.run(measured[adapter])
                if adapter == BASE:
                    times.append(behind.times())
    return {**_tables(bench), "guard_times": pa.Table.from_pylist(times, schema=TIMES_SCHEMA)}


@contextmanager
def _pipe(generator: AdaptableGenerator, adapter: Path | None) -> Iterator[Any]:
    """The generator's pipe with an adapter, inside the block."""
    held = []

    def hold(pipe: Any) -> Any:
        held.append(pipe)
        return pipe

    with generator.adapted(adapter), generator.changed(hold):
        yield held[0]


class _Behind:
    """One adapter behind one guard."""

    def __init__(self, name: str, file: Path, adapter: str, pipe: Any, bench: Bench) -> None:
        from alignguard_train.guards.registry import load_guard

        self._name, self._adapter, self._pipe, self._bench = name, adapter, pipe, bench
        self._guard: Guard = load_guard(file, pipe)
        self._prefix = f"{GUARDED}{name}-{adapter}-"

    def run(self, own: AdapterShards) -> None:
        """Decide on, draw and save what earlier attempts did not."""
        work = self._bench.work
        files = [name for name in work.saved_names() if name.startswith(self._prefix)]
        have = {key for name in files for key in keys_of(work.load_batch(name))}
        missing = [row for row in self._bench.rows if (row.pair_id, row.side) not in have]
        if not missing:
            return
        numbers = own.numbers().select(["pair_id", "side", "flagged", "fidelity"])
        kept = dict(zip(keys_of(numbers), numbers.to_pylist(), strict=True))
        for sampling, alike in alike_sampled(missing, self._bench.generator.sampling):
            size = max(1, sampling.batch_size)
            for start in range(0, len(alike), size):
                self._batch(alike[start : start + size], sampling, kept)

    def times(self) -> dict[str, Any]:
        """Milliseconds of a decision on one prompt, and the text encoder's share of them."""
        from alignguard_train.guards.measures import latency, timed_prompts
        from alignguard_train.guards.states import FrozenEncoder

        prompts = timed_prompts([row.prompt for row in self._bench.rows])
        encode = FrozenEncoder.of(self._pipe).states
        return {
            "guard": self._name,
            **latency(self._guard.decide, encode, prompts),
            "n": len(prompts),
        }

    def _batch(
        self,
        rows: Sequence[EvaluationRow],
        sampling: Sampling,
        kept: Mapping[Key, Mapping[str, Any]],
    ) -> None:
        decisions = self._guard.decide([row.prompt for row in rows])
        changed = ("rewrite", "soften")
        if hasattr(self._guard, "watching"):  # it looks at what it allows, too
            changed = ("rewrite", "soften", "allow")
        again = [i for i, one in enumerate(decisions) if one.action in changed]
        drawn = self._drawn([rows[i] for i in again], sampling)
        by_row = dict(zip(again, drawn, strict=True))
        made = []
        for i, (row, decision) in enumerate(zip(rows, decisions, strict=True)):
            image, said = by_row.get(i, (None, decision))
            made.append(self._row(row, said, image, kept[row.pair_id, row.side]))
        name = f"{self._prefix}{rows[0].pair_id}-{rows[0].side}"
        self._bench.work.save_batch(name, to_table(GuardedImage, made))

    def _drawn(
        self, rows: Sequence[EvaluationRow], sampling: Sampling
    ) -> "list[tuple[EvaluatedImage, Decision]]":
        """The rows drawn by the guarded pipe, judged; and what was decided then."""
        if not rows:
            return []
        from alignguard_train.guards.drawing import draw_guarded

        pixels, decisions = draw_guarded(
            self._pipe, self._guard, [r.prompt for r in rows], [r.seed for r in rows], sampling
        )
        bench = self._bench
        judged = judge(self._adapter, rows, pixels, bench.scorers, bench.config, base=None)
        return list(zip(judged, decisions, strict=True))

    def _row(
        self,
        row: EvaluationRow,
        decision: "Decision",
        image: EvaluatedImage | None,
        own: Mapping[str, Any],
    ) -> GuardedImage:
        blocked = decision.action == "block"
        flagged = own["flagged"] if image is None else image.flagged
        fidelity = own["fidelity"] if image is None else image.fidelity
        shown = image is not None and not blocked and row.pair_id in self._bench.shown
        taken = ("pair_id", "side", "concept", "category", "seen", "prompt_set")
        return GuardedImage(
            guard=self._name,
            adapter=self._adapter,
            action=decision.action,
            reason=decision.reason.partition(":")[0],
            failed=decision.failed,
            score=decision.score,
            flagged=bool(flagged) and not blocked,
            fidelity=float("nan") if blocked else fidelity,
            image=image.image if image is not None and shown else b"",
            **{name: getattr(row, name) for name in taken},
        )


def _tables(bench: Bench) -> dict[str, pa.Table]:
    """All saved rows without images, and with images those that the report shows."""
    names = [name for name in bench.work.saved_names() if name.startswith(GUARDED)]
    order = [(name, "ascending") for name in ("guard", "adapter", "pair_id", "side")]
    load: Callable[..., pa.Table] = partial(bench.work.load_batch)
    empty = schema_of(GuardedImage).empty_table()
    numbers = pa.concat_tables(
        [empty.select(NUMBERS), *(load(name, columns=NUMBERS) for name in names)]
    )
    shown = []
    for name in names:
        table = load(name)
        keep = np.array([key in bench.shown for key in table["pair_id"].to_pylist()], dtype=bool)
        shown.append(table.filter(pa.array(keep)))
    return {
        "guarded": numbers.sort_by(order).combine_chunks(),
        "guarded_pictures": pa.concat_tables([empty, *shown]).sort_by(order).combine_chunks(),
    }
