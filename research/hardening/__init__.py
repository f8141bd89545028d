"""Rounds of hardening on the stand-in, from experts that are trained too briefly to withstand."""
