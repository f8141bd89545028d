from .adv_unlearn import AdvUnlearn
from .casg import CASG
from .concept import Concept, Peer
from .esd import ESD
from .negative_prompt import NegativePrompt
from .registry import make_peer
from .safree import SAFREE
from .sld import SLD
from .uce import UCE

__all__ = [
    "CASG",
    "ESD",
    "SAFREE",
    "SLD",
    "UCE",
    "AdvUnlearn",
    "Concept",
    "NegativePrompt",
    "Peer",
    "make_peer",
]
