"""Hides the progress bars of libraries while they load weights; rooms have their own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_bars() -> Iterator[None]:
    """Hide transformers' bars inside the block, and diffusers' if it is imported."""
    from transformers.utils import logging

    libraries = [logging]
    if "diffusers" in sys.modules:
        from diffusers.utils import logging as diffusers_logging

        libraries.append(diffusers_logging)
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()
