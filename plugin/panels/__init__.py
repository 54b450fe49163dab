"""One form a task."""

from .base import Panel
from .edit import EditPanel
from .generate import GeneratePanel
from .super_resolve import SuperResolvePanel

#: In the order that the dock shows them.
PANELS = (GeneratePanel, SuperResolvePanel, EditPanel)

__all__ = ["PANELS", "EditPanel", "GeneratePanel", "Panel", "SuperResolvePanel"]
