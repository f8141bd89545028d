"""The images room: shared seeds, exact resume, bytes that do not depend on how they came about."""

import io

import numpy as np
import pytest
from PIL import Image

from alignguard_data.contracts import records
from alignguard_data.contracts.errors import InputMissing, NothingMade, PartitionBusy
from alignguard_data.contracts.pixels import encode_png, phash_hex, reject_reason
from alignguard_data.contracts.records import PromptPair, to_table
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.images.room import render_pairs, spec
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.tally import NOTHING
from tests.alignguard_data.images.drawn_images import SAMPLING, DrawnImages

CONCEPTS = ["shape.dot", "shape.line"]


def write_pairs(data: DataRoot, concept: str, count: int) -> None:
    """``count`` train pairs and one of role evaluation, as the prompts room leaves them."""
    pairs = []
    for i in range(count + 1):
        unsafe, safe = f"{concept} picture {i}", f"picture {i}"
        pairs.append(
            PromptPair(
                pair_id=records.pair_id(concept, unsafe, safe),
                concept=concept,
                category="shape",
                role="train" if i < count else "evaluation",
                unsafe_prompt=unsafe,
                safe_prompt=safe,
                request_index=i,
                writer="test",
            )
        )
    folder = data.partition("prompts", concept)
    made = PartitionSpec(folder=folder, room="prompts", key=concept, config={}, inputs={})
    with open_partition(made) as work:
        work.finish(tables={"pairs": to_table(PromptPair, pairs)})


@pytest.fixture
def data(tmp_path) -> DataRoot:
    root = DataRoot(root=tmp_path, profile="test")
    for concept, count in zip(CONCEPTS, (5, 4), strict=True):
        write_pairs(root, concept, count)
    return root


def images_of(data: DataRoot, concept: str):
    return manifests.read(data.partition("images", concept), "images")


def test_both_prompts_of_every_train_pair_are_rendered_from_one_seed(data):
    made = render_pairs(data, CONCEPTS, DrawnImages(), SAMPLING)
    assert [made[c].rows for c in CONCEPTS] == [10, 8]
    rows = images_of(data, "shape.dot").to_pylist()
    by_pair: dict[str, set[int]] = {}
    for row in rows:
        by_pair.setdefault(row["pair_id"], set()).add(row["seed"])
        assert row["seed"] == records.pair_seed(row["pair_id"], "drawn")
    assert [len(seeds) for seeds in by_pair.values()] == [1] * 5
    assert {row["side"] for row in rows} == {"safe", "unsafe"}
    assert not any("picture 5" in row["prompt"] for row in rows), "role evaluation is not rendered"


def test_batches_cross_concepts(data):
    calls: list[int] = []
    render_pairs(data, CONCEPTS, DrawnImages(), SAMPLING, progress=calls.append)
    assert calls == [6, 6, 6]


def test_an_interrupted_run_renders_only_what_is_missing_and_gives_the_same_bytes(data, tmp_path):
    calm = DataRoot(root=tmp_path / "calm", profile="test")
    for concept, count in zip(CONCEPTS, (5, 4), strict=True):
        write_pairs(calm, concept, count)
    wanted = render_pairs(calm, CONCEPTS, DrawnImages(), SAMPLING)

    with pytest.raises(KeyboardInterrupt):
        render_pairs(data, CONCEPTS, DrawnImages(stop_after=12), SAMPLING)
    resumed = DrawnImages()
    made = render_pairs(data, CONCEPTS, resumed, SAMPLING)

    # The batch that was being saved when the run ended may be lost, not more.
    assert 6 <= len(resumed.rendered) <= 12
    assert {c: m.content_id for c, m in made.items()} == {
        c: m.content_id for c, m in wanted.items()
    }


def test_a_concept_is_the_same_alone_and_among_others(data, tmp_path):
    alone = DataRoot(root=tmp_path / "alone", profile="test")
    write_pairs(alone, "shape.line", 4)
    one = render_pairs(alone, ["shape.line"], DrawnImages(), SAMPLING)
    many = render_pairs(data, CONCEPTS, DrawnImages(), SAMPLING)
    assert one["shape.line"].content_id == many["shape.line"].content_id


def test_a_second_run_renders_nothing(data):
    first = render_pairs(data, CONCEPTS, DrawnImages(), SAMPLING)
    again = DrawnImages()
    assert render_pairs(data, CONCEPTS, again, SAMPLING) == first
    assert again.rendered == []


def test_the_checkpoints_own_solver_leaves_older_partitions_up_to_date():
    """The field came later: what was drawn before it was is the same fingerprint."""
    assert "solver" not in Sampling().fingerprint_fields
    assert Sampling(solver="dpm++2m").fingerprint_fields["solver"] == "dpm++2m"
    assert set(Sampling(solver="dpm++2m").fingerprint_fields) - set(
        Sampling().fingerprint_fields
    ) == {"solver"}


def test_a_solver_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"solver must be one of .* got 'ddim'"):
        Sampling(solver="ddim")  # pyright: ignore[reportArgumentType]


