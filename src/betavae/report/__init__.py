"""Draws figures and writes the reports of runs and the comparison of runs."""
