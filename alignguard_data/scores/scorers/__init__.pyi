from .clip import ClipScorer
from .nudenet import NudeNetScorer
from .q16 import Q16Scorer, convert_q16
from .safety_checker import SafetyCheckerScorer
from .twins import SentenceTwins, TwinSimilarity
from .vlm_judge import VlmJudge

__all__ = [
    "ClipScorer",
    "NudeNetScorer",
    "Q16Scorer",
    "SafetyCheckerScorer",
    "SentenceTwins",
    "TwinSimilarity",
    "VlmJudge",
    "convert_q16",
]
