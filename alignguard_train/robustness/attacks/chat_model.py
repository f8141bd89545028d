"""A chat model that rewrites prompts: loading, asking and drawing answers. Its LoRA is by peft.

Weights come from safetensors or a packed file, never by code of the model's own.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.device import device_of
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource

AT_ONCE = 32
"""Answers that are drawn in one batch."""
_SEEDS = 2**32
Messages = list[dict[str, str]]
"""A conversation, as chat templates take it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatSettings:
    """What a chat model is, and how it answers.

    Attributes:
        model: hub id, folder, or packed file.
        revision: commit of a hub id.
        instruction: what it is asked, with ``{topic}`` and ``{prompt}``.
        write: most tokens of an answer.
        temperature: of drawing.
        rank: of the LoRA, on every linear layer; its alpha is twice that.
        device: ``auto`` (a GPU if there is one) or ``cpu``.
    """

    model: str
    revision: str | None
    instruction: str
    write: int
    temperature: float
    rank: int
    device: str

    @property
    def source(self) -> ModelSource:
        """Where it comes from.

        Raises:
            EngineError: neither a folder nor a file, and no revision.
        """
        return ModelSource(self.model, self.revision)

    def asked(self, topic: str, prompt: str) -> Messages:
        """The question: one turn of the user, as not every template knows a system."""
        filled = self.instruction.replace("{topic}", topic).replace("{prompt}", prompt)
        return [{"role": "user", "content": filled}]


class ChatModel:
    """A chat model with a fresh LoRA, which changes no answer yet.

    Args:
        settings: the model.
        seed: of the LoRA's weights.

    Attributes:
        network: peft's model over the causal language model.
        tokenizer: pads on the left.

    Raises:
        EngineError: it cannot be loaded, or has no chat template.
    """

    def __init__(self, settings: ChatSettings, seed: int) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source, self.settings = settings.source, settings
        device = device_of(settings.device)
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        try:
            with no_bars():
                self.tokenizer: Any = AutoTokenizer.from_pretrained(**source.arguments)
                self._check_template()
                base: Any = AutoModelForCausalLM.from_pretrained(
                    **source.arguments, dtype=dtype, use_safetensors=True
                )
        except (OSError, ValueError) as error:
            raise EngineError(f"chat model {source.model_id} cannot be loaded: {error}") from error
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        lora = LoraConfig(
            r=settings.rank,
            lora_alpha=2 * settings.rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        with own_random_numbers(seed), quiet():
            self.network: Any = get_peft_model(base.to(device), lora).eval()

    @property
    def lora(self) -> dict[str, Tensor]:
        """The LoRA's weights, on the CPU."""
        from peft import get_peft_model_state_dict

        found = get_peft_model_state_dict(self.network, adapter_name="default")
        return {name: one.detach().cpu().clone() for name, one in found.items()}

    def take(self, lora: Mapping[str, Tensor]) -> None:
        """Replace the LoRA's weights.

        Args:
            lora: as of :attr:`lora`.

        Raises:
            EngineError: they are of another model or rank.
        """
        from peft import set_peft_model_state_dict

        own = {name: one.shape for name, one in self.lora.items()}
        if own != {name: one.shape for name, one in lora.items()}:
            raise EngineError(f"the kept LoRA does not fit {self.settings.source.model_id}")
        set_peft_model_state_dict(self.network, dict(lora))

    def answers(self, asked: Sequence[Messages], seed: int) -> list[str]:
        """One drawn answer a question, on one line; empty where the model ends at once.

        Args:
            asked: the questions.
            seed: of the draws.

        Returns:
            As many texts.
        """
        found: list[str] = []
        with own_random_numbers(seed), quiet():
            for start in range(0, len(asked), AT_ONCE):
                found += self._drawn(list(asked[start : start + AT_ONCE]))
        return found

    @torch.no_grad()
    def _drawn(self, asked: list[Messages]) -> list[str]:
        given = self.tokenizer.apply_chat_template(
            asked,
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        ).to(self.network.device)
        drawn = self.network.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            do_sample=True,
            temperature=self.settings.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.settings.write,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        written = drawn[:, given["input_ids"].shape[1] :]
        return [on_one_line(one) for one in self.tokenizer.batch_decode(written, **WORDS_ONLY)]

    def _check_template(self) -> None:
        if not self.tokenizer.chat_template:
            raise EngineError(
                f"{self.settings.source.model_id} has no chat template: a red-team model must be "
                "a chat model"
            )


WORDS_ONLY = {"skip_special_tokens": True}


def on_one_line(text: str) -> str:
    """The text with single spaces, as image prompts are."""
    return " ".join(text.split())


class TrainedLora:
    """What GenBreak learnt on a chat model, and the model itself once it is asked.

    Args:
        weights: of the LoRA.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = dict(weights)
        self._settings: ChatSettings | None = None

    def on(self, settings: ChatSettings) -> ChatModel:
        """The model with this LoRA; loaded at the first call.

        Args:
            settings: the model that it was trained on.

        Returns:
            The same one for equal settings.

        Raises:
            EngineError: the model cannot be loaded, or is another one.
        """
        if settings != self._settings:
            self.__dict__.pop("_loaded", None)
            self._settings = settings
        return self._loaded

    @cached_property
    def _loaded(self) -> ChatModel:
        assert self._settings
        model = ChatModel(self._settings, seed=0)
        model.take(self.weights)
        return model


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Seed every global generator within the block; afterwards they are as before.

    Transformers, peft and trl draw from these.
    """
    from transformers import set_seed

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        set_seed(seed % _SEEDS)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def quiet() -> Iterator[None]:
    """No bars, no reports to a hub and no notes about deprecated names within the block."""
    import warnings

    import huggingface_hub.constants as hub

    before = hub.HF_HUB_DISABLE_TELEMETRY
    with ExitStack() as stack:
        stack.enter_context(no_bars())
        stack.enter_context(warnings.catch_warnings())
        # peft and trl ask transformers for names that it renames.
        warnings.simplefilter("ignore", FutureWarning)
        hub.HF_HUB_DISABLE_TELEMETRY = True
        try:
            yield
        finally:
            hub.HF_HUB_DISABLE_TELEMETRY = before
