"""Which raster layer of the project."""

from typing import Optional

from qgis.core import QgsMapLayerProxyModel, QgsProject
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
        self._except_previews()
        QgsProject.instance().layersAdded.connect(self._except_previews)
        QgsProject.instance().layersRemoved.connect(self._except_previews)

    def _except_previews(self, *_: object) -> None:
        previews = [layer for layer in QgsProject.instance().mapLayers().values() if is_preview(layer)]
        if previews or self.exceptedLayerList():
            self.setExceptedLayerList(previews)
