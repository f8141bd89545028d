"""Peers by their profile names. Imports no torch: a method is imported when built."""

import importlib
from collections.abc import Mapping
from typing import Any

from alignguard_train.contracts.peer_methods import PEERS
from alignguard_train.peers.concept import Peer


def make_peer(name: str, parameters: Mapping[str, Any] | None = None) -> Peer:
    """Make a published method for comparison.

    Args:
        name: its key.
        parameters: its settings; defaults for the rest.

    Returns:
        The peer.

    Raises:
        ValueError: no such peer, or a parameter is unknown or invalid.
    """
    if name not in PEERS:
        raise ValueError(f"no peer {name!r}; there are {', '.join(PEERS)}")
    module, _, kind = PEERS[name].partition(":")
    try:
        return getattr(importlib.import_module(module), kind)(**(parameters or {}))
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
