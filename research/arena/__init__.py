"""The arena on the stand-in: every defence over training seeds, on the same prompts and cases."""
