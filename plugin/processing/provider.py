"""The Processing provider ``afterimage``."""

import os

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .base import release_prepared
from .edit import EditAlgorithm
from .forecast import ForecastAlgorithm
from .generate import GenerateAlgorithm
from .super_resolve import SuperResolveAlgorithm

ICON = os.path.join(os.path.dirname(__file__), "..", "..", "resources", "icons", "afterimage.svg")


class AfterimageProvider(QgsProcessingProvider):
    """Lists the algorithms; ids are ``afterimage:generate`` and so on."""

    def id(self) -> str:
        """Part of the algorithms' ids: never changes."""
        return "afterimage"

    def name(self) -> str:
        """Name in the toolbox: the product's, not translated."""
        return "Afterimage"

    def icon(self) -> QIcon:
        """The plugin's icon."""
        return QIcon(ICON)

    def svgIconPath(self) -> str:  # noqa: N802  (QGIS's name)
        """The plugin's icon as a file."""
        return ICON

    def loadAlgorithms(self) -> None:  # noqa: N802
        """One of each task."""
        for algorithm in (GenerateAlgorithm, SuperResolveAlgorithm, EditAlgorithm, ForecastAlgorithm):
            self.addAlgorithm(algorithm())

    def unload(self) -> None:
        """The plugin or QGIS ends: copies of layers must not outlive it."""
        release_prepared()
        super().unload()

    def supportedOutputRasterLayerExtensions(self):  # noqa: N802
        """Results are GeoTIFFs."""
        return ["tif", "tiff"]

    def defaultRasterFileExtension(self) -> str:  # noqa: N802
        """Results are GeoTIFFs."""
        return "tif"
