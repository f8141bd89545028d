from .config import (
    BenignSet,
    GuardsConfig,
    GuardT2ISettings,
    LatentGuardSettings,
    LogisticSettings,
    RewriterSettings,
    SafeGuiderSettings,
)
from .files import GuardHeader, Threshold, read_guard, save_guard
from .guarded_pipe import GuardedPipe, guarded
from .guardt2i import GuardT2I
from .latent_guard import LatentGuard
from .protocol import Decision, Guard, Rewriter, tally
from .reader import guard_file
from .registry import load_guard
from .rewriter import LanguageRewriter, RewriterGuard, Rewriting
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
    "GuardT2I",
    "GuardT2ISettings",
    "GuardedPipe",
    "GuardsConfig",
    "LanguageRewriter",
    "LatentGuard",
    "LatentGuardSettings",
    "LogisticSettings",
    "Rewriter",
    "RewriterGuard",
    "RewriterSettings",
    "Rewriting",
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
