from .config import EvaluationConfig, PromptSetConfig, ScoreKey
from .distributions import fid, kid
from .judge import AdaptableGenerator
from .prompt_sets import PromptSet, read_prompt_sets
from .records import EvaluatedImage, EvaluationRow, RejectedPrompt
from .room import evaluate_all, spec
from .statistics import (
    Bootstrap,
    Interval,
    ip,
    mcnemar,
    metrics_table,
    paired_difference,
    paired_table,
    tango,
    wilson,
)

__all__ = [
    "AdaptableGenerator",
    "Bootstrap",
    "EvaluatedImage",
    "EvaluationConfig",
    "EvaluationRow",
    "Interval",
    "PromptSet",
    "PromptSetConfig",
    "RejectedPrompt",
    "ScoreKey",
    "evaluate_all",
    "fid",
    "ip",
    "kid",
    "mcnemar",
    "metrics_table",
    "paired_difference",
    "paired_table",
    "read_prompt_sets",
    "spec",
    "tango",
    "wilson",
]
