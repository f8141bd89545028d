"""Where a scorer's network computes."""


def device_of(choice: str) -> str:
    """``auto`` is a GPU where there is one, else the CPU; anything else is itself."""
    import torch

    if choice != "auto":
        return choice
    return "cuda" if torch.cuda.is_available() else "cpu"
