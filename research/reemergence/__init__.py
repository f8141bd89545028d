"""Whether benign fine-tuning brings removed concepts back, on the stand-in."""
