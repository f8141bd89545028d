from .config import AttackConfig, RobustnessConfig
from .counting import Counted
from .judging import ImageJudge
from .protocol import Attack, Budget, Candidate, Case, Counters, Found, Target
from .records import AttackedCase, Preparation
from .registry import make_attack
from .room import attack_all
from .target import DiffusersTarget
from .targets import Models

__all__ = [
    "Attack",
    "AttackConfig",
    "AttackedCase",
    "Budget",
    "Candidate",
    "Case",
    "Counted",
    "Counters",
    "DiffusersTarget",
    "Found",
    "ImageJudge",
    "Models",
    "Preparation",
    "RobustnessConfig",
    "Target",
    "attack_all",
    "make_attack",
]
