"""Sensors and schedules, which start runs automatically."""
