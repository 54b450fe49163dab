"""Tensors only: keyed noise, the denoising loop, guidance, constraints, and windows over an extent."""
