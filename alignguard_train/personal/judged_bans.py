"""Bans decided by a language model, which replies with a JSON list of categories.

The published code searches each category's name anywhere in the reply, so an explanation such as
"Violence is fine" bans violence. Here a reply that is not a JSON list is refused with a reason.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol

from alignguard_data.contracts.protocols import Reply
from alignguard_data.contracts.reply_reader import read_list
from alignguard_data.engines.served import ServedModel, json_schema
from alignguard_train.personal.attributes import AGE_GROUPS
from alignguard_train.personal.bans import PUBLISHED_CATEGORIES, BanTable
from alignguard_train.personal.records import Profile, RefusedUser

REASONS = ("cut_off", "empty", "unparseable", "schema", "refusal", "unknown_category")
"""Why a reply is refused: out of tokens, empty, no JSON, JSON but no list of texts, the model
declines, a category that is not known."""
_ENDED_BADLY = {"length": "cut_off", "content_filter": "refusal"}
_SHOWN = 60

INSTRUCTION = """You decide which kinds of image content one user must not see.
Categories: {categories}.
Rules:
- Under 18, or an unstable mental state: forbid Sexuality, Self-Harm and Violence.
- A physical condition other than healthy: consider Shocking and Harassment.
- Religion Islam, Christianity or Buddhism: consider Hate and Propaganda.
- A healthy adult without religion: forbid nothing.
User: {profile}.
Answer with a JSON list of forbidden categories, such as ["Hate"] or [], and nothing else."""


class BanWriter(Protocol):
    """Decides bans from a profile; a good reply is a JSON list of published categories."""

    @property
    def model_id(self) -> str:
        """Name of the model, as manifests give it."""
        ...

    @property
    def revision(self) -> str:
        """Changes whenever the same profile could give another reply."""
        ...

    def replies(self, profiles: Sequence[Profile]) -> list[Reply]:
        """One raw reply per profile, in order."""
        ...


class ServedBanWriter:
    """A ``BanWriter`` over a served language model (PSA takes Qwen2.5-7B-Instruct)."""

    def __init__(
        self, model: str, served_revision: str, schema: bool = True, **server: Any
    ) -> None:
        """``schema`` constrains replies to a list of categories; ``server``: see ServedModel."""
        self._revision, self._schema = served_revision, schema
        self._served = ServedModel(model=model, **server)

    @property
    def model_id(self) -> str:
        """The served model's name."""
        return self._served.model

    @cached_property
    def revision(self) -> str:
        """Weights, instruction and request fields."""
        asked = hashlib.sha256(INSTRUCTION.encode()).hexdigest()[:8]
        held = "list" if self._schema else "free"
        return f"{self._revision}+{asked}-{held}{self._served.variant}"

    def replies(self, profiles: Sequence[Profile]) -> list[Reply]:
        """One reply per profile; at most ``concurrency`` requests in flight.

        Args:
            profiles: of the users.

        Returns:
            Raw replies, in order.

        Raises:
            EngineError: the server cannot be reached or does not answer with a chat completion.
        """
        with ThreadPoolExecutor(self._served.concurrency) as pool:
            return list(pool.map(self._ask, profiles))

    def _ask(self, profile: Profile) -> Reply:
        content = INSTRUCTION.format(
            categories=", ".join(PUBLISHED_CATEGORIES), profile=sentence(profile)
        )
        options = json_schema("banned", SCHEMA) if self._schema else {}
        chat = [{"role": "user", "content": content}]
        return self._served.ask(chat, temperature=0, seed=0, max_tokens=80, **options).reply


SCHEMA = {"type": "array", "items": {"enum": list(PUBLISHED_CATEGORIES)}, "uniqueItems": True}


def sentence(profile: Profile) -> str:
    """A profile in plain words, for encoders and models that read text."""
    group = next(group for group in AGE_GROUPS if group.name == profile.age_group)
    religion = "no religion" if profile.religion == "none" else f"religion {profile.religion}"
    conditions = [
        f"{kind} condition {_WORDS.get(value, value.replace('-', ' '))}"
        for kind, value in (("physical", profile.physical), ("mental", profile.mental))
    ]
    return f"{group.words} of {profile.age}, {profile.gender}, {religion}, {', '.join(conditions)}"


_WORDS = {
    "sexual-assault": "past assault",
    "war": "past war",
    "major-accidents": "past accident",
    "natural-disasters": "past natural disaster",
}


def read_bans(reply: Reply) -> tuple[str, ...]:
    """The published categories in a reply.

    Args:
        reply: raw text and why it ended.

    Returns:
        Published names, in the published order; none if the list is empty.

    Raises:
        ReplyRefused: with a slug of :data:`REASONS`.
    """
    if reason := _ENDED_BADLY.get(reply.finish_reason):
        raise ReplyRefused(reason)
    if not reply.text.strip():
        raise ReplyRefused("empty")
    read = read_list(reply.text)
    if isinstance(read, str):
        raise ReplyRefused(read)
    spellings = {name.lower(): name for name in PUBLISHED_CATEGORIES}
    for name in read:
        if name.strip().lower() not in spellings:
            raise ReplyRefused("unknown_category", name[:_SHOWN])
    named = {spellings[name.strip().lower()] for name in read}
    return tuple(name for name in PUBLISHED_CATEGORIES if name in named)


class ReplyRefused(ValueError):
    """A reply without bans: a slug of :data:`REASONS`, and the value at fault if it is short."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason} {detail}".strip())


def ask_bans(
    profiles: Sequence[Profile], writer: BanWriter, table: BanTable
) -> tuple[dict[str, tuple[str, ...]], list[RefusedUser]]:
    """Have a language model decide bans.

    Args:
        profiles: of the users.
        writer: the language model.
        table: translates published categories to the release's.

    Returns:
        The release's categories banned for each user by id, and the users whose reply was refused.

    Raises:
        EngineError: the model cannot be asked.
    """
    banned, refused = {}, []
    for profile, reply in zip(profiles, writer.replies(profiles), strict=True):
        try:
            banned[profile.user_id] = table.by_names(profile, read_bans(reply))
        except ReplyRefused as error:
            refused.append(
                RefusedUser(user_id=profile.user_id, reason=error.reason, detail=error.detail)
            )
    return banned, refused
