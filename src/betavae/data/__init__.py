"""Data sets: images with their generative factors."""
