"""Ending a process that has done its work, without Python's own clearing away."""

import logging
import os
import sys


def leave(code: int) -> None:
    """End this process at once with ``code``; what was printed or logged is out.

    While Python clears modules away, DuckDB's binding prints dozens of lines on whatever torch
    still refers to, as if a run that went well had failed.
    """
    logging.shutdown()
    try:
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        code = code or 1  # whoever read it has gone, as `head` does
    except OSError as error:
        code = code or 1
        sys.stderr.write(f"alignguard: the output cannot be written: {error.strerror}\n")
    if sys.stderr:
        sys.stderr.flush()
    os._exit(code)
