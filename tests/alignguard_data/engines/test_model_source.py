"""A model from a folder, a packed file or the hub: one name, one revision, one refusal."""

import hashlib
import zipfile

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.clip_model import ClipModel
from alignguard_data.engines.concept_check import EmbeddingCheck
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.embedder import ClipTextEmbedder
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.sentences import SentenceEmbedder
from alignguard_data.engines.text.vllm_writer import VLLMWriter
from alignguard_data.engines.tokens import TokenCounter
from alignguard_data.engines.weights import folder_revision, tokenizer_revision
from alignguard_data.scores.scorers.safety_checker import SafetyCheckerScorer
from alignguard_data.standin.factory import base_model_folder
from alignguard_train.base import BaseModel

FOLDER = base_model_folder()
HUB, COMMIT = "someone/some-model", "0123abc"
HASH = folder_revision(FOLDER)


def generator(model, revision=None, **vae):
    return DiffusersImageGenerator(model=model, revision=revision, sampling=Sampling(), **vae)


def base(model, revision=None, **vae):
    return BaseModel(model=model, revision=revision, **vae)


def writer(model, revision=None):
    return VLLMWriter(model=model, model_revision=revision)


def ids(engine):
    return engine.model_id, engine.revision


def encoder_version():
    files = [
        file
        for part in ("text_encoder", "tokenizer")
        for file in sorted((FOLDER / part).glob("*"))
        if file.suffix in (".safetensors", ".json", ".txt")
    ]
    text = "".join(f"{f.name}{hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files)
    return f"clip-text-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


ENGINES = {
    # engine: what it says of itself, from a folder, from the hub
    generator: (ids, ("base", HASH), (HUB, COMMIT)),
    base: (ids, ("base", HASH), (HUB, COMMIT)),
    ClipModel: (lambda e: e.identity, f"base@{HASH}", f"{HUB}@{COMMIT}"),
    SafetyCheckerScorer: (lambda e: e.version, f"base@{HASH}", f"{HUB}@{COMMIT}"),
    ClipTextEmbedder: (lambda e: e.version, encoder_version(), f"{HUB}@{COMMIT}"),
    SentenceEmbedder: (lambda e: e.version, f"sentences-{HASH}", f"{HUB}@{COMMIT}"),
    EmbeddingCheck: (lambda e: e.version, f"{encoder_version()}+m0.02", f"{HUB}@{COMMIT}+m0.02"),
    TokenCounter: (lambda e: e.version, tokenizer_revision(FOLDER), COMMIT),
    writer: (
        lambda e: (e.model_id, e.revision.partition("+")[0]), ("base", HASH), (HUB, COMMIT)
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_names_and_revisions_that_enter_fingerprints(engine):
    said, of_folder, of_hub = ENGINES[engine]
    assert said(engine(str(FOLDER))) == of_folder
    assert said(engine(str(FOLDER), COMMIT)) == of_folder, "a folder's revision is its content"
    assert said(engine(HUB, COMMIT)) == of_hub


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hub_id_without_a_revision_is_refused_by_field_and_value(engine):
    field = "model_revision" if engine is writer else "revision"
    for revision in (None, ""):
        with pytest.raises(
            EngineError, match=f"{HUB} .* needs a revision .*{field} is {revision!r}"
        ):
            engine(HUB, revision)


@pytest.mark.parametrize("engine", [generator, base])
def test_another_vae_is_a_model_of_its_own(engine):
    with pytest.raises(EngineError, match=f"{HUB} .* vae_revision is None"):
        engine(str(FOLDER), vae=HUB)
    local = engine(str(FOLDER), vae=str(FOLDER))
    hub = engine(HUB, COMMIT, vae="some/vae", vae_revision="9f")
    if engine is base:
        assert local.models == {"base": HASH, "vae base": HASH}
        assert hub.models == hub.unloaded().models == {HUB: COMMIT, "vae some/vae": "9f"}
    else:
        assert (local.revision, hub.revision) == (f"{HASH}+{HASH}", f"{COMMIT}+some/vae@9f")


def test_a_packed_file_is_named_without_its_path_and_unpacked_when_it_is_loaded(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "small.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
    source = ModelSource(str(file))
    assert (source.model_id, source.revision, source.folder) == (
        "small", hashlib.sha256(file.read_bytes()).hexdigest()[:16], None
    )  # fmt: skip
    assert not (tmp_path / "cache").exists()
    folder = source.arguments.pop("pretrained_model_name_or_path")
    assert (tmp_path / "cache") in (tmp_path / folder).parents
    assert [path.name for path in (tmp_path / folder).iterdir()] == ["config.json"]


def test_arguments_name_the_revision_for_the_hub_only():
    assert ModelSource(HUB, COMMIT).arguments == {
        "pretrained_model_name_or_path": HUB, "revision": COMMIT
    }  # fmt: skip
    assert ModelSource(str(FOLDER), COMMIT).arguments == {
        "pretrained_model_name_or_path": str(FOLDER)
    }
