"""A tiny chat model with random weights that speaks the stand-in's words: Llama and a template."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.alignguard_train.robustness.small_target import LETTERS, WORDS

TEMPLATE = (
    "{% for m in messages %}<s> {{ m.role }} {{ m.content }} </s>{% endfor %}"
    "{% if add_generation_prompt %}<s> assistant {% endif %}"
)
INSTRUCTION = "{topic} {prompt}"
SPECIALS = ("<s>", "</s>", "<unk>")
ROLES = ("user", "assistant", "angular")


def tiny_chat(
    folder: Path,
    *,
    template: str | None = TEMPLATE,
    words: Sequence[str] = (*WORDS, *LETTERS),
    ends_at_once: bool = False,
) -> Path:
    """A model folder; its vocabulary is whole words, so that what it draws is words.

    Args:
        folder: to write to.
        template: of chats; None: it is no chat model.
        words: that it knows.
        ends_at_once: it answers every question with nothing.
    """
    known = dict.fromkeys([*SPECIALS, *ROLES, *words])
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="<unk>",
    )  # fmt: skip
    fast.chat_template = template
    fast.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(known), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128,
                bos_token_id=0, eos_token_id=1, pad_token_id=2, initializer_range=0.1,
            )
        )  # fmt: skip
    if ends_at_once:  # every state is the same, and only the end is near to it
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            model.model.embed_tokens.weight.fill_(1)
            model.lm_head.weight.zero_()
            model.lm_head.weight[1] = 10
    model.save_pretrained(folder)
    return folder
