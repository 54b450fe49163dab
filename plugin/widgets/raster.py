"""Which raster layer of the project."""

from typing import Iterable, List, Optional

from qgis.core import QgsMapLayer, QgsMapLayerProxyModel, QgsProject
from qgis.gui import QgsMapLayerComboBox
from qgis.PyQt.QtWidgets import QComboBox, QWidget

from ..maps.preview import is_preview


class RasterInput(QgsMapLayerComboBox):
    """QGIS's list of raster layers, without previews of running jobs: those go when the job ends."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Show the first raster layer of the project."""
        super().__init__(parent)
        self.setObjectName("layer")
        self.setFilters(QgsMapLayerProxyModel.Filter.RasterLayer)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(5)
        self._has_previews = False
        self._except_previews()
        project = QgsProject.instance()
        project.layersAdded.connect(self._except_previews)
        project.layersWillBeRemoved.connect(self._forget_previews)

    def _except_previews(self, *_: object) -> None:
        self._except([layer for layer in QgsProject.instance().mapLayers().values() if is_preview(layer)])

    def _forget_previews(self, removed: Iterable[str]) -> None:
        # before they are deleted: QGIS keeps the list as bare pointers
        layers = QgsProject.instance().mapLayers()
        self._except([layer for id, layer in layers.items() if id not in removed and is_preview(layer)])

    def _except(self, previews: List[QgsMapLayer]) -> None:
        if previews or self._has_previews:
            self.setExceptedLayerList(previews)
        self._has_previews = bool(previews)
