"""Side-by-side measurements, as ratios: `make bench`."""
