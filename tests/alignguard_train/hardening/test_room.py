"""A round of hardening on files."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignguard_train.adapters import lora as files
from alignguard_train.hardening import room


@pytest.fixture
def unchanged(tmp_path, monkeypatch):
    """Makes the file of an expert without hard negatives, which keeps its weights."""
    start = tmp_path / "start.safetensors"
    layer = files.LoraLayer(down=torch.ones(2, 3), up=torch.ones(4, 2))
    files.save_lora({"attn": layer}, start)
    monkeypatch.setattr(room, "_metadata", lambda *_: {})
    work: Any = SimpleNamespace(partial=tmp_path / "partial", spec=SimpleNamespace(key="1"))
    plan: Any = SimpleNamespace(category="shapes", start=start, hard=0)
    none: Any = None
    return lambda: room._go_on(none, work, none, none, plan, None)


def test_a_file_cut_off_by_a_kill_is_written_again(unchanged, monkeypatch):
    whole = files.save_lora

    def cut_off(lora, path, metadata=None):
        whole(lora, path, metadata)
        path.write_bytes(path.read_bytes()[:20])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "save_lora", cut_off)
        with pytest.raises(KeyboardInterrupt):
            unchanged()
    assert torch.equal(files.load_lora(unchanged())["attn"].up, torch.ones(4, 2))
