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
from .rewriter import LanguageRewriter, RewriterGuard, RewriterTwins, Rewriting
from .room import make_guard, spec
from .shield.config import ShieldSettings
from .shield.consistency import Consistency
from .shield.guard import Shield
from .shield.scan import OutputScan
from .softening.config import DualLatentSettings, SafreeSettings, SLDSettings
from .softening.dual_latent import DualLatent
from .states import EncoderIdentity, FrozenEncoder, TextStates
from .text_guard import TextGuard

__all__ = [
    "BenignSet",
    "Consistency",
    "Decision",
    "DualLatent",
    "DualLatentSettings",
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
    "OutputScan",
    "Rewriter",
    "RewriterGuard",
    "RewriterSettings",
    "RewriterTwins",
    "Rewriting",
    "SLDSettings",
    "SafeGuiderSettings",
    "SafreeSettings",
    "Shield",
    "ShieldSettings",
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
