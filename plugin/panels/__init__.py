"""One form a task."""

from .base import Panel
from .generate import GeneratePanel
from .super_resolve import SuperResolvePanel

#: In the order that the dock shows them.
PANELS = (GeneratePanel, SuperResolvePanel)

__all__ = ["PANELS", "GeneratePanel", "Panel", "SuperResolvePanel"]
