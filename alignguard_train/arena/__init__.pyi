from .cells import Cell, cells_block
from .columns import Column
from .fronts import Front
from .pareto import pareto_front
from .sources import Source, read_sources
from .table import Arena, arena_of

__all__ = [
    "Arena",
    "Cell",
    "Column",
    "Front",
    "Source",
    "arena_of",
    "cells_block",
    "pareto_front",
    "read_sources",
]
