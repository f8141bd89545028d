"""The command `alignguard`."""
