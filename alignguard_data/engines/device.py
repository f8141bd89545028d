"""Device of a scorer's network."""


def device_of(choice: str) -> str:
    """Resolve ``auto`` to a GPU if there is one, else the CPU; other values are kept."""
    import torch

    if choice != "auto":
        return choice
    return "cuda" if torch.cuda.is_available() else "cpu"
