"""Identifies the language of a prompt with py3langid's n-gram model, which needs no download."""

from functools import cached_property
from importlib import metadata
from typing import Any

from alignguard_data.contracts.errors import EngineError


class LanguageIdentifier:
    """Callable: the probability that a text is written in ``language`` (ISO 639-1)."""

    def __init__(self, language: str) -> None:
        self._language = language

    @property
    def version(self) -> str:
        """Version of py3langid, which ships the model."""
        return f"py3langid {metadata.version('py3langid')}"

    @cached_property
    def _model(self) -> Any:
        from py3langid.langid import MODEL_FILE
        from py3langid.langid import LanguageIdentifier as Model

        model = Model.from_model_file(MODEL_FILE, norm_probs=True)
        known = {str(label) for label in model.labels}
        if self._language not in known:
            raise EngineError(
                f"writing.language: {self._language!r} is not known; there are "
                f"{', '.join(sorted(known))}"
            )
        return model

    def __call__(self, text: str) -> float:
        """Probability that the text is in the language, in [0, 1]."""
        return next(
            float(probability)
            for label, probability in self._model.rank(text)
            if label == self._language
        )
