"""What an attack prepared, as bytes (safetensors): a killed attempt does not prepare again."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.robustness.attacks.chat_model import TrainedLora
from alignguard_train.robustness.attacks.concept_vector import ConceptVectors, Mean
from alignguard_train.robustness.attacks.red_team_model import RedTeamModel
from alignguard_train.robustness.attacks.substitutes import Pool

_ABOUT = "about"
"""Name of the tensor that holds the JSON; the others are the state's own."""


def pack(state: object) -> bytes | None:
    """Bytes of a prepared state; None for one of an unknown kind, which is then prepared again."""
    if state is None:
        return _saved("nothing", {}, {})
    if isinstance(state, Pool):
        vectors = {} if state.vectors is None else {"vectors": state.vectors}
        return _saved("pool", {"words": state.words}, vectors)
    if isinstance(state, ConceptVectors):
        tensors = {}
        for i, mean in enumerate(state.means.values()):
            tensors[f"{i} states"] = mean.vector.states
            if mean.vector.pooled is not None:
                tensors[f"{i} pooled"] = mean.vector.pooled
        pairs = [(key, mean.pairs) for key, mean in state.means.items()]
        return _saved("vectors", {"pairs": pairs}, tensors)
    if isinstance(state, RedTeamModel):
        return _saved("model", {"sizes": state.sizes}, state.network.state_dict())
    if isinstance(state, TrainedLora):
        return _saved("lora", {}, state.weights)
    if isinstance(state, Mapping) and all(isinstance(x, Tensor) for x in state.values()):
        return _saved("by name", {}, dict(state))
    return None


def unpack(content: bytes) -> object:
    """The state that :func:`pack` wrote; tensors are on their device again."""
    found = load(content)
    about: dict[str, Any] = json.loads(bytes(found.pop(_ABOUT).tolist()))
    tensors = {name: found[name].to(device) for name, device in about["devices"].items()}
    if about["kind"] == "pool":
        return Pool(words=tuple(about["words"]), vectors=tensors.get("vectors"))
    if about["kind"] == "vectors":
        means = {
            key: Mean(
                vector=Conditions(states=tensors[f"{i} states"], pooled=tensors.get(f"{i} pooled")),
                pairs=pairs,
            )
            for i, (key, pairs) in enumerate(about["pairs"])
        }
        return ConceptVectors(means=means)
    if about["kind"] == "model":
        model = RedTeamModel(**about["sizes"])
        model.network.load_state_dict(tensors)
        return model
    if about["kind"] == "lora":
        return TrainedLora(tensors)
    return tensors if about["kind"] == "by name" else None


def _saved(kind: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    devices = {name: str(one.device) for name, one in tensors.items()}
    text = json.dumps({"kind": kind, "devices": devices, **about})
    # Copies: a network may use one tensor under two names, which safetensors refuses.
    own = {name: one.detach().cpu().clone().contiguous() for name, one in tensors.items()}
    return save({**own, _ABOUT: torch.tensor(list(text.encode()), dtype=torch.uint8)})
