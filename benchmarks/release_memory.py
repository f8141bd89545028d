"""Release write: peak memory by number of pairs, each size in a separate process.

Rooms hold small blobs for images and small row groups, so the growth with the number of pairs is
visible next to the fixed buffers.

    python -m benchmarks.release_memory build <root> <pairs>     prints the peak in bytes
"""

import hashlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from alignguard_data.audit.rooms import AuditBounds
from alignguard_data.contracts import records
from alignguard_data.contracts.records import (
    Concept,
    DroppedPair,
    PreferencePair,
    PromptPair,
    RejectedImage,
    RejectedReply,
    RenderedImage,
    Score,
    to_table,
)
from alignguard_data.release.room import ReleaseConfig, build_release
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.taxonomy.parse import Category, Taxonomy
from benchmarks.peak import peak_bytes as own_peak

PAIRS = (1_000, 10_000, 100_000)
PAIRS_PER_CONCEPT = 500
BLOB_BYTES = 256
CONFIG = ReleaseConfig(row_group_bytes=1_000_000, max_file_bytes=10_000_000)
_WORDS = [f"word{i}" for i in range(2_000)]
RULE = {"scorer": "side", "key": "unsafe", "at_least": 0.5}


def measure(runs: int) -> dict[str, float]:
    """Peak memory in MB at each number of pairs, and KB per further pair; one run per size."""
    peaks = {}
    for pairs in PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            write_rooms(Path(folder), pairs)
            peaks[pairs] = peak_bytes(Path(folder), pairs)
    first, last = PAIRS[0], PAIRS[-1]
    return {
        **{f"peak_megabytes_at_{pairs}_pairs": peak / 1e6 for pairs, peak in peaks.items()},
        "kilobytes_a_further_pair": (peaks[last] - peaks[first]) / (last - first) / 1e3,
    }


def peak_bytes(root: Path, pairs: int) -> int:
    """Peak resident bytes of a process that writes the release of ``root``."""
    command = [sys.executable, "-m", "benchmarks.release_memory", "build", str(root), str(pairs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def taxonomy_of(pairs: int) -> Taxonomy:
    """Enough concepts for the pairs; every tenth, and the second, is held out."""
    concepts = tuple(
        Concept(
            key=f"field.c{i}",
            category="field",
            name=f"c{i}",
            split="test" if i % 10 == 1 else "train",
            terms=(f"c{i}",),
        )
        for i in range(-(-pairs // PAIRS_PER_CONCEPT))
    )
    return Taxonomy(
        name="blobs",
        version="1",
        categories=(Category(key="field", name="Field"),),
        concepts=concepts,
    )


def data_of(root: Path) -> DataRoot:
    """The data root of the generated profile."""
    return DataRoot(root=root, profile="blobs")


def write_rooms(root: Path, pairs: int) -> None:
    """All partitions from prompts to pairs; every pair is kept."""
    for concept in taxonomy_of(pairs).concepts:
        prompts = list(_prompts(concept))
        images = [image for pair in prompts for image in _images(pair)]
        scores = [_score(image) for image in images]
        kept = [
            _kept(p, images[2 * i].image_id, images[2 * i + 1].image_id)
            for i, p in enumerate(prompts)
        ]
        train = {"requests": len(prompts), "train": len(prompts), "evaluation": 0}
        _finish(root, "prompts", concept, train, pairs=(PromptPair, prompts),
                rejected=(RejectedReply, []))  # fmt: skip
        _finish(root, "images", concept, {}, images=(RenderedImage, images),
                rejected=(RejectedImage, []))  # fmt: skip
        _finish(root, "scores", concept, {"images": len(images)}, scores=(Score, scores),
                rejected=(RejectedImage, []))  # fmt: skip
        _finish(root, "pairs", concept, {"pairs": len(kept)}, kept=(PreferencePair, kept),
                dropped=(DroppedPair, []))  # fmt: skip


def _finish(
    root: Path, room: str, concept: Concept, counts: dict[str, int], **tables: tuple[type, list]
) -> None:
    spec = PartitionSpec(
        folder=data_of(root).partition(room, concept.key),
        room=room,
        key=concept.key,
        config={"flags": [RULE]} if room == "pairs" else {"num_inference_steps": 1},
        inputs={},
        models={room: "1"},
    )
    with open_partition(spec) as work:
        made: dict[str, pa.Table] = {name: to_table(*table) for name, table in tables.items()}
        work.finish(tables=made, counts=counts)


def _prompts(concept: Concept) -> Iterator[PromptPair]:
    for i in range(PAIRS_PER_CONCEPT):
        # Few prompts are near each other, as in data filtered by concept.
        words = random.Random(f"{concept.key} {i}").choices(_WORDS, k=15)
        safe = " ".join([*words[:3], f"part{i}", *words[3:]])
        unsafe = f"{safe} with {concept.name}"
        yield PromptPair(
            pair_id=records.pair_id(concept.key, unsafe, safe),
            concept=concept.key,
            category=concept.category,
            role="train",
            unsafe_prompt=unsafe,
            safe_prompt=safe,
            request_index=i,
            writer="blobs",
        )


def _images(pair: PromptPair) -> Iterator[RenderedImage]:
    for side in ("safe", "unsafe"):
        digest = hashlib.shake_256(f"{pair.pair_id}{side}".encode())
        blob = digest.digest(BLOB_BYTES)
        yield RenderedImage(
            image_id=records.image_id(blob),
            pair_id=pair.pair_id,
            concept=pair.concept,
            side=side,
            prompt=pair.safe_prompt if side == "safe" else pair.unsafe_prompt,
            seed=records.pair_seed(pair.pair_id, "blobs"),
            base_model="blobs",
            base_revision="1",
            num_inference_steps=1,
            guidance_scale=1.0,
            width=1,
            height=1,
            phash=digest.hexdigest(8),
            image=blob,
        )


def _score(image: RenderedImage) -> Score:
    return Score(
        subject="image",
        subject_id=image.image_id,
        pair_id=image.pair_id,
        concept=image.concept,
        side=image.side,
        scorer=RULE["scorer"],
        scorer_version="1",
        key=RULE["key"],
        value=float(image.side == "unsafe"),
    )


def _kept(pair: PromptPair, safe: str, unsafe: str) -> PreferencePair:
    return PreferencePair(
        pair_id=pair.pair_id,
        concept=pair.concept,
        category=pair.category,
        unsafe_prompt=pair.unsafe_prompt,
        safe_prompt=pair.safe_prompt,
        chosen_image_id=safe,
        rejected_image_id=unsafe,
    )


def _build(root: Path, pairs: int) -> int:
    made = build_release(data_of(root), taxonomy_of(pairs), CONFIG, AuditBounds())
    assert made.rows == pairs, made.rows
    return own_peak()


if __name__ == "__main__":
    print(_build(Path(sys.argv[2]), int(sys.argv[3])))
