"""What forms share whose task begins with a raster layer of the project."""

from typing import List, Optional, Set

from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import ErrorCode, Failure, Request, target_paths
from ..maps.sources import SourceInfo, describe, require_kept
from ..report import Problem, tr
from ..widgets.raster import RasterInput
from .base import Panel


class SourcePanel(Panel):
    """A form with a raster layer in it.

    Attributes:
        layer: which one.
    """

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make the inputs; a panel lays them out with its own, then calls ``_follow`` and ``_follow_layer``."""
        super().__init__(parent)
        self._info: Optional[SourceInfo] = None
        self._refusal: Optional[Failure] = None
        self._watched: Set[str] = set()
        self.layer = RasterInput()
        self.layer.layerChanged.connect(self._follow_layer)

    def _layer_problems(self) -> List[Failure]:
        """Why the layer cannot be used; where this is empty, ``_info`` says what it is."""
        if self.layer.currentLayer() is None:
            message = tr("The project has no raster layer.")
            return [Failure(ErrorCode.SOURCE_UNREADABLE, message, tr("Add the layer that you want to start from."))]
        return [] if self._refusal is None else [self._refusal]

    def _output_problems(self, request: Request) -> List[Failure]:
        """Why the results of a request cannot go where they should: that cannot be written to, or is the source."""
        found = self.output.problems()
        if not found:
            try:
                require_kept(self._info.files, target_paths(request, self.output.value()))
            except Problem as problem:
                found.append(problem.failure)
        return found

    def _show_source(self) -> None:
        """Follow another layer: ``_info`` says what it is, None where it cannot be used."""
        raise NotImplementedError

    def _follow_layer(self, *_: object) -> None:
        layer = self.layer.currentLayer()
        if layer is not None and layer.id() not in self._watched:
            self._watched.add(layer.id())
            layer.crsChanged.connect(self._describe)
            layer.dataSourceChanged.connect(self._describe)
            layer.temporalProperties().changed.connect(self._describe)
        self._describe()

    def _describe(self) -> None:
        layer = self.layer.currentLayer()
        self._info, self._refusal = None, None
        if layer is not None:
            try:
                self._info = describe(layer)
            except Problem as problem:
                self._refusal = problem.failure
        self._show_source()
        self._announce()
