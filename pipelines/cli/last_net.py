"""The last net under every command: what a user can mend ends as a clear line, not a traceback.

Only faults of the system that a user meets are caught here by their number (no permission, no
space, no such file, ...). Whatever else is a fault of ours, and its traceback is wanted.
"""

import errno
import io
import os
import sys
from collections.abc import Callable

from alignguard_data.contracts.errors import AlignGuardError
from pipelines.cli.console import Output
from pipelines.runtime.exit import leave

INTERRUPTED = 130
"""Exit code of a process that Ctrl-C ended, as shells give it."""

_USERS = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
    errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ESTALE,
    errno.ETXTBSY, errno.EXDEV, errno.EBUSY,
})  # fmt: skip


def guarded(command: Callable[[], object]) -> None:
    """Run a command and end the process with its exit code, or with 1 and a line that says why."""
    _print_what_the_encoding_lacks()
    try:
        command()
    except AlignGuardError as error:
        _explain(str(error), type(error).__name__)
        leave(1)
    except BrokenPipeError:
        leave(1)  # whoever read the output has read enough, as `head` does
    except OSError as error:
        if error.errno not in _USERS:
            raise
        _explain(_words(error), type(error).__name__)
        leave(1)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise  # a text: Python prints it
        if end.code == INTERRUPTED:
            _interrupted()
        leave(end.code or 0)
    leave(0)


def _print_what_the_encoding_lacks() -> None:
    """Where output cannot hold a character (ASCII, a path that is no UTF-8), its number shows."""
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
    _explain("interrupted; what is done stays done, and the next run goes on", "KeyboardInterrupt")
    leave(INTERRUPTED)


def _words(error: OSError) -> str:
    """The system's words, with the file that they are about."""
    said = error.strerror or os.strerror(error.errno or 0)
    named = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' -> '.join(named)}: {said}" if named else said
