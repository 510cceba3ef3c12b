"""Data sets: images with the factors that each was made from."""
