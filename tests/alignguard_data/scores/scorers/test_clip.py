"""CLIP score, Q16 and the safety checker against independent computations."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from transformers import CLIPModel

from alignguard_data.contracts.errors import EngineError
from alignguard_data.scores.scorers.clip import ClipScorer
from alignguard_data.scores.scorers.q16 import VECTORS, Q16Scorer, convert_q16
from alignguard_data.scores.scorers.safety_checker import SafetyCheckerScorer
from benchmarks.tiny.clip import WIDTH, save_checker, save_clip
from benchmarks.tiny.diffusion import tiny_tokenizer

PROMPTS = ["a b", "c", "a much longer prompt than the model can read in one go", "d e f", "g"]
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
SPREAD = np.array([0.26862954, 0.26130258, 0.27577711])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="module")
def images():
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (5, 6, 5, 3), dtype=np.uint8)
    return coarse.repeat(10, axis=1).repeat(10, axis=2)  # 60 x 50: has to be scaled and cropped


def by_hand(image: np.ndarray, side: int = 32) -> torch.Tensor:
    """OpenAI's transform: shorter side to ``side`` (bicubic), centre crop, CLIP's normalization."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (int(width * scale), int(height * scale))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
    cropped = small[top : top + side, left : left + side] / 255
    return torch.from_numpy(((cropped - MEAN) / SPREAD).transpose(2, 0, 1)).float()[None]


def embeddings(model, images) -> torch.Tensor:
    """Through the network's parts, one image at a time."""
    network = CLIPModel.from_pretrained(model).eval()
    with torch.no_grad():
        seen = [network.vision_model(by_hand(image)).pooler_output for image in images]
        return torch.cat([network.visual_projection(one) for one in seen])


def test_clip_score_is_100_times_the_cosine(model, images):
    found = ClipScorer(str(model), device="cpu", batch_size=2).score(images, PROMPTS)
    network, tokenizer = CLIPModel.from_pretrained(model).eval(), tiny_tokenizer()
    said = []
    for prompt in PROMPTS:
        tokens = tokenizer(prompt, truncation=True, max_length=12, return_tensors="pt")
        with torch.no_grad():
            read = network.text_model(**tokens).pooler_output
            said.append(network.text_projection(read))
    cosines = torch.nn.functional.cosine_similarity(embeddings(model, images), torch.cat(said))
    assert [row["score"] for row in found] == pytest.approx((100 * cosines).tolist(), abs=0.3)
    assert np.ptp([row["score"] for row in found]) > 1


@pytest.fixture
def vectors(tmp_path):
    # Close to each other, as tuned ones are: else the factor of 100 makes every answer 0 or 1.
    drawn = np.random.default_rng(1).normal(size=(2, WIDTH))
    drawn[1] = drawn[0] + 0.05 * drawn[1]
    path = tmp_path / "q16.safetensors"
    save_file({VECTORS: drawn.astype(np.float32)}, path)
    return path


def test_an_image_of_one_pixel_is_scored(model, vectors):
    pixel = np.full((1, 1, 1, 3), 7, np.uint8)
    for scorer in (ClipScorer(str(model)), Q16Scorer(vectors=str(vectors), model=str(model))):
        (scores,) = scorer.score(pixel, ["a b"])
        assert np.isfinite(list(scores.values())).all()


def test_q16_is_the_softmax_of_100_cosines(model, images, vectors):
    """Two classes: p = 1 / (1 + exp(100 (cos_0 - cos_1)))."""
    found = Q16Scorer(str(vectors), str(model), device="cpu", batch_size=2).score(images, PROMPTS)
    shown, classes = embeddings(model, images), torch.from_numpy(load_file(vectors)[VECTORS])
    cosines = torch.stack(
        [torch.nn.functional.cosine_similarity(shown, one[None]) for one in classes]
    )
    wanted = 1 / (1 + torch.exp(100 * (cosines[0] - cosines[1])))
    assert [row["inappropriate"] for row in found] == pytest.approx(wanted.tolist(), abs=0.02)
    assert np.ptp([row["inappropriate"] for row in found]) > 0.05


