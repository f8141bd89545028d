"""The text shown for another library's error."""

import pytest

from alignguard_data.contracts.errors import first_line


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("one\u2028part"), "one\u2028part"),
        (EOFError(), "EOFError"),
        (OSError(""), "OSError"),
        (RuntimeError("\nlater"), "RuntimeError"),
    ],
)
def test_an_error_without_a_message_shows_its_class(error, message):
    assert first_line(error) == message
