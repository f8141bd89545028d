"""Unified Concept Editing (Gandikota et al., WACV 2024, arXiv 2308.14761).

Cross-attention's keys and values of concepts are moved to those of another text by one linear
solve; no training loop.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from alignguard_data.engines.diffusion.conditions import Pipe, encode_texts
from alignguard_train.peers.concept import Concept, Texts, check, examples_of, filled
from alignguard_train.peers.pipes import with_unet

EDITED = re.compile(r"attn2\.to_[kv]$")
Tokens = Literal["last", "tail"]


def edited_weight(
    old: Tensor, erased: Tensor, targets: Tensor, kept: Tensor, *, keep: float, ridge: float
) -> Tensor:
    """The weight W that takes concepts for their targets and keeps the rest.

    It minimizes, over c_i of ``erased`` with v_i = old t_i and c_j of ``kept``,

        sum_i |W c_i - v_i|^2 + keep sum_j |W c_j - old c_j|^2 + ridge |W - old|^2

    in closed form (equation 7): (sum v_i c_i' + keep old sum c_j c_j' + ridge old) times the
    inverse of (sum c_i c_i' + keep sum c_j c_j' + ridge).

    Args:
        old: (out, in).
        erased: text states of concepts (n, in).
        targets: target states t_i (n, in).
        kept: states whose keys and values are preserved (m, in), m may be 0.
        keep: weight of ``kept``.
        ridge: weight of staying close to ``old``, positive.

    Returns:
        W (out, in), in the type of ``old``; solved in float64.
    """
    w, c, t, p = (x.double() for x in (old, erased, targets, kept))
    identity = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
    right = c.T @ c + keep * p.T @ p + ridge * identity
    left = w @ (t.T @ c + keep * p.T @ p + ridge * identity)
    return torch.linalg.solve(right, left.T).T.to(old)


@dataclass(frozen=True, kw_only=True, slots=True)
class UCE:
    """Maps concepts to a target in cross-attention's keys and values.

    Attributes:
        target: text that a concept's name is mapped to; by default the empty one.
        preserve: texts whose tokens all keep their keys and values.
        preserve_twins: also preserve the safe prompts of the concepts.
        preserve_scale: weight of what is preserved.
        ridge: weight of staying close to the old weights.
        tokens: a text is represented by its ``last`` token, or by its ``tail``: that and all later
            ones (end and padding tokens, which attend to the text), matched one by one.
        texts: ``name`` maps names to ``target``; ``examples`` maps unsafe prompts to their safe
            twins.
        template: ``{}`` in it becomes a concept's name.
    """

    target: str = ""
    preserve: tuple[str, ...] = ()
    preserve_twins: bool = False
    preserve_scale: float = 1.0
    ridge: float = 0.5
    tokens: Tokens = "last"
    texts: Texts = "name"
    template: str = "{}"

    def __post_init__(self) -> None:
        if self.ridge <= 0:
            raise ValueError(f"ridge must be positive, got {self.ridge}")
        if self.tokens not in ("last", "tail"):
            raise ValueError(f"tokens must be last or tail, got {self.tokens!r}")

    @torch.no_grad()
    def apply(self, pipe: Pipe, concepts: Sequence[Concept]) -> Pipe:
        """See :class:`alignguard_train.peers.concept.Peer`."""
        check(concepts, self.template)
        wanted = [(text, self.target) for text in filled(self.template, concepts)]
        if self.texts == "examples":
            wanted = [(unsafe, safe) for _, unsafe, safe in examples_of(concepts)]
        pairs = [self._pair(pipe, text, target) for text, target in wanted]
        erased, targets = (torch.cat(rows).float() for rows in zip(*pairs, strict=True))
        preserve = list(self.preserve)
        if self.preserve_twins:
            preserve += [safe for _, _, safe in examples_of(concepts)]
        kept = [_states(pipe, text) for text in preserve]
        unet = copy.deepcopy(pipe.unet)
        for name, layer in unet.named_modules():
            if EDITED.search(name) and isinstance(layer, nn.Linear):
                preserved = torch.cat(kept) if kept else erased[:0]
                layer.weight.copy_(
                    edited_weight(
                        layer.weight, erased, targets, preserved.float(),
                        keep=self.preserve_scale, ridge=self.ridge,
                    )
                )  # fmt: skip
        return with_unet(pipe, unet)

    def _pair(self, pipe: Pipe, text: str, target: str) -> tuple[Tensor, Tensor]:
        """States of a concept's text and of its target, row by row."""
        ours, theirs = _last(pipe, text), _last(pipe, target)
        states, wanted = _states(pipe, text), _states(pipe, target)
        rows = len(states) - max(ours, theirs) if self.tokens == "tail" else 1
        return states[ours : ours + rows], wanted[theirs : theirs + rows]


def _states(pipe: Pipe, text: str) -> Tensor:
    """States of one text: (tokens, width)."""
    return encode_texts(pipe, [text]).states[0]


def _last(pipe: Pipe, text: str) -> int:
    """Index of a text's last token before the end token; 0 for an empty text."""
    tokenizer: Any = pipe.tokenizer
    known = tokenizer(text, truncation=True, max_length=tokenizer.model_max_length)
    return len(known.input_ids) - 2
