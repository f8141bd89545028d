"""Dagster over both libraries: assets, profiles, sensors and the command `alignguard`."""

from alignguard_data import __version__ as __version__