def test_another_sampling_makes_the_partition_stale(data):
    render_pairs(data, CONCEPTS, DrawnImages(), SAMPLING)
    more_steps = Sampling(num_inference_steps=3, width=16, height=16)
    assert spec(data, "shape.dot", DrawnImages(), SAMPLING).state() == "done"
    assert spec(data, "shape.dot", DrawnImages(), more_steps).state() == "stale"


def test_unusable_images_are_rejected_with_a_reason_and_the_rest_is_kept(data):
    generator = DrawnImages(black="dot picture 1", flat="dot picture 2")
    made = render_pairs(data, ["shape.dot"], generator, SAMPLING)["shape.dot"]
    assert made.rejected == {"black_image": 1, "constant_image": 1}
    assert made.rows + sum(made.rejected.values()) == made.counts["images_asked"] == 10
    rejected = manifests.read(data.partition("images", "shape.dot"), "rejected").to_pylist()
    assert {row["side"] for row in rejected} == {"unsafe"}


class BlackFor(DrawnImages):
    """Black pictures for the pairs of one concept."""

    def __init__(self, data: DataRoot, concept: str) -> None:
        super().__init__()
        pairs = manifests.read(data.partition("prompts", concept), "pairs")["pair_id"].to_pylist()
        self._seeds = {records.pair_seed(pair, self.model_id) for pair in pairs}

    def render(self, prompts, seeds, progress=None):
        images = super().render(prompts, seeds, progress)
        images[[seed in self._seeds for seed in seeds]] = 0
        return images


def test_a_concept_without_a_usable_image_fails_and_the_others_are_made(data):
    black = BlackFor(data, "shape.dot")
    with pytest.raises(NothingMade, match=r"images shape\.dot: 0 of 10 images.*black_image \(10"):
        render_pairs(data, CONCEPTS, black, SAMPLING)
    states = [spec(data, concept, black, SAMPLING).state() for concept in CONCEPTS]
    assert states == ["empty", "done"]


def test_after_the_cause_is_mended_the_concept_is_rendered_again(data):
    with pytest.raises(NothingMade):
        render_pairs(data, ["shape.dot"], BlackFor(data, "shape.dot"), SAMPLING)
    assert render_pairs(data, ["shape.dot"], DrawnImages(), SAMPLING)["shape.dot"].rows == 10
    assert not (data.partition("images", "shape.dot") / NOTHING).exists()


def test_rejected_images_are_not_rendered_again_on_resume(data):
    with pytest.raises(KeyboardInterrupt):
        render_pairs(data, CONCEPTS, DrawnImages(stop_after=12, flat="shape"), SAMPLING)
    resumed = DrawnImages(flat="shape")
    render_pairs(data, CONCEPTS, resumed, SAMPLING)
    assert len(resumed.rendered) <= 12


def test_a_concept_without_prompts_is_named(data):
    with pytest.raises(InputMissing, match=r"shape\.none"):
        render_pairs(data, ["shape.none"], DrawnImages(), SAMPLING)


def test_a_concept_that_another_process_renders_is_refused(data):
    with (
        open_partition(spec(data, "shape.line", DrawnImages(), SAMPLING)),
        pytest.raises(PartitionBusy, match=r"shape\.line"),
    ):
        render_pairs(data, CONCEPTS, DrawnImages(), SAMPLING)


def test_an_error_while_saving_is_not_lost(data, monkeypatch):
    def full(pixels):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alignguard_data.images.rendering.encode_png", full)
    with pytest.raises(OSError, match="No space left"):
        render_pairs(data, CONCEPTS, DrawnImages(), SAMPLING)


def test_image_id_is_the_hash_of_the_stored_file(data):
    render_pairs(data, CONCEPTS, DrawnImages(), SAMPLING)
    table = images_of(data, "shape.dot")
    for row in table.to_pylist():
        assert row["image_id"] == records.image_id(row["image"])
        assert (row["width"], row["height"]) == (16, 16)
    assert table["pair_id"].to_pylist() == sorted(table["pair_id"].to_pylist())


def test_png_bytes_are_deterministic_and_lossless():
    pixels = DrawnImages()._draw("a", 1)
    encoded = encode_png(pixels)
    assert encoded == encode_png(pixels.copy())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded))), pixels)


def test_phash_is_64_bits_and_tells_images_apart():
    one, other = (phash_hex(DrawnImages()._draw("a", seed)) for seed in (1, 2))
    assert len(one) == 16
    assert one != other


def test_one_differing_pixel_makes_an_image_usable():
    flat = np.full((4, 4, 3), 9, np.uint8)
    assert reject_reason(flat) == "constant_image"
    assert reject_reason(flat * 0) == "black_image"
    flat[3, 3, 0] = 10
    assert reject_reason(flat) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_inference_steps": 0},
        {"batch_size": 0},
        {"guidance_scale": -1.0},
        *({side: pixels} for side in ("width", "height") for pixels in (33, 511, 4, 0, -8)),
    ],
)
def test_a_wrong_sampling_names_field_and_value(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=rf"{name}.*{value}"):
        Sampling(**wrong)
