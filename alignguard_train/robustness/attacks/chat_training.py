"""Supervised learning and GRPO of a chat model's LoRA, by trl's trainers.

trl is the extra ``redteam``. Its trainers seed the global random numbers and write bars and lines;
here they run within :func:`own_random_numbers` and :func:`quiet`, and steps are logged.
"""

import importlib.util
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_train.robustness.attacks.chat_model import (
    ChatModel,
    Messages,
    on_one_line,
    own_random_numbers,
    quiet,
)

log = logging.getLogger(__name__)

Rewards = Callable[[list[int], list[str]], list[float]]
"""Rewards of answers; the first argument says which question each is of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Supervised:
    """Of supervised learning.

    Attributes:
        epochs: passes over the pairs; 0 learns nothing.
        batch: pairs of a forward pass.
        accumulated: forward passes of a step.
        lr: of AdamW at its highest; it falls with a cosine.
        weight_decay: of AdamW.
    """

    epochs: int
    batch: int
    accumulated: int
    lr: float
    weight_decay: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reinforced:
    """Of GRPO.

    Attributes:
        group: answers to each question.
        seeds: questions of a step.
        lr: of AdamW, constant.
        clip: of the ratio of probabilities.
        kl: weight of the divergence from the supervised model.
    """

    group: int
    seeds: int
    lr: float
    clip: float
    kl: float


def check_trl(attack: str) -> None:
    """Refuse to go on without trl.

    Args:
        attack: that needs it.

    Raises:
        EngineError: names the extra that has it.
    """
    missing = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineError(
            f"{attack} needs {' and '.join(missing)}: pip install 'alignguard[redteam]'"
        )


def check_device(attack: str, device: str) -> None:
    """Refuse several GPUs: trl's trainer would spread the model over all that it sees.

    Args:
        attack: that trains.
        device: ``auto`` or ``cpu``.

    Raises:
        EngineError: several GPUs are visible.
    """
    import torch

    if device != "cpu" and torch.cuda.device_count() > 1:
        raise EngineError(
            f"{attack} trains on one GPU, and {torch.cuda.device_count()} are visible: set "
            "CUDA_VISIBLE_DEVICES, or base_model.devices in the profile"
        )


def supervise(
    chat: ChatModel, taught: Sequence[tuple[Messages, str]], how: Supervised, seed: int
) -> None:
    """Teach answers by their likelihood.

    Args:
        chat: its LoRA is trained.
        taught: questions with their answers.
        how: sizes.
        seed: of the order.
    """
    if not how.epochs or not taught:
        return
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"prompt": asked, "completion": [{"role": "assistant", "content": answer}]}
        for asked, answer in taught
    ]
    with _training(chat, seed) as common:
        trainer = SFTTrainer(
            model=chat.network,
            args=SFTConfig(
                **common,
                num_train_epochs=how.epochs,
                per_device_train_batch_size=how.batch,
                gradient_accumulation_steps=how.accumulated,
                learning_rate=how.lr,
                lr_scheduler_type="cosine",
                weight_decay=how.weight_decay,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=chat.tokenizer,
        )
        _run(trainer, "supervised", "loss")


def reinforce(
    chat: ChatModel, asked: Sequence[Messages], rewards: Rewards, how: Reinforced, seed: int
) -> None:
    """Raise the rewards of drawn answers by GRPO (arXiv 2402.03300), ``seeds`` questions a step.

    Args:
        chat: its LoRA is trained.
        asked: questions in order, a multiple of ``seeds``.
        rewards: called once a step.
        how: sizes.
        seed: of the draws.
    """
    if not asked:
        return
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def rewarded(completions: list[Messages], question: list[int], **_: Any) -> list[float | None]:
        return list(rewards(question, [on_one_line(one[0]["content"]) for one in completions]))

    rows = [{"prompt": one, "question": number} for number, one in enumerate(asked)]
    with _training(chat, seed) as common:
        trainer = GRPOTrainer(
            model=chat.network,
            reward_funcs=rewarded,
            args=GRPOConfig(
                **common,
                max_steps=len(asked) // how.seeds,
                per_device_train_batch_size=how.group,
                gradient_accumulation_steps=how.seeds,
                num_generations=how.group,
                max_completion_length=chat.settings.write,
                temperature=chat.settings.temperature,
                learning_rate=how.lr,
                lr_scheduler_type="constant",
                beta=how.kl,
                epsilon=how.clip,
                loss_type="grpo",
                shuffle_dataset=False,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=chat.tokenizer,
        )
        _run(trainer, "GRPO", "reward")


def _run(trainer: Any, stage: str, shown: str) -> None:
    from transformers import PrinterCallback, TrainerCallback

    class Logged(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if shown in (logs or {}):
                step = state.global_step
                log.info(
                    "%s step %d of %d: %s %.4g", stage, step, state.max_steps, shown, logs[shown]
                )

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Logged)
    trainer.train()


@contextmanager
def _training(chat: ChatModel, seed: int) -> Iterator[dict[str, Any]]:
    """Arguments of both trainers; the network is back in evaluation after the block."""
    from datasets import utils as bars

    on_cpu = chat.network.device.type == "cpu"
    shown = bars.is_progress_bar_enabled()
    with (
        own_random_numbers(seed),
        quiet(),
        tempfile.TemporaryDirectory(prefix="alignguard-redteam-") as folder,
    ):
        bars.disable_progress_bars()
        try:
            yield {
                "output_dir": folder,
                "seed": seed % 2**32,
                "use_cpu": on_cpu,
                "bf16": not on_cpu,
                "gradient_checkpointing": not on_cpu,
                "dataloader_pin_memory": not on_cpu,
                "report_to": "none",
                "save_strategy": "no",
                "logging_steps": 1,
                "disable_tqdm": True,
            }
        finally:
            chat.network.eval()
            if shown:
                bars.enable_progress_bars()
