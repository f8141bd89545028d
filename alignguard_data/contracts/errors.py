"""The errors that AlignGuard raises on purpose, in one tree.

AlignGuardError
├── ConfigError      a profile or a taxonomy is wrong; carries every fault at once
├── InputMissing     a room's input is missing, or was made for something else
├── IntegrityError   a file is not what its manifest says
├── PartitionBusy    another process is making the same partition
├── StorageError     the data root cannot be written (full, read-only, missing)
├── EngineError      a generator, scorer or trainer cannot do what was asked
├── NothingMade      a partition had work to do and made no rows
└── ReleaseRefused   a blocking check failed, so no release was written
"""

from collections.abc import Sequence


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its class name if the message is empty."""
    lines = str(error).split("\n")
    return lines[0].strip() or type(error).__name__


class AlignGuardError(Exception):
    """Base of the tree; the CLI prints its text and exits with 1."""


class ConfigError(AlignGuardError):
    """A file that a user edits is wrong; one line per fault, with its place and value.

    Args:
        source: the file or section with the faults.
        faults: one message per fault.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = tuple(faults)
        lines = "\n".join(f"  - {fault}" for fault in self.faults)
        super().__init__(f"{source} has {len(self.faults)} fault(s):\n{lines}")


class InputMissing(AlignGuardError):
    """A room ran before its input was complete."""


class IntegrityError(AlignGuardError):
    """A file's bytes, rows or columns differ from its manifest."""


class PartitionBusy(AlignGuardError):
    """Another live process holds the partition's lock."""


class StorageError(AlignGuardError):
    """The data root refused a write."""


class EngineError(AlignGuardError):
    """A generator, scorer or trainer failed in a way that a user can act on."""


class NothingMade(AlignGuardError):
    """Partitions made no rows although there was work; one line each, with the reason.

    Args:
        lines: one line per partition.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


class ReleaseRefused(AlignGuardError):
    """A blocking check failed; nothing was published."""
