"""Sweeps over many runs: recipes, executors, results and statistics."""
