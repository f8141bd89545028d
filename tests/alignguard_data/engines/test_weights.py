"""A folder's revision is its content: any changed byte of a file that counts changes it."""

import shutil

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.tokens import TokenCounter
from alignguard_data.engines.weights import file_revision, folder_revision


def test_a_copy_elsewhere_has_the_same_revision(tiny_folder, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_folder, copy)
    (copy / "README.md").write_text("notes do not count")
    assert folder_revision(copy) == folder_revision(tiny_folder)


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a_changed_file_changes_the_revision(tiny_folder, tmp_path, file):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    before = folder_revision(copy)
    (copy / file).write_text((copy / file).read_text() + " ")
    assert folder_revision(copy) != before


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("tokenizer/vocab.json", True),
        ("tokenizer/merges.txt", True),
        ("tokenizer/spiece.model", True),
        ("unet/config.json", False),
        ("text_encoder/config.json", False),
    ],
)
def test_the_token_counters_version_is_its_tokenizers_content(tiny_folder, tmp_path, file, counts):
    """At the same path: prompts are asked again for another tokenizer, not for other weights."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    before = TokenCounter(str(copy)).version
    assert before == TokenCounter(str(tiny_folder)).version
    with (copy / file).open("a") as changed:
        changed.write(" ")
    assert (TokenCounter(str(copy)).version != before) == counts


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match=r"no \.safetensors"):
        folder_revision(tmp_path)


def test_only_safetensors_files_are_adapters(tmp_path):
    (tmp_path / "adapter.bin").write_bytes(b"x")
    with pytest.raises(EngineError, match="not a safetensors file"):
        file_revision(tmp_path / "adapter.bin")
