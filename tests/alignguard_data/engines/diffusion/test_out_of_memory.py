"""What counts as out of memory, with torch's real allocator made to fail."""

import pytest
import torch

from alignguard_data.engines.out_of_memory import is_out_of_memory


def test_torchs_own_failure_on_a_cpu_is_known():
    """Fails when torch words it otherwise, or gives it a class: then look at `is_out_of_memory`."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert type(caught.value) is RuntimeError
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_errors_of_a_class_of_their_own_are_known_by_it(error):
    assert is_out_of_memory(error)


def test_any_other_failure_of_torch_is_none():
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(caught.value)


def test_the_class_for_accelerators_is_one_for_every_device():
    assert issubclass(torch.cuda.OutOfMemoryError, torch.OutOfMemoryError)
