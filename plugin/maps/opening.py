"""Opening our own rasters as layers, without leaving a statistics file beside them."""

from qgis.core import QgsDataProvider, QgsRasterLayer

from .gdaloption import gdal_option


def open_raster(path: str, name: str) -> QgsRasterLayer:
    """A GeoTIFF as a layer, without a default style; invalid where it cannot be opened."""
    with gdal_option("GDAL_PAM_ENABLED", "NO"):  # else QGIS takes statistics and keeps them in PATH.aux.xml
        return QgsRasterLayer(path, name, "gdal", QgsRasterLayer.LayerOptions(False))


def reopen_raster(layer: QgsRasterLayer, path: str) -> None:
    """Make a layer show another GeoTIFF, in the same place of the layer tree."""
    with gdal_option("GDAL_PAM_ENABLED", "NO"):
        layer.setDataSource(path, layer.name(), "gdal", QgsDataProvider.ProviderOptions())
