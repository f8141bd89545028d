"""What starts a run by itself."""
