"""Layers that guide a picture: read onto the grid that is drawn, or derived from pictures and heights; no tensors."""

from .maps import ControlMaps
from .preview import write_previews

__all__ = ["ControlMaps", "write_previews"]
