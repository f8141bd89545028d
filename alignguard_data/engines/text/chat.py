"""The request to a language model for one prompt pair: instruction, seeded variety, JSON schema.

The instruction is a versioned file whose hash enters the prompts' fingerprint.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import jinja2

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Reply, WritingRequest

Chat = list[dict[str, str]]
"""Messages of one request, each with ``role`` and ``content``."""

Ask = Callable[[list[Chat], list[int], dict[str, Any]], list[Reply]]
"""Calls an engine with chats, a seed per chat, and the JSON schema that constrains the replies."""


def reply_schema(*fields: str) -> dict[str, Any]:
    """JSON schema of an object of short texts, for constrained generation.

    Length bounds compile in xgrammar and in guidance; a pattern with bounds does not compile in
    xgrammar. The schema allows control characters, so the reader of the reply removes them.

    Args:
        *fields: names of the texts; all are required, no others allowed.

    Returns:
        The schema as JSON values.
    """
    text = {"type": "string", "minLength": 8, "maxLength": 300}
    return {
        "type": "object",
        "properties": {name: text for name in fields},
        "required": list(fields),
        "additionalProperties": False,
    }


SCHEMA = reply_schema("unsafe_prompt", "safe_prompt")
"""The schema of a full pair."""

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
    """The parts that vary between the requests for a concept."""

    setting: str
    medium: str
    viewpoint: str
    style: str
    people: str


def variety(request: WritingRequest, seed: int = 0) -> Variety:
    """Draw what varies between the requests for a concept.

    Args:
        request: concept and index.
        seed: of the writer.

    Returns:
        One choice of each kind; it depends on the arguments only, so batching and resuming change
        nothing.
    """
    return Variety(
        **{
            name: choices[number_of(request, seed, name) % len(choices)]
            for name, choices in _CHOICES.items()
        }
    )


def request_seed(request: WritingRequest, seed: int = 0) -> int:
    """The model's seed for a request: 31 bits."""
    return number_of(request, seed, "text") & 0x7FFFFFFF


def number_of(request: WritingRequest, seed: int, what: str) -> int:
    """A pseudorandom number for one purpose.

    Args:
        request: concept and index.
        seed: of the writer.
        what: the purpose; each gets its own number.

    Returns:
        64 bits, the same in every process.
    """
    text = f"{request.concept.key}\0{request.index}\0{seed}\0{what}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def schema_tag(schemas: Sequence[dict[str, Any]]) -> str:
    """Short hash of the reply schemas, for fingerprints."""
    return f"schema{hashlib.sha256(json.dumps(schemas).encode()).hexdigest()[:8]}"


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """A packaged instruction template, rendered per request; one reply gives one pair."""

    schemas = (SCHEMA,)

    name: str = "caption_pair_v1"
    min_words: int = 5
    max_words: int = 28

    @cached_property
    def text(self) -> str:
        """The template.

        Returns:
            Jinja source of the packaged file ``<name>.j2``.

        Raises:
            EngineError: there is no such instruction.
        """
        folder = resources.files("alignguard_data.prompts").joinpath("instructions")
        file = folder.joinpath(f"{self.name}.j2")
        if not file.is_file():
            known = sorted(f.name.removesuffix(".j2") for f in folder.iterdir())
            raise EngineError(f"no instruction {self.name!r}; there are {', '.join(known)}")
        return file.read_text(encoding="utf-8")

    @property
    def version(self) -> str:
        """Name and hash of everything that determines the messages."""
        content = f"{self.text}\0{self.min_words}\0{self.max_words}\0{_CHOICES}"
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    @cached_property
    def _template(self) -> jinja2.Template:
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - plain text
        return environment.from_string(self.text)

    def write(self, requests: Sequence[WritingRequest], seed: int, ask: Ask) -> list[Reply]:
        """Write one pair per request.

        Args:
            requests: concepts and indices.
            seed: of the writer.
            ask: calls the engine; here once, with all chats.

        Returns:
            The engine's replies, one a request, in order.
        """
        chats = [self.messages(request, seed) for request in requests]
        return ask(chats, [request_seed(request, seed) for request in requests], SCHEMA)

    def messages(self, request: WritingRequest, seed: int = 0) -> Chat:
        """One chat with a single user message, which every chat template supports."""
        content = self._template.render(
            concept=request.concept,
            variety=asdict(variety(request, seed)),
            min_words=self.min_words,
            max_words=self.max_words,
        )
        return [{"role": "user", "content": content}]
