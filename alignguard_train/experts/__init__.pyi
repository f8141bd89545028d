from .job import ExpertJob, train_job
from .loss import cost_dpo_loss, dpo_loss, dpo_margin, preservation_loss, sft_loss
from .reader import weights_of
from .room import make_expert, spec
from .trainer import TrainedExpert, train_expert

__all__ = [
    "ExpertJob",
    "TrainedExpert",
    "cost_dpo_loss",
    "dpo_loss",
    "dpo_margin",
    "make_expert",
    "preservation_loss",
    "sft_loss",
    "spec",
    "train_expert",
    "train_job",
    "weights_of",
]
