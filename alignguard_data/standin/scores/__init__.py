"""The stand-in's scorers and how they are trained; built by `alignguard_data.standin`."""

__all__: list[str] = []
