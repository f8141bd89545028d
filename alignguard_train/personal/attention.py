"""Decoupled cross-attention: a second attention over a user's tokens, added to that over the text.

    h = Attn(q, K c, V c) + s Attn(q, K_u u, V_u u)

The user's tokens follow the text's in ``encoder_hidden_states``, and the processor splits them off
(IP-Adapter, arXiv 2308.06721; PSA, arXiv 2508.01151). An input without them is the base model's.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from alignguard_data.contracts.errors import EngineError


@dataclass(kw_only=True, slots=True)
class Switch:
    """What all layers of one adapter share.

    Attributes:
        tokens: tokens of a user, the null token included.
        text_length: tokens of a text; a longer prompt has a multiple of it.
        scale: s; 0 is the base model exactly.
        on: False renders the base model, whatever the scale.
    """

    tokens: int
    text_length: int = 77
    scale: float = 1.0
    on: bool = True


class PersonalAttention:
    """A diffusers attention processor for the ``attn2`` layers of a UNet.

    Args:
        key: K_u, from a token to the layer's width, without bias.
        value: V_u, likewise.
        switch: shared by all layers.
    """

    def __init__(self, key: nn.Linear, value: nn.Linear, switch: Switch) -> None:
        self.key, self.value, self.switch = key, value, switch

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attention over the text, and over the user's tokens where there are any.

        Args:
            attn: the layer: diffusers' `Attention`.
            hidden_states: (rows, pixels, width).
            encoder_hidden_states: (rows, text tokens + user tokens, context).
            attention_mask: not supported; diffusers' pipes give none.
            temb: unused.

        Returns:
            (rows, pixels, width).

        Raises:
            EngineError: a mask, or a number of tokens that is neither text nor text and user.
        """
        if attention_mask is not None:
            raise EngineError("the personal adapter does not support an attention mask")
        text, user = self._split(encoder_hidden_states)
        query = _heads(attn.to_q(hidden_states), attn.heads)
        found = _attention(query, attn.to_k(text), attn.to_v(text), attn.heads)
        if user is not None and self.switch.on and self.switch.scale:
            own = _attention(query, self.key(user), self.value(user), attn.heads)
            found = found + self.switch.scale * own
        return attn.to_out[1](attn.to_out[0](found.to(query.dtype)))

    def _split(self, states: Tensor) -> tuple[Tensor, Tensor | None]:
        more = states.shape[1] % self.switch.text_length
        if more == 0:
            return states, None
        if more != self.switch.tokens:
            raise EngineError(
                f"{states.shape[1]} tokens are neither a text of {self.switch.text_length} nor a "
                f"text and the {self.switch.tokens} tokens of a user"
            )
        return states[:, :-more], states[:, -more:]


def _attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """(rows, heads, pixels, width) over (rows, tokens, heads * width): (rows, pixels, all)."""
    found = scaled_dot_product_attention(query, _heads(key, heads), _heads(value, heads))
    return found.transpose(1, 2).reshape(len(query), -1, heads * found.shape[-1])


def _heads(states: Tensor, heads: int) -> Tensor:
    return states.view(len(states), -1, heads, states.shape[-1] // heads).transpose(1, 2)
