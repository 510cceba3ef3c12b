"""Run folders: settings, provenance, checkpoints, latents and scores on disk."""