def test_q16_vectors_of_another_model_are_refused(model, images, tmp_path):
    save_file({VECTORS: np.ones((2, 5), np.float32)}, tmp_path / "other.safetensors")
    scorer = Q16Scorer(str(tmp_path / "other.safetensors"), str(model), device="cpu")
    with pytest.raises(EngineError, match="width 5, the CLIP model gives 16"):
        scorer.score(images, PROMPTS)


def test_without_vectors_the_error_says_where_to_get_them(model, tmp_path):
    with pytest.raises(EngineError, match="alignguard convert-q16"):
        _ = Q16Scorer(str(tmp_path / "none"), str(model)).version


def test_both_published_forms_of_the_vectors_are_converted(tmp_path):
    drawn = np.random.default_rng(2).normal(size=(2, 768)).astype(np.float16)
    with (tmp_path / "numpy.p").open("wb") as file:
        pickle.dump(drawn, file)
    torch.save(torch.from_numpy(drawn), tmp_path / "torch.p")
    for name in ("numpy.p", "torch.p"):
        assert convert_q16(tmp_path / name, tmp_path / "out.safetensors") == (2, 768)
        assert np.array_equal(load_file(tmp_path / "out.safetensors")[VECTORS], drawn)


class _Evil:
    def __init__(self, marker) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


BAD = {
    "garbage": lambda folder: b"not a pickle",
    "empty": lambda folder: b"",
    "code": lambda folder: pickle.dumps(_Evil(folder / "ran")),
    "one vector": lambda folder: pickle.dumps(np.ones((1, 768))),
    "not finite": lambda folder: pickle.dumps(np.full((2, 4), np.nan)),
}


@pytest.mark.parametrize("kind", BAD)
def test_anything_else_is_refused_and_runs_nothing(tmp_path, kind):
    source = tmp_path / "prompts.p"
    source.write_bytes(BAD[kind](tmp_path))
    with pytest.raises(EngineError, match=r"prompts\.p"):
        convert_q16(source, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "ran").exists()


def test_the_safety_checker_agrees_with_its_own_verdict(tmp_path):
    folder = save_checker(tmp_path / "checker")
    draw = np.random.default_rng(3)
    images = draw.integers(0, 256, (24, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    scorer = SafetyCheckerScorer(str(folder), device="cpu", batch_size=7)
    found = scorer.score(images, [""] * 24)
    checker, processor = scorer._loaded
    pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
    _, verdicts = checker(clip_input=pixels, images=images.astype(float))
    assert [round(row["concept"], 3) > 0 for row in found] == verdicts
    assert 0 < sum(verdicts) < 24, "verdicts must differ for the comparison to mean anything"


@pytest.mark.parametrize("build", [ClipScorer, SafetyCheckerScorer])
def test_a_hub_id_needs_a_revision(build):
    with pytest.raises(EngineError, match="revision"):
        build("someone/model")
    assert build("someone/model", "abc").version == "someone/model@abc"


def test_a_folder_that_is_no_clip_is_an_engine_error(tmp_path, images):
    (tmp_path / "x.safetensors").write_bytes(b"x")
    with pytest.raises(EngineError, match="cannot be loaded as CLIP"):
        ClipScorer(str(tmp_path)).score(images, PROMPTS)


def test_identity_is_known_without_importing_torch(model, vectors):
    code = (
        "import sys\n"
        "from alignguard_data.scores.scorers.clip import ClipScorer\n"
        "from alignguard_data.scores.scorers.q16 import Q16Scorer\n"
        f"assert ClipScorer({str(model)!r}).version.startswith('tiny-clip@')\n"
        f"assert '+' in Q16Scorer({str(vectors)!r}, {str(model)!r}).version\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
