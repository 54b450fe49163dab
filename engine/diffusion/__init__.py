"""Tensors only: keyed noise, the denoising loop, guidance, constraints, and windows over an extent."""

from ..lean import import_if_asked

import_if_asked()
