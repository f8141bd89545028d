"""What a benchmark raises where something that it measures is not installed."""


class Absent(Exception):
    """The text says what is missing and how to get it."""
