"""Estimators that metrics are computed from."""
