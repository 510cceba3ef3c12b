"""Draws the figures of a run with matplotlib and Pillow."""
