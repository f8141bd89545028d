"""A guard's file: what it says, and what it refuses."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_train.guards.files import HEADER, check_encoder, read_guard, save_guard
from tests.alignguard_train.guards.small import eos_first_encoder, header_for


def test_a_file_gives_back_its_header_and_tensors(tmp_path):
    header = header_for(eos_first_encoder(), concepts=["a", "b"])
    save_guard(tmp_path / "g.safetensors", header, {"w": torch.arange(3.0)})
    found, tensors = read_guard(tmp_path / "g.safetensors")
    assert found == header
    assert torch.equal(tensors["w"], torch.arange(3.0))


def test_the_header_is_readable_without_this_package(tmp_path):
    from safetensors import safe_open

    encoder = eos_first_encoder()
    save_guard(tmp_path / "g.safetensors", header_for(encoder), {"w": torch.zeros(1)})
    with safe_open(tmp_path / "g.safetensors", "pt") as file:
        content = json.loads(file.metadata()[HEADER])
    assert content["encoder"] == encoder.identity._asdict()
    assert set(content["threshold"]) == {
        "value", "calibration", "n", "target_fpr", "achieved_fpr", "low", "high",
    }  # fmt: skip
    assert content["release"] == "made-up-v1"


@pytest.mark.parametrize(
    ("field", "value"),
    [("encoder", "OtherModel"), ("width", 17), ("length", 9), ("eos_id", 3), ("weights", "f" * 32)],
)
def test_another_encoder_is_refused_with_both_and_the_difference(field, value):
    header = header_for(eos_first_encoder())
    other = header.encoder._replace(**{field: value})
    with pytest.raises(EngineError) as raised:
        check_encoder(header, other, of="a pipe")
    text = str(raised.value)
    assert str(header.encoder) in text
    assert str(other) in text
    assert text.endswith(f"they differ in {field}")


def test_the_same_encoder_is_accepted():
    header = header_for(eos_first_encoder())
    check_encoder(header, eos_first_encoder().identity, of="a pipe")


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (None, "lacks alignguard_guard"),
        ({HEADER: "{"}, "faulty guard header"),
        ({HEADER: "{}"}, "faulty guard header: KeyError"),
        ({HEADER: json.dumps({"version": 99})}, "has guard format 99"),
        ({HEADER: "[1]"}, "faulty guard header"),
    ],
)
def test_a_file_that_is_no_guard_says_why(tmp_path, metadata, says):
    save_file({"w": torch.zeros(1)}, tmp_path / "g.safetensors", metadata=metadata)
    with pytest.raises(IntegrityError, match=says):
        read_guard(tmp_path / "g.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_missing_or_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "g.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"g\.safetensors cannot be read"):
        read_guard(path)


def test_an_unknown_field_is_a_faulty_header(tmp_path):
    header = header_for(eos_first_encoder())
    content = {"version": 1, **dataclasses.asdict(header), "strange": 1}
    content["encoder"] = header.encoder._asdict()
    metadata = {HEADER: json.dumps(content)}
    save_file({"w": torch.zeros(1)}, tmp_path / "g.safetensors", metadata=metadata)
    with pytest.raises(IntegrityError, match="strange"):
        read_guard(tmp_path / "g.safetensors")
