"""The training loop and what it takes."""
