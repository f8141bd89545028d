"""A cost model's file: safetensors with a header that says what it reads and what it is worth."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_data.storage.shards import atomic_file
from alignguard_train.cost_model.config import CostModelConfig
from alignguard_train.cost_model.gate import Figures, refuse_under_gate
from alignguard_train.cost_model.head import CostHead

HEADER = "alignguard.cost_model"
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModelHeader:
    """What the file says of itself.

    Attributes:
        features: name of the feature extractor.
        features_version: its identity: model and revision, or a hash of its weights.
        width: of the features.
        release: name of the release that it was trained on.
        release_content_id: of that release.
        figures: on held-out concepts.
    """

    features: str
    features_version: str
    width: int
    release: str
    release_content_id: str
    figures: Figures


def save_cost_model(path: Path, header: CostModelHeader, head: CostHead) -> None:
    """Write a cost model's file, atomically.

    Args:
        path: the file to write; its folder is made.
        header: what the file says of itself.
        head: the network.
    """
    content = {"version": VERSION, **dataclasses.asdict(header)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        save_file(
            {name: x.detach().cpu().contiguous() for name, x in head.state_dict().items()},
            temporary,
            metadata={HEADER: json.dumps(content, sort_keys=True)},
        )


def load_cost_model(path: Path) -> tuple[CostModelHeader, CostHead]:
    """Read a cost model's file.

    Args:
        path: a local safetensors file.

    Returns:
        What it says of itself, and the network in evaluation mode.

    Raises:
        IntegrityError: there is no such file, or it is not a cost model's; says what is wrong.
        EngineError: its figures are under the gate.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} cannot be read as safetensors: {error}") from error
    if text is None:
        raise IntegrityError(f"{path} is not a cost model: its metadata lacks {HEADER}")
    header = _header(path, text)
    least = CostModelConfig()
    refuse_under_gate(
        header.figures, min_auc=least.min_auc, min_right=least.min_right, of=str(path)
    )
    head = CostHead(header.width)
    try:
        head.load_state_dict(tensors)
    except RuntimeError as error:
        raise IntegrityError(f"{path} does not hold a cost model of its width: {error}") from error
    bad = [name for name, x in tensors.items() if not torch.isfinite(x).all()]
    if bad:
        raise IntegrityError(f"{path} holds NaN or infinity in {', '.join(bad)}")
    return header, head.eval().requires_grad_(False)


def check_features(header: CostModelHeader, *, name: str, version: str, of: str) -> None:
    """Refuse another feature extractor than the cost model's.

    Args:
        header: the cost model's.
        name: of the extractor to use.
        version: its identity.
        of: the cost model, for the message.

    Raises:
        EngineError: they differ; names both.
    """
    if (header.features, header.features_version) != (name, version):
        raise EngineError(
            f"{of} was trained on the features {header.features} ({header.features_version}); "
            f"features: {name} ({version}) is another extractor, on which its costs mean nothing"
        )


def _header(path: Path, text: str) -> CostModelHeader:
    try:
        content = json.loads(text)
        version = content.pop("version")
        if version != VERSION:
            raise IntegrityError(
                f"{path} has cost model format {version}; this version reads {VERSION}: "
                "train it again"
            )
        return CostModelHeader(**{**content, "figures": Figures(**content["figures"])})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{path} has a faulty cost model header: {error!r}") from error
