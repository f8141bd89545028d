from . import (
    audit,
    contracts,
    costs,
    engines,
    images,
    importing,
    index,
    pairs,
    prompts,
    release,
    safety,
    scores,
    standin,
    storage,
    taxonomy,
)
from .contracts import AlignGuardError
from .images import render_pairs
from .index import build_index, query
from .pairs import filter_pairs
from .prompts import write_prompt_pairs
from .release import build_release, list_releases, verify_release
from .scores import score_concept
from .storage import DataRoot, parse_root
from .taxonomy import load_taxonomy, write_taxonomy

__version__: str

__all__ = [
    "AlignGuardError",
    "DataRoot",
    "audit",
    "build_index",
    "build_release",
    "contracts",
    "costs",
    "engines",
    "filter_pairs",
    "images",
    "importing",
    "index",
    "list_releases",
    "load_taxonomy",
    "pairs",
    "parse_root",
    "prompts",
    "query",
    "release",
    "render_pairs",
    "safety",
    "score_concept",
    "scores",
    "standin",
    "storage",
    "taxonomy",
    "verify_release",
    "write_prompt_pairs",
    "write_taxonomy",
]
