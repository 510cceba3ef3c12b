"""The training loop, its state, batches, optimisers and devices."""
