"""Data sets that are drawn from their factors, without a download."""
