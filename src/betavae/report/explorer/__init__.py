"""Prepares what the explorer of the report needs: latents, networks and true images."""
