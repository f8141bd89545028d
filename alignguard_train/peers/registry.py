"""Peers by name, as a profile spells them. Free of torch: a method is imported when it is made."""

import importlib
from collections.abc import Mapping
from typing import Any

from alignguard_train.peers.concept import Peer

PEERS: dict[str, str] = {
    "negative_prompt": "alignguard_train.peers.negative_prompt:NegativePrompt",
    "sld": "alignguard_train.peers.sld:SLD",
    "casg": "alignguard_train.peers.casg:CASG",
    "safree": "alignguard_train.peers.safree:SAFREE",
    "uce": "alignguard_train.peers.uce:UCE",
    "esd": "alignguard_train.peers.esd:ESD",
}
"""Name to the class that does it."""

TITLES: dict[str, str] = {
    "negative_prompt": "Negative prompt",
    "sld": "SLD",
    "casg": "CASG on SLD",
    "safree": "SAFREE (text space)",
    "uce": "UCE",
    "esd": "ESD-u",
}


def make_peer(name: str, parameters: Mapping[str, Any] | None = None) -> Peer:
    """A peer with its parameters, its own defaults for the rest.

    Raises:
        ValueError: no such peer, or a parameter that it does not know or take.
    """
    if name not in PEERS:
        raise ValueError(f"no peer {name!r}; there are {', '.join(PEERS)}")
    module, _, kind = PEERS[name].partition(":")
    try:
        return getattr(importlib.import_module(module), kind)(**(parameters or {}))
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
