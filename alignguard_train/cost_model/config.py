"""What a profile's `cost_model.settings` hold."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModelConfig:
    """How the cost model is trained, and the gate that it must pass.

    Attributes:
        held_out_share: share of the concepts, and of the seeds, left out of training.
        epochs: passes over the training pairs.
        batch_size: pairs of one step.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        anchoring: weight of the loss that puts the border of safe and unsafe at 0.
        min_auc: least area under the ROC curve on held-out concepts; 0.9 or more.
        min_right: least share of held-out pairs with the safe image below 0 and the unsafe one
            above; 0.8 or more.
        images_at_once: images whose features are computed together.
        seed: of split, weights and batches.
        resamples: of the interval of the area.
    """

    held_out_share: float = 0.25
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    anchoring: float = 1.0
    min_auc: float = 0.9
    min_right: float = 0.8
    images_at_once: int = 256
    seed: int = 0
    resamples: int = 1000

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be at least {least}, got {getattr(self, name)}"
            for name, least in (
                ("epochs", 1), ("batch_size", 1), ("images_at_once", 2), ("resamples", 100),
                ("anchoring", 0), ("weight_decay", 0),
            )
            if getattr(self, name) < least
        ]  # fmt: skip
        # The gate may be raised, not lowered: a random cost model is a random margin.
        faults += [
            f"{name} must lie in [{least}, 1], got {getattr(self, name)}"
            for name, least in (("min_auc", 0.9), ("min_right", 0.8))
            if not least <= getattr(self, name) <= 1
        ]
        if not 0 < self.held_out_share < 1:
            faults.append(f"held_out_share must lie in (0, 1), got {self.held_out_share}")
        if self.learning_rate <= 0:
            faults.append(f"learning_rate must be positive, got {self.learning_rate}")
        if faults:
            raise ValueError("; ".join(faults))
