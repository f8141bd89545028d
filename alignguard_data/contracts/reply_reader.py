"""Finds the JSON object of a prompt pair or a caption, or a JSON list, in a model's reply.

Models wrap it (thoughts, a code fence, prose, a list of one) and write invalid JSON (trailing
comma, single quotes, raw line breaks). An object counts only if it is complete: both fields quoted,
once each, closed by a brace. The repair never adds or removes a character of a text.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import json_repair

from alignguard_data.contracts.text import canonical, tidy

FIELDS = ("unsafe_prompt", "safe_prompt")

_DECLINES = re.compile(
    r"^\W*(?:(?:i am|i'm|im|we are|we're) (?:very |so |really )?(?:sorry|unable|not able|afraid)"
    r"|(?:sorry|apologies|my apologies|i apologi[sz]e)\b"
    r"|(?:unfortunately,? )?(?:i|we) (?:can ?not|can't|cant|won't|will not|must decline|decline"
    r"|do not feel|don't feel|am not comfortable)\b"
    r"|as an? (?:ai|language model|assistant)\b"
    r"|(?:i|we) (?:refuse|must refuse)\b|(?:this|that|your) request (?:violates|goes against))"
)

_NAMES = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad)"
_OPENS_THOUGHT = re.compile(rf"[<\[◁]\s*{_NAMES}\s*[>\]▷]", re.IGNORECASE)
_ENDS_THOUGHT = re.compile(
    rf"[<\[◁]\s*/\s*{_NAMES}\s*[>\]▷]|<\|channel\|>\s*final\s*<\|message\|>", re.IGNORECASE
)

_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL | re.IGNORECASE)
_QUOTE = "\\\\?[\"'“”‘’]"
_MOST_BRACES = 200  # only the last this many braces of a reply are searched

Fields = tuple[str, ...]


def read_fields(reply: str, names: Sequence[str] = FIELDS) -> Fields | str:
    """The named texts of a reply, tidied, or the reason slug why there are none.

    If a reply has several complete objects the last one counts, since a model may correct itself. A
    list must have one item. Other keys are ignored.

    Args:
        reply: what the model wrote.
        names: fields that the object must have, as strings.

    Returns:
        All texts, or ``refusal`` (declines in plain words), ``schema`` (JSON of another shape) or
        ``unparseable`` (no JSON).
    """
    text = _answer(reply)
    whole = _parsed(text)
    if isinstance(whole, str) and whole.lstrip().startswith("{"):  # encoded twice
        text, whole = whole, _parsed(whole)
    if whole is not None:
        fields = _fields(whole[0] if isinstance(whole, list) and len(whole) == 1 else whole, names)
        declined = isinstance(whole, str) and declines(whole)
        return fields or ("refusal" if declined else "schema")
    objects = list(_objects(text))
    found = [fields for content in objects if (fields := _fields(content, names))]
    found = found or [
        fields for span in re.findall(r"\{[^{}]*\}", text) if (fields := _repaired(span, names))
    ]
    if found:
        return found[-1]
    if declines(text):
        return "refusal"
    return "schema" if objects else "unparseable"


def read_list(reply: str) -> list[str] | str:
    """The texts of a reply that is one JSON list, in a code fence or not, after its thoughts.

    Nothing is searched in prose: a list that a sentence quotes is not the answer.

    Args:
        reply: what the model wrote.

    Returns:
        The texts, or a slug as of :func:`read_fields`.
    """
    text = _answer(reply)
    fenced = _FENCE.fullmatch(text)
    whole = _parsed(fenced[1] if fenced else text)
    if isinstance(whole, list) and all(isinstance(one, str) for one in whole):
        return [tidy(one) for one in whole]
    if declines(text if whole is None else str(whole)):
        return "refusal"
    return "unparseable" if whole is None else "schema"


def declines(text: str) -> bool:
    """Check whether a text begins like a refusal.

    Args:
        text: what the model wrote.

    Returns:
        True for "I'm sorry", "I cannot" and the like.
    """
    return bool(_DECLINES.match(canonical(text)))


def _answer(reply: str) -> str:
    """The reply without its thinking part."""
    after = [end.end() for end in _ENDS_THOUGHT.finditer(reply)]
    text = reply[after[-1] :] if after else reply
    if opened := _OPENS_THOUGHT.search(text):
        text = text[: opened.start()]
    return text.replace("\ufeff", "").replace("\\_", "_").strip()


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise json.JSONDecodeError("a key is given twice", "", 0)
    return content


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_single)  # raw line breaks pass


def _parsed(text: str) -> Any:
    """The text as a JSON value; None if it is not JSON, or ``null``."""
    try:
        return _DECODER.decode(text)
    except (json.JSONDecodeError, RecursionError):
        return None


def _objects(text: str) -> Iterator[Any]:
    """The outermost JSON objects of a text, in order."""
    end = 0
    for brace in [match.start() for match in re.finditer(r"\{", text)][-_MOST_BRACES:]:
        if brace < end:
            continue
        try:
            content, end = _DECODER.raw_decode(text, brace)
        except (json.JSONDecodeError, RecursionError):
            continue
        yield content


def _fields(content: Any, names: Sequence[str]) -> Fields | None:
    if not isinstance(content, dict):
        return None
    texts = [text for name in names if isinstance(text := content.get(name), str)]
    return tuple(map(tidy, texts)) if len(texts) == len(names) else None


def _repaired(span: str, names: Sequence[str]) -> Fields | None:
    """The fields of an invalid JSON object that has each one quoted, complete and exactly once."""
    content = json_repair.loads(span)
    if not isinstance(content, dict) or _fields(content, names) is None:
        return None
    for name in names:
        key = rf"(?<!\w)(?:{_QUOTE})?{name}(?:{_QUOTE})?\s*:"
        value = "|".join(map(re.escape, _spellings(content[name])))
        quoted = rf"{key}\s*{_QUOTE}\s*(?:{value})\s*{_QUOTE}\s*(?:,|\}}|(?={_QUOTE}\w))"
        if len(re.findall(key, span)) != 1 or not re.search(quoted, span):
            return None
    return _fields(content, names)


def _spellings(value: str) -> set[str]:
    """The ways a string may be written between its quotes."""
    plain = value.strip()
    return {
        plain,
        json.dumps(plain)[1:-1],
        json.dumps(plain, ensure_ascii=False)[1:-1],
        plain.replace("'", "\\'"),
    }
