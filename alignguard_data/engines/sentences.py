"""Text embeddings of a sentence model, such as MiniLM: mean pooling of the last layer.

Measures meaning independently of the base model. Loads at the first text, from safetensors only.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from alignguard_data.engines.device import device_of
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.text_vectors import TextVectors

if TYPE_CHECKING:
    from torch import Tensor


class SentenceEmbedder(TextVectors):
    """A ``TextEmbedder`` over a BERT-like sentence model with mean pooling (sentence-transformers).

    Args:
        model: a folder, a .zip archive of one, or a hub id.
        revision: commit of a hub id.
        device: ``auto`` (a GPU if there is one) or a torch device.

    Raises:
        EngineError: a hub id without a revision.
    """

    name = "sentences"
    batch_size = 64

    def __init__(self, model: str, revision: str | None = None, device: str = "auto") -> None:
        self._source = ModelSource(model, revision)
        self._device = device

    @cached_property
    def version(self) -> str:
        """Hash of a folder's or an archive's files, or hub id and revision."""
        source = self._source
        return f"sentences-{source.revision}" if source.is_local else source.identity

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        where = self._source.arguments
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(**where)
            encoder: Any = AutoModel.from_pretrained(use_safetensors=True, **where)
        return tokenizer, encoder.eval().to(device_of(self._device))

    def _encode(self, texts: list[str]) -> "Tensor":
        tokenizer, encoder = self._loaded
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        tokens = tokens.to(encoder.device)
        hidden = encoder(**tokens).last_hidden_state.double()
        counted = tokens["attention_mask"].unsqueeze(-1).double()
        return (hidden * counted).sum(1) / counted.sum(1)
