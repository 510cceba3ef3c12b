"""Estimators that the metrics use: boosted trees, logistic regression, nearest-neighbour information."""
