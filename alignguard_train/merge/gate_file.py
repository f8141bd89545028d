"""A gate's file: safetensors whose header says what it learned from and for which text encoder."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from alignguard_data.contracts.errors import IntegrityError
from alignguard_train.adapters.lora import write_tensors
from alignguard_train.guards.states import EncoderIdentity
from alignguard_train.merge.linear_gate import LinearGate

HEADER = "alignguard_expert_gate"
"""Key of the header in the file's metadata."""
VERSION = 1
_TENSORS = ("bias", "mean", "scale", "weights")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertGateHeader:
    """What a gate's file says of itself.

    Attributes:
        classes: its categories, sorted.
        penalty: inverse strength of the penalty, chosen on held-out captions.
        held_out_right: share of those captions whose category was found by a fit without them.
        held_out: how many there were.
        fitted: captions of the last fit, the held-out ones among them.
        twins: whether safe twins were among them.
        encoder: the text encoder whose end-of-text state it reads.
        release: name of the release.
        texts: hash (hex) of the captions and categories, fitted and held out.
    """

    classes: tuple[str, ...]
    penalty: float
    held_out_right: float
    held_out: int
    fitted: int
    twins: bool
    encoder: EncoderIdentity
    release: str
    texts: str


def save_gate(path: Path, header: ExpertGateHeader, gate: LinearGate) -> None:
    """Write a gate's file, atomically; equal gates give equal bytes.

    Args:
        path: the file to write; its folder is made.
        header: what the file says of itself.
        gate: with the header's classes and penalty.
    """
    content = {
        "version": VERSION, **dataclasses.asdict(header), "encoder": header.encoder._asdict(),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(gate, name).contiguous() for name in _TENSORS}
    write_tensors(tensors, path, {HEADER: json.dumps(content, sort_keys=True)})


def read_gate(path: Path) -> tuple[ExpertGateHeader, LinearGate]:
    """Read a gate's file.

    Args:
        path: a local safetensors file.

    Returns:
        What it says of itself, and the classifier.

    Raises:
        IntegrityError: there is no such file, or it is not a gate's; says what is wrong.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} cannot be read as safetensors: {error}") from error
    header = _header(path, text)
    if faults := _shape_faults(header, tensors):
        raise IntegrityError(f"{path} is no whole gate: {'; '.join(faults)}")
    gate = LinearGate(
        classes=header.classes, penalty=header.penalty, held_out=header.held_out_right, **tensors
    )
    return header, gate


def _header(path: Path, text: str | None) -> ExpertGateHeader:
    if text is None:
        raise IntegrityError(f"{path} is not a gate: its metadata lacks {HEADER}")
    try:
        content = json.loads(text)
        version = content.pop("version")
        if version != VERSION:
            raise IntegrityError(
                f"{path} has gate format {version}; this version reads {VERSION}: fit it again"
            )
        return ExpertGateHeader(
            **{
                **content,
                "classes": tuple(content["classes"]),
                "encoder": EncoderIdentity(**content["encoder"]),
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{path} has a faulty gate header: {error!r}") from error


def _shape_faults(header: ExpertGateHeader, tensors: dict[str, Tensor]) -> list[str]:
    count, width = len(header.classes), header.encoder.width
    wanted = {"bias": (count,), "mean": (width,), "scale": (width,), "weights": (count, width)}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return [
        f"{name} is {found.get(name, 'missing')}, must be {wanted.get(name, 'absent')}"
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    ]
