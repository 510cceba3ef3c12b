"""Encoders and decoders in plain PyTorch."""
