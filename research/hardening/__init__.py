"""What hardening changes on the stand-in, and what as many steps without hard negatives do."""
