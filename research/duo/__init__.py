"""Image-side pairs (DUO) against prompt-side pairs on the stand-in, under attack."""
