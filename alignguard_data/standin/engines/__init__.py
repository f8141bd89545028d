"""How the stand-in's base model is built and trained; no public names."""

__all__: list[str] = []
