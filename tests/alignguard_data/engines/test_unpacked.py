"""Models that come as one file: unpacked once, whole or not at all, and the same model after."""

import zipfile
from pathlib import Path

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.text.vllm_writer import VLLMWriter
from alignguard_data.engines.unpacked import is_packed, packed_revision, unpacked


@pytest.fixture(autouse=True)
def cache(request, monkeypatch, tmp_path) -> Path:
    if "smollm2" not in request.fixturenames:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def archive(path: Path, **files: str) -> str:
    with zipfile.ZipFile(path, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return str(path)


def test_a_writer_knows_a_ggufs_identity_without_unpacking_it(smollm2):
    one = VLLMWriter(model=smollm2)
    assert one.model_id == "SmolLM2-135M-Instruct.Q4_1"
    assert one.revision.startswith(packed_revision(smollm2))


def test_an_archive_is_unpacked_once(tmp_path, cache):
    model = archive(tmp_path / "m.zip", **{"config.json": "{}", "a/b.txt": "b"})
    folder = unpacked(model)
    assert (folder / "a/b.txt").read_text() == "b"
    (folder / "mine").touch()
    assert unpacked(model) == folder
    assert (folder / "mine").exists()
    assert folder.is_relative_to(cache)


def test_other_content_under_the_same_name_has_a_folder_of_its_own(tmp_path):
    first = unpacked(archive(tmp_path / "m.zip", a="1"))
    assert unpacked(archive(tmp_path / "m.zip", a="2")) != first


@pytest.mark.parametrize(
    ("name", "said"),
    [("m.zip", "not an archive of a model"), ("m.gguf", "not a readable GGUF file")],
)
def test_a_broken_file_is_named_and_leaves_nothing(tmp_path, cache, name, said):
    broken = tmp_path / name
    broken.write_bytes(b"not a model")
    with pytest.raises(EngineError, match=said) as caught:
        unpacked(str(broken))
    assert str(broken) in str(caught.value)
    assert list((cache / "alignguard" / "models").iterdir()) == []


def test_only_files_of_these_kinds_are_packed(tmp_path):
    folder = tmp_path / "folder.zip"
    folder.mkdir()
    assert not is_packed(str(folder))
    assert not is_packed("someone/model.gguf")
