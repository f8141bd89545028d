from .features import ClipFeatures, InceptionFeatures
from .room import score_concept, spec
from .scorers import (
    ClipScorer,
    NudeNetScorer,
    Q16Scorer,
    SafetyCheckerScorer,
    SentenceTwins,
    TwinSimilarity,
    VlmJudge,
    convert_q16,
)
from .thresholds import Calibration, Labels, Threshold, calibrate, read_labels, write_calibration

__all__ = [
    "Calibration",
    "ClipFeatures",
    "ClipScorer",
    "InceptionFeatures",
    "Labels",
    "NudeNetScorer",
    "Q16Scorer",
    "SafetyCheckerScorer",
    "SentenceTwins",
    "Threshold",
    "TwinSimilarity",
    "VlmJudge",
    "calibrate",
    "convert_q16",
    "read_labels",
    "score_concept",
    "spec",
    "write_calibration",
]
