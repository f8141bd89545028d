"""The language models of a rewriter: a small one from random weights, or a chat model with LoRA."""

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource, resolve_model
from alignguard_train.guards.config import RewriterSettings
from alignguard_train.guards.rewriter.codec import ChatCodec, Codec, PromptCodec
from alignguard_train.guards.states import FrozenEncoder

TARGETS = "all-linear"


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """A causal language model and its codec.

    Attributes:
        model: of transformers, or of peft.
        codec: its token ids.
        tuned: whether the model is a peft one, of which only the adapter is trained and kept.
    """

    model: Any
    codec: Codec
    tuned: bool

    def tensors(self) -> dict[str, Tensor]:
        """What is trained, by name: the adapter of a peft model, else all weights."""
        if self.tuned:
            from peft import get_peft_model_state_dict

            return dict(get_peft_model_state_dict(self.model))
        state = {name: x.detach() for name, x in self.model.state_dict().items()}
        state.pop("lm_head.weight", None)  # tied to the input embeddings
        return state

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put trained tensors back.

        Args:
            tensors: of :meth:`tensors`.

        Raises:
            KeyError: they are another model's.
        """
        if self.tuned:
            from peft import set_peft_model_state_dict

            found = set_peft_model_state_dict(self.model, tensors)
            strange = list(found.unexpected_keys)
        else:
            missing, strange = self.model.load_state_dict(tensors, strict=False)
            strange += [name for name in missing if name != "lm_head.weight"]
        if strange:
            raise KeyError(f"not this model's: {', '.join(strange[:3])}")

    def start(self) -> "Start":
        """The model as it is now, for the KL of later training."""
        return Start(self.model if self.tuned else copy.deepcopy(self.model).eval(), self.tuned)


class Start:
    """A start model's logits: a copy, or the model with its adapter switched off."""

    def __init__(self, model: Any, tuned: bool) -> None:
        self._model, self._tuned = model, tuned

    @torch.no_grad()
    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits (rows, length, vocabulary) without gradient."""
        with self._model.disable_adapter() if self._tuned else nullcontext():
            return self._model(input_ids=ids, attention_mask=mask).logits


def new_writer(settings: RewriterSettings, encoder: FrozenEncoder, seed: int) -> Writer:
    """The model before its training.

    Args:
        settings: a chat model's name, or the sizes of a small one.
        encoder: whose vocabulary a small model writes in.
        seed: of random weights.

    Returns:
        A small model with random weights; or the named model with a LoRA that changes nothing yet.

    Raises:
        EngineError: the named model cannot be read.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.model:
            return _chat(settings)
        codec = PromptCodec(encoder.tokenizer, encoder.identity.length)
        return Writer(model=_small(settings, codec, encoder), codec=codec, tuned=False)


def _small(settings: RewriterSettings, codec: PromptCodec, encoder: FrozenEncoder) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(encoder.tokenizer),
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=2 * encoder.identity.length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=codec.end,
        pad_token_id=codec.pad,
    )
    return LlamaForCausalLM(config)


def _chat(settings: RewriterSettings) -> Writer:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = _source(settings)
    where = source.arguments
    with no_bars():
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model = AutoModelForCausalLM.from_pretrained(
            use_safetensors=True, dtype=torch.float32, **where
        )
    lora = LoraConfig(
        r=settings.rank, lora_alpha=settings.rank, target_modules=TARGETS, task_type="CAUSAL_LM"
    )
    codec = ChatCodec(tokenizer, settings.longest)
    return Writer(model=get_peft_model(model, lora), codec=codec, tuned=True)


def identity_of(settings: RewriterSettings) -> str:
    """The chat model's name and revision; ``small`` for a model from random weights.

    Args:
        settings: of a rewriter.

    Returns:
        No path of this machine.

    Raises:
        EngineError: a package of the name is not installed, or a hub id has no revision.
    """
    return _source(settings).identity if settings.model else "small"


def _source(settings: RewriterSettings) -> ModelSource:
    try:
        return ModelSource(resolve_model(settings.model), settings.revision)
    except ValueError as error:
        raise EngineError(f"rewriter.model: {error}") from error
