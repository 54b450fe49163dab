"""One form a task."""

from .base import Panel
from .edit import EditPanel
from .forecast import ForecastPanel
from .generate import GeneratePanel
from .super_resolve import SuperResolvePanel

#: In the order that the dock shows them.
PANELS = (GeneratePanel, SuperResolvePanel, EditPanel, ForecastPanel)

__all__ = ["PANELS", "EditPanel", "ForecastPanel", "GeneratePanel", "Panel", "SuperResolvePanel"]
