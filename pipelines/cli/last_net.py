"""Top-level error handling: faults a user can fix end in a message, not a traceback.

Only common system errors are caught, by errno (no permission, no space, no such file, ...).
Anything else is a bug and keeps its traceback.
"""

import errno
import io
import os
import sys
from collections.abc import Callable

from alignguard_data.contracts.errors import AlignGuardError
from pipelines.cli.console import Output
from pipelines.runtime.exit import exit_now

INTERRUPTED = 130
"""Exit code after Ctrl-C, by shell convention."""

_USERS = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
    errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ESTALE,
    errno.ETXTBSY, errno.EXDEV, errno.EBUSY,
})  # fmt: skip


def guarded(command: Callable[[], object]) -> None:
    """Run a command; exit with its code, or with 1 and a message."""
    _print_what_the_encoding_lacks()
    try:
        command()
    except AlignGuardError as error:
        _explain(str(error), type(error).__name__)
        exit_now(1)
    except BrokenPipeError:
        exit_now(1)  # the reader closed the pipe, as `head` does
    except OSError as error:
        if error.errno not in _USERS:
            raise
        _explain(_words(error), type(error).__name__)
        exit_now(1)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise  # text: Python prints it
        if end.code == INTERRUPTED:
            _interrupted()
        exit_now(end.code or 0)
    exit_now(0)


def _print_what_the_encoding_lacks() -> None:
    """Escape characters that the output's encoding lacks (ASCII, non-UTF-8 paths)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _explain(text: str, kind: str) -> None:
    try:
        if "--json" in sys.argv:
            Output().json({"error": text, "kind": kind})
        Output(stderr=True).say((f"alignguard: {text}", "red"))
    except BrokenPipeError:
        return


def _interrupted() -> None:
    _explain("interrupted; finished work is kept, and the next run resumes", "KeyboardInterrupt")
    exit_now(INTERRUPTED)


def _words(error: OSError) -> str:
    """The system's message with its file."""
    said = error.strerror or os.strerror(error.errno or 0)
    named = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' -> '.join(named)}: {said}" if named else said
