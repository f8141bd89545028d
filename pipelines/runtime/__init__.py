"""How rooms are run: what is missing, on which devices, with what progress."""
