"""Whether a failure of torch means that something did not fit into memory.

The only place that reads the text of another library's error: on a CPU torch raises a bare
RuntimeError without a number. A test makes the real allocator fail, so that another wording in
another torch shows.
"""

import torch

_CPU_ALLOCATOR = "can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """For errors of an accelerator, of the CPU's allocator and of Python itself."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return type(error) is RuntimeError and _CPU_ALLOCATOR in str(error)
