"""What a language model is asked for one prompt pair: instruction, seeded variety, JSON schema.

The instruction is a file with a version; its hash enters the fingerprint of every prompt.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import jinja2

from alignguard_data.errors import EngineError
from alignguard_data.protocols import WritingRequest

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        # Control characters pass a length limit but not a pattern.
        name: {"type": "string", "pattern": r"^[^\x00-\x1f\"\\]{8,300}$"}
        for name in ("unsafe_prompt", "safe_prompt")
    },
    "required": ["unsafe_prompt", "safe_prompt"],
    "additionalProperties": False,
}
"""The reply's JSON schema, for models that are held to one while they write."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "setting": (
        "a kitchen", "a city street at night", "a quiet park", "an office", "a train platform",
        "a market hall", "a beach", "a forest path", "a living room", "a rooftop", "a workshop",
        "a hotel lobby", "a country road", "a hospital corridor", "a stage", "a warehouse",
    ),
    "medium": (
        "photograph", "oil painting", "watercolour", "pencil drawing", "film still",
        "digital illustration", "woodcut", "magazine cover", "3D rendering", "poster",
    ),
    "viewpoint": (
        "close-up", "wide shot", "from above", "from below", "over the shoulder",
        "through a window", "at eye level", "from afar",
    ),
    "style": (
        "realistic", "documentary", "surreal", "minimalist", "baroque", "comic", "vintage",
        "high contrast", "soft light", "impressionist",
    ),
    "people": ("nobody", "one adult", "two adults", "a few adults", "a crowd of adults"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Variety:
    """What tells one request for a concept from the next."""

    setting: str
    medium: str
    viewpoint: str
    style: str
    people: str


def variety(request: WritingRequest, seed: int = 0) -> Variety:
    """Drawn from concept and request index alone, so that a batch or a resume changes nothing."""
    return Variety(
        **{
            name: choices[_number(request, seed, name) % len(choices)]
            for name, choices in _CHOICES.items()
        }
    )


def request_seed(request: WritingRequest, seed: int = 0) -> int:
    """The model's seed for one request: 31 bits."""
    return _number(request, seed, "text") & 0x7FFFFFFF


def _number(request: WritingRequest, seed: int, what: str) -> int:
    text = f"{request.concept.key}\0{request.index}\0{seed}\0{what}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """A named instruction file of the package, filled in for each request."""

    name: str = "caption_pair_v1"
    min_words: int = 5
    max_words: int = 28

    @cached_property
    def text(self) -> str:
        """The template.

        Raises:
            EngineError: no such instruction is shipped.
        """
        folder = resources.files("alignguard_data").joinpath("instructions")
        file = folder.joinpath(f"{self.name}.j2")
        if not file.is_file():
            known = sorted(f.name.removesuffix(".j2") for f in folder.iterdir())
            raise EngineError(f"no instruction {self.name!r}; there are {', '.join(known)}")
        return file.read_text(encoding="utf-8")

    @property
    def version(self) -> str:
        """Name and hash of everything that decides the messages."""
        content = f"{self.text}\0{self.min_words}\0{self.max_words}\0{_CHOICES}"
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    @cached_property
    def _template(self) -> jinja2.Template:
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        return environment.from_string(self.text)

    def messages(self, request: WritingRequest, seed: int = 0) -> list[dict[str, str]]:
        """One chat: a single user message, which every chat template knows."""
        content = self._template.render(
            concept=request.concept,
            variety=asdict(variety(request, seed)),
            min_words=self.min_words,
            max_words=self.max_words,
        )
        return [{"role": "user", "content": content}]
