"""A guard's file: safetensors whose header says what it was trained on and for which encoder."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_data.storage.shards import atomic_file
from alignguard_train.guards.states import EncoderIdentity

HEADER = "alignguard_guard"
"""Key of the header in the file's metadata."""
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """A threshold and the calibration that chose it.

    Attributes:
        value: a score of this or more is unsafe.
        calibration: id of the benign calibration prompts.
        n: how many there were.
        target_fpr: the false-positive rate asked for.
        achieved_fpr: that of the calibration prompts, at most the target.
        low: lower bound of its 95 % interval.
        high: upper bound.
    """

    value: float
    calibration: str
    n: int
    target_fpr: float
    achieved_fpr: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardHeader:
    """What a guard's file says of itself.

    Attributes:
        kind: which guard it is, a name of :mod:`alignguard_train.guards.registry`.
        encoder: the encoder whose states it reads.
        release: name of the release it was trained on.
        release_content_id: its content.
        threshold: with its calibration.
        settings: the guard's own settings, JSON.
    """

    kind: str
    encoder: EncoderIdentity
    release: str
    release_content_id: str
    threshold: Threshold
    settings: Mapping[str, Any] = field(default_factory=dict)


def save_guard(path: Path, header: GuardHeader, tensors: Mapping[str, Tensor]) -> None:
    """Write a guard's file, atomically.

    Args:
        path: the file to write; its folder is made.
        header: what the file says of itself.
        tensors: of the guard, by name.
    """
    content = {
        "version": VERSION,
        **dataclasses.asdict(header),
        "encoder": header.encoder._asdict(),
        "threshold": dataclasses.asdict(header.threshold),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        save_file(
            {name: x.detach().cpu().contiguous() for name, x in tensors.items()},
            temporary,
            metadata={HEADER: json.dumps(content, sort_keys=True)},
        )


def read_guard(path: Path) -> tuple[GuardHeader, dict[str, Tensor]]:
    """Read a guard's file.

    Args:
        path: a local safetensors file.

    Returns:
        What it says of itself, and its tensors by name.

    Raises:
        IntegrityError: there is no such file, or it is not a guard's; says what is wrong.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} cannot be read as safetensors: {error}") from error
    return _header(path, text), tensors


def read_header(path: Path) -> GuardHeader:
    """Read what a guard's file says of itself, and no tensor.

    Args:
        path: a local safetensors file.

    Returns:
        Its header.

    Raises:
        IntegrityError: there is no such file, or it is not a guard's; says what is wrong.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(HEADER)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} cannot be read as safetensors: {error}") from error
    return _header(path, text)


def check_encoder(header: GuardHeader, found: EncoderIdentity, *, of: str) -> None:
    """Refuse another encoder than the guard's.

    Args:
        header: the guard's.
        found: the encoder to read.
        of: whose it is, for the message.

    Raises:
        EngineError: they differ; names both and what differs.
    """
    if header.encoder == found:
        return
    differing = [
        name
        for name, ours, theirs in zip(EncoderIdentity._fields, header.encoder, found, strict=True)
        if ours != theirs
    ]
    raise EngineError(
        f"guard {header.kind} reads another text encoder than that of {of}: it was trained on "
        f"{header.encoder}; this is {found}; they differ in {', '.join(differing)}"
    )


def _header(path: Path, text: str | None) -> GuardHeader:
    if text is None:
        raise IntegrityError(f"{path} is not a guard: its metadata lacks {HEADER}")
    try:
        content = json.loads(text)
        version = content.pop("version")
        if version != VERSION:
            raise IntegrityError(
                f"{path} has guard format {version}; this version reads {VERSION}: train it again"
            )
        return GuardHeader(
            **{
                **content,
                "encoder": EncoderIdentity(**content["encoder"]),
                "threshold": Threshold(**content["threshold"]),
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{path} has a faulty guard header: {error!r}") from error
