"""Console output of every command: external text is never markup, and pipes get uncut lines.

Prompts, replies, paths and error messages come from models, servers and files. `[bold]` in them
stays `[bold]`, and an escape sequence is shown instead of reaching the terminal. Only styles named
in the code, as in ``styled(("done", "green"), ...)``, apply.
"""

import base64
import datetime
import json
import math
import numbers
import re
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

NO_LIMIT = 1_000_000
"""Width when output is not a terminal: nothing is cut or wrapped."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MARKS = {True: ("✓", "ok", "green"), False: ("✗", "x", "red")}


class Output(Console):
    """A console on standard output (or error) that prints every string literally."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})
        if not self.is_terminal and "width" not in options:
            self.width = NO_LIMIT

    def render_str(self, text: str, **options: Any) -> Text:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As in rich, with control characters escaped."""
        return super().render_str(visible(text), **options)

    def say(self, *parts: str | tuple[str, str], wrap: bool = False) -> None:
        """Print one line of parts: plain text, or text with a style."""
        self.print(styled(*parts), soft_wrap=not wrap)

    def mark(self, good: bool) -> tuple[str, str]:
        """A styled tick or cross; words if the output's encoding lacks them."""
        sign, word, style = _MARKS[good]
        return (sign if _encodes(self.encoding, sign) else word), style

    def json(self, data: Any) -> None:
        """JSON for a machine.

        NaN and infinities are null, dates ISO 8601, bytes base64, decimals numbers; ASCII where the
        output is no UTF-8.
        """
        ascii_only = not self.encoding.lower().startswith("utf")
        text = json.dumps(plain(data), indent=2, ensure_ascii=ascii_only, allow_nan=False)
        # These occur only inside strings.
        print(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text), file=self.file)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Join parts into one text: plain text, or text with a style."""
    whole = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        whole.append(visible(text), style or None)
    return whole


def table(*columns: str, title: str | None = None) -> Table:
    """A table that folds cells, never cuts them, on narrow terminals."""
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def visible(text: str) -> str:
    r"""Escape control characters except newline and tab, as ``\x1b``: terminals act on them."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _encodes(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def plain(value: Any) -> Any:
    """The value as JSON types; anything else as text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Sequence | Set):
        return [plain(one) for one in value]
    return str(value)
