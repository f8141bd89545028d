"""Error of a benchmark whose subject is not installed."""


class Absent(Exception):
    """The message says what is missing and how to install it."""
