"""The claims of the method, measured anew on the stand-in world; docs/study.md is its page."""
