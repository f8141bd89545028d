from .guard_file import GuardHeader, Threshold, read_guard, save_guard
from .protocol import Decision, Guard, tally
from .states import EncoderIdentity, FrozenEncoder, TextStates
from .text_guard import TextGuard

__all__ = [
    "Decision",
    "EncoderIdentity",
    "FrozenEncoder",
    "Guard",
    "GuardHeader",
    "TextGuard",
    "TextStates",
    "Threshold",
    "read_guard",
    "save_guard",
    "tally",
]
