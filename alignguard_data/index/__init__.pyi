from .adapters import Adapter, list_adapters
from .pair_history import Story, pair_story
from .room import build_index, spec
from .sql import QueryFailed, connect, export, query

__all__ = [
    "Adapter",
    "QueryFailed",
    "Story",
    "build_index",
    "connect",
    "export",
    "list_adapters",
    "pair_story",
    "query",
    "spec",
]
