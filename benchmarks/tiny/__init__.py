"""Tiny models of the real classes with random weights, for measurements and tests."""
