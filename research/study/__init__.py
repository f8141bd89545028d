"""Replication of the method's claims on the stand-in world; docs/study.md is its page."""
