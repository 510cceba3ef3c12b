"""Objectives: what is minimised. `api` has the interface, `registry` all of them by their settings."""
