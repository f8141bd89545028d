"""Ends a process without Python's module teardown."""

import logging
import os
import sys


def exit_now(code: int) -> None:
    """Flush output and logs, then end this process with ``code``.

    During module teardown DuckDB's binding prints dozens of lines about objects that torch still
    references, which look like a failed run.
    """
    logging.shutdown()
    try:
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        code = code or 1  # the reader closed the pipe, as `head` does
    except OSError as error:
        code = code or 1
        sys.stderr.write(f"alignguard: the output cannot be written: {error.strerror}\n")
    if sys.stderr:
        sys.stderr.flush()
    os._exit(code)
