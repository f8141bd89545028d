from .config import (
    BenignSet,
    GuardsConfig,
    LatentGuardSettings,
    LogisticSettings,
    SafeGuiderSettings,
)
from .files import GuardHeader, Threshold, read_guard, save_guard
from .guarded_pipe import GuardedPipe, guarded
from .latent_guard import LatentGuard
from .protocol import Decision, Guard, Rewriter, tally
from .reader import guard_file
from .registry import load_guard
from .room import make_guard, spec
from .states import EncoderIdentity, FrozenEncoder, TextStates
from .text_guard import TextGuard

__all__ = [
    "BenignSet",
    "Decision",
    "EncoderIdentity",
    "FrozenEncoder",
    "Guard",
    "GuardHeader",
    "GuardedPipe",
    "GuardsConfig",
    "LatentGuard",
    "LatentGuardSettings",
    "LogisticSettings",
    "Rewriter",
    "SafeGuiderSettings",
    "TextGuard",
    "TextStates",
    "Threshold",
    "guard_file",
    "guarded",
    "load_guard",
    "make_guard",
    "read_guard",
    "save_guard",
    "spec",
    "tally",
]
