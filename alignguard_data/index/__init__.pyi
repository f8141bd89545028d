from .adapters import Adapter, list_adapters
from .pair_history import PairHistory, load_pair_history
from .room import build_index, spec
from .sql import QueryFailed, connect, export, query

__all__ = [
    "Adapter",
    "PairHistory",
    "QueryFailed",
    "build_index",
    "connect",
    "export",
    "list_adapters",
    "load_pair_history",
    "query",
    "spec",
]
