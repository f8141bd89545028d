from .guard import RewriterGuard, Rewriting
from .language import LanguageRewriter
from .losses import reply_loss
from .star import HeadScorer, TermScorer

__all__ = [
    "HeadScorer",
    "LanguageRewriter",
    "RewriterGuard",
    "Rewriting",
    "TermScorer",
    "reply_loss",
]
