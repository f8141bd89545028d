"""Whether a torch failure means out of memory.

The only place that matches another library's error text: on a CPU torch raises a plain
RuntimeError. A test makes the real allocator fail, so a changed text in a new torch is noticed.
"""

import torch

_CPU_ALLOCATOR = "can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """True for out-of-memory errors of an accelerator, the CPU allocator and Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return type(error) is RuntimeError and _CPU_ALLOCATOR in str(error)
