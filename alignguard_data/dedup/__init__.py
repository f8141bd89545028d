"""Near-duplicates of prompts and images, exact and resumable; no public names."""

__all__: list[str] = []
