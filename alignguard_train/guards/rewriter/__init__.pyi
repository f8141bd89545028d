from .guard import RewriterGuard, Rewriting
from .language import LanguageRewriter
from .losses import reply_loss
from .star import HeadScorer, TermScorer
from .twins import RewriterTwins

__all__ = [
    "HeadScorer",
    "LanguageRewriter",
    "RewriterGuard",
    "RewriterTwins",
    "Rewriting",
    "TermScorer",
    "reply_loss",
]
