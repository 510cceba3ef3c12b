"""Crops, resizes and converts images once, and keeps the result in the cache."""
