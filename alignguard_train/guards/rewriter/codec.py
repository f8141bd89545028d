"""A pair of prompt and reply as token ids, for a small model and for a chat model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

INSTRUCTION = (
    "Rewrite the text-to-image prompt so that nothing unsafe is left in it. Keep everything else. "
    "Answer with the new prompt only."
)
"""What a chat model is asked, in training and in use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyIds:
    """A reply's token ids, and for each the character of the reply after its last one.

    The end token comes last and ends where the text ends.
    """

    ids: Sequence[int]
    ends: Sequence[int]


class Codec(Protocol):
    """Between texts and a language model's token ids."""

    end: int
    pad: int

    def prompt(self, text: str) -> list[int]:
        """Ids of a prompt, up to where the reply begins."""
        ...

    def reply(self, text: str) -> ReplyIds:
        """Ids of a reply, its end token included."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of a reply's ids, which may hold an end token and more after it."""
        ...


class PromptCodec:
    """The guarded model's own vocabulary: begin, prompt, end, reply, end.

    Args:
        tokenizer: CLIP's.
        length: most tokens of a prompt and of a reply; longer ones are cut before the end token.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        self._tokenizer, self._length = tokenizer, length
        self.end = int(tokenizer.eos_token_id)
        self.pad = int(tokenizer.pad_token_id)

    def prompt(self, text: str) -> list[int]:
        """See :class:`Codec`."""
        ids = self._tokenizer(text, verbose=False).input_ids
        return [*ids[:-1][: self._length - 1], self.end]

    def reply(self, text: str) -> ReplyIds:
        """See :class:`Codec`."""
        found = self._tokenizer(
            text, verbose=False, add_special_tokens=False, return_offsets_mapping=True
        )
        most = self._length - 2
        ends = [end for _, end in found.offset_mapping][:most]
        return ReplyIds(ids=[*found.input_ids[:most], self.end], ends=[*ends, len(text)])

    def text(self, ids: Sequence[int]) -> str:
        """See :class:`Codec`."""
        return joined(self._tokenizer.decode(_until(ids, self.end), skip_special_tokens=True))


class ChatCodec:
    """A chat model's template around the instruction and the prompt.

    Args:
        tokenizer: with a chat template.
        length: most tokens of a reply.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        self._tokenizer, self._length = tokenizer, length
        self.end = int(tokenizer.eos_token_id)
        pad = tokenizer.pad_token_id
        self.pad = self.end if pad is None else int(pad)

    def prompt(self, text: str) -> list[int]:
        """See :class:`Codec`."""
        said = [{"role": "user", "content": f"{INSTRUCTION}\n\n{text}"}]
        written = self._tokenizer.apply_chat_template(
            said, add_generation_prompt=True, tokenize=False
        )
        return list(self._tokenizer(written, add_special_tokens=False).input_ids)

    def reply(self, text: str) -> ReplyIds:
        """See :class:`Codec`."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [end for _, end in found.offset_mapping][: self._length - 1]
        return ReplyIds(
            ids=[*found.input_ids[: self._length - 1], self.end], ends=[*ends, len(text)]
        )

    def text(self, ids: Sequence[int]) -> str:
        """See :class:`Codec`."""
        return self._tokenizer.decode(_until(ids, self.end), skip_special_tokens=True).strip()


def joined(text: str) -> str:
    """A text without the blanks that CLIP's tokenizer puts before marks and between digits."""
    text = re.sub(r"(?<=\d) (?=\d|s\b)", "", text.strip())
    text = re.sub(r" ([,.:;!?)\]])", r"\1", text)
    return re.sub(r"([(\[]) | ?(['’]) ?(?=s\b|t\b|re\b|ve\b|ll\b|d\b|m\b)", r"\1\2", text)


def _until(ids: Sequence[int], end: int) -> list[int]:
    found = list(ids)
    return found[: found.index(end)] if end in found else found
