"""What a raster layer really is: its own grid, pixel type and bands, before anything resampled or scaled it."""

import math
import os
import re
from dataclasses import dataclass
from typing import Optional, Tuple

from osgeo import gdal
from qgis.core import Qgis, QgsProviderRegistry, QgsRaster, QgsRasterLayer

from ...engine.contract import Affine, ErrorCode, GeoBox
from ..report import Problem, tr
from .crs import crs_text, require_earth

#: QGIS's pixel types -> numpy's, for the types that the engine takes.
_TYPES = {
    Qgis.DataType.Byte: "uint8",
    Qgis.DataType.UInt16: "uint16",
    Qgis.DataType.Int16: "int16",
    Qgis.DataType.UInt32: "uint32",
    Qgis.DataType.Int32: "int32",
    Qgis.DataType.Float32: "float32",
    Qgis.DataType.Float64: "float64",
}
#: GDAL's pixel types -> numpy's.
GDAL_TYPES = {
    gdal.GDT_Byte: "uint8",
    gdal.GDT_UInt16: "uint16",
    gdal.GDT_Int16: "int16",
    gdal.GDT_UInt32: "uint32",
    gdal.GDT_Int32: "int32",
    gdal.GDT_Float32: "float32",
    gdal.GDT_Float64: "float64",
}
#: How sensors' own names of bands begin.
_OWN = re.compile(r"B\d")
#: Metadata of a product of Sentinel-2 without which its numbers cannot be read.
_TAGS = re.compile(r"PROCESSING_BASELINE|PROCESSING_LEVEL|PRODUCT_TYPE|(BOA|RADIO)_ADD_OFFSET\w{0,20}")
#: Pixels by which the provider's grid may be off the file's.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Native:
    """A raster layer as its provider has it.

    Attributes:
        grid: of the provider's pixels.
        bands: 1-based numbers of the bands with data.
        names: of the data bands: the colour that they stand for, else as described in the source, else "".
        alpha: number of the band that says where data is, None without one.
        dtypes: numpy name of each data band's type, as stored.
        scales: (scale, offset) of each data band; real value = stored value * scale + offset.
        nodata: value of each data band that means "no data", None where there is none.
        is_checked: whether the grid was compared with that of the file; not done over the network.
        file: what GDAL opens to read the stored values of a scaled raster, "" where the provider has them.
        files: that the pixels come from, as far as they are known: the layer's own and, of a mosaic, those in it.
        descriptions: what to call the data bands: as described where that is a sensor's own name, as "B8A", else as in
            ``names``.
        tags: (key, value) of what the file says about the numbers in it.
    """

    grid: GeoBox
    bands: Tuple[int, ...]
    names: Tuple[str, ...]
    alpha: Optional[int]
    dtypes: Tuple[str, ...]
    scales: Tuple[Tuple[float, float], ...]
    nodata: Tuple[Optional[float], ...]
    is_checked: bool
    file: str
    files: Tuple[str, ...]
    descriptions: Tuple[str, ...]
    tags: Tuple[Tuple[str, str], ...]


def native(layer) -> Native:
    """What a layer really is.

    Raises:
        Problem: SOURCE_UNREADABLE, UNSUPPORTED_RASTER, UNKNOWN_CRS or UNSUPPORTED_GRID, with what to do.
    """
    _require_raster(layer)
    provider = layer.dataProvider()
    dataset = open_local(layer)
    bands, alpha = _bands(layer)
    scales = tuple((provider.bandScale(band) or 1.0, provider.bandOffset(band)) for band in bands)
    is_scaled = any(scale != (1.0, 0.0) for scale in scales)
    if is_scaled and dataset is not None:
        file = layer.source()
        dtypes = tuple(_gdal_type(layer, dataset, band) for band in bands)
    else:  # QGIS hands out real values for scaled bands: they have no scale any more
        file = ""
        scales = ((1.0, 0.0),) * len(bands)
        dtypes = tuple(_provider_type(layer, dataset, band) for band in bands)
    box = _grid(layer, dataset)
    nodata = tuple(
        float(provider.sourceNoDataValue(band))
        if provider.sourceHasNoDataValue(band) and provider.useSourceNoDataValue(band)
        else None
        for band in bands
    )
    if is_scaled and not file:
        nodata = tuple(
            value and value * provider.bandScale(b) + provider.bandOffset(b) for value, b in zip(nodata, bands)
        )
    said, names = _said(dataset, bands), _names(layer, dataset, bands)
    return Native(
        grid=box,
        bands=bands,
        names=names,
        alpha=alpha,
        dtypes=dtypes,
        scales=scales,
        nodata=nodata,
        is_checked=dataset is not None,
        file=file,
        files=_files(layer, dataset),
        descriptions=tuple(own if _OWN.match(own) else name for own, name in zip(said, names)),
        tags=_tags(dataset),
    )


def _require_raster(layer) -> None:
    if layer is None:
        raise Problem(
            ErrorCode.SOURCE_UNREADABLE, tr("There is no source layer."), tr("Choose a raster layer of the project.")
        )
    if not isinstance(layer, QgsRasterLayer):
        raise Problem(
            ErrorCode.UNSUPPORTED_RASTER,
            tr("'{}' is not a raster layer.").format(layer.name()),
            tr("Choose a raster layer, such as a GeoTIFF."),
        )
    if not layer.isValid() or layer.dataProvider() is None:
        raise Problem(
            ErrorCode.SOURCE_UNREADABLE,
            tr("The layer '{}' cannot be read.").format(layer.name()),
            tr("Check that its file is still there and is a raster."),
        )


def open_local(layer: QgsRasterLayer) -> Optional[gdal.Dataset]:
    """GDAL's own view of a layer that is a local file, None for any other."""
    if layer.dataProvider().name() != "gdal":
        return None
    parts = QgsProviderRegistry.instance().decodeUri("gdal", layer.source())
    if not os.path.exists(parts.get("path") or ""):  # the network: too slow for the main thread
        return None
    try:
        return gdal.OpenEx(
            layer.source().split("|option:")[0], gdal.OF_RASTER, open_options=parts.get("openOptions") or []
        )
    except RuntimeError:  # raised where another plugin turned GDAL's exceptions on
        return None


def _files(layer: QgsRasterLayer, dataset: Optional[gdal.Dataset]) -> Tuple[str, ...]:
    parts = QgsProviderRegistry.instance().decodeUri(layer.dataProvider().name(), layer.source())
    own = parts.get("path") or layer.source().split("|")[0]
    inside = dataset.GetFileList() if dataset is not None else None
    return tuple(dict.fromkeys([own, *(inside or ())]))


def _grid(layer: QgsRasterLayer, dataset: Optional[gdal.Dataset]) -> GeoBox:
    provider = layer.dataProvider()
    width, height, extent = provider.xSize(), provider.ySize(), provider.extent()
    if width < 1 or height < 1:
        raise _refused(
            layer.name(),
            tr("has no pixel size of its own (it is a map service)"),
            tr("Export the part that you need: right-click the layer, Export, Save As, rendered image."),
        )
    sides = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
    if not all(math.isfinite(side) for side in sides) or extent.width() <= 0 or extent.height() <= 0:
        raise _refused(layer.name(), tr("has no extent"), tr("Check its georeferencing in the layer properties."))
    transform = (extent.width() / width, 0.0, sides[0], 0.0, -extent.height() / height, sides[3])
    if dataset is not None:
        transform = own_transform(layer.name(), (height, width), transform, dataset)
    if not layer.crs().isValid():
        raise Problem(
            ErrorCode.UNKNOWN_CRS,
            tr("The layer '{}' has no coordinate reference system.").format(layer.name()),
            tr("Assign one in the layer properties, under Source."),
        )
    require_earth(layer.crs())
    return GeoBox(crs_text(layer.crs()), transform, (height, width))


def own_transform(name: str, shape: Tuple[int, int], shown: Affine, dataset: gdal.Dataset) -> Affine:
    """The file's own transform, once it is sure that QGIS shows the file's own pixels.

    Args:
        name: of the layer.
        shape: (height, width) that QGIS shows.
        shown: transform that QGIS shows.
        dataset: the file.

    Raises:
        Problem: UNSUPPORTED_RASTER where QGIS resamples the file: rotated, georeferenced by points, and so on.
    """
    hint = tr("Warp it first: Raster, Projections, Warp (Reproject), with the resampling that you want.")
    height, width = shape
    c, a, b, f, d, e = dataset.GetGeoTransform()  # GDAL's order
    if dataset.GetGCPCount() and (c, a, b, f, d, e) == (0.0, 1.0, 0.0, 0.0, 0.0, 1.0):
        raise _refused(name, tr("is georeferenced by ground control points"), hint)
    if b != 0.0 or d != 0.0:
        raise _refused(name, tr("is rotated: its rows do not run along the axes of its map"), hint)
    if (c, a, f, e) == (0.0, 1.0, 0.0, 1.0):  # no georeference in the file: what QGIS says holds
        return shown
    left, right = sorted((c, c + a * dataset.RasterXSize))
    bottom, top = sorted((f, f + e * dataset.RasterYSize))
    px, py = shown[0], -shown[4]
    ends = (shown[2] - left) / px, (shown[2] + px * width - right) / px
    ends += (shown[5] - top) / py, (shown[5] - py * height - bottom) / py
    is_same_shape = (height, width) == (dataset.RasterYSize, dataset.RasterXSize)
    if not is_same_shape or max(abs(end) for end in ends) > _TOLERANCE:
        raise _refused(name, tr("is shown by QGIS on another grid than that of its file"), hint)
    return (a, 0.0, c, 0.0, e, f) if a > 0 > e else shown


def _bands(layer: QgsRasterLayer) -> Tuple[Tuple[int, ...], Optional[int]]:
    """Data bands, and the band that says where data is."""
    provider = layer.dataProvider()
    bands, alpha = [], None
    for band in range(1, layer.bandCount() + 1):
        colour = provider.colorInterpretation(band)
        if colour == QgsRaster.ColorInterpretation.AlphaBand:
            alpha = band
        elif colour == QgsRaster.ColorInterpretation.PaletteIndex or provider.colorTable(band):
            raise _refused(
                layer.name(),
                tr("holds classes with a colour table, between which there is nothing to draw"),
                tr("Choose a layer with measured values, or turn this into colours: Raster, Conversion, PCT to RGB."),
            )
        else:
            bands.append(band)
    if not bands:
        raise _refused(layer.name(), tr("has no band with data"), tr("Choose another layer."))
    return tuple(bands), alpha


def _names(layer: QgsRasterLayer, dataset: Optional[gdal.Dataset], bands: Tuple[int, ...]) -> Tuple[str, ...]:
    colours = {
        QgsRaster.ColorInterpretation.RedBand: "red",
        QgsRaster.ColorInterpretation.GreenBand: "green",
        QgsRaster.ColorInterpretation.BlueBand: "blue",
    }
    seen = [colours.get(layer.dataProvider().colorInterpretation(band), "") for band in bands]
    return tuple(colour or own for colour, own in zip(seen, _said(dataset, bands)))


def _said(dataset: Optional[gdal.Dataset], bands: Tuple[int, ...]) -> Tuple[str, ...]:
    """What the file itself calls its bands, "" where it does not."""
    return tuple(dataset.GetRasterBand(band).GetDescription() if dataset else "" for band in bands)


def _tags(dataset: Optional[gdal.Dataset]) -> Tuple[Tuple[str, str], ...]:
    """What the numbers of a product of Sentinel-2 mean, as GDAL's driver for it and its copies say."""
    said = (dataset.GetMetadata() or {}) if dataset is not None else {}
    return tuple((key, value) for key, value in sorted(said.items()) if _TAGS.fullmatch(key) and len(value) < 100)


def _provider_type(layer: QgsRasterLayer, dataset: Optional[gdal.Dataset], band: int) -> str:
    kind = layer.dataProvider().sourceDataType(band)
    if kind not in _TYPES:
        raise _no_type(layer, band)
    if dataset is not None and band <= dataset.RasterCount:
        _gdal_type(layer, dataset, band)  # older GDAL calls signed bytes bytes
    return _TYPES[kind]


def _gdal_type(layer: QgsRasterLayer, dataset: gdal.Dataset, band: int) -> str:
    stored = dataset.GetRasterBand(band)
    is_signed = stored.GetMetadataItem("PIXELTYPE", "IMAGE_STRUCTURE") == "SIGNEDBYTE"
    if stored.DataType not in GDAL_TYPES or is_signed:
        raise _no_type(layer, band)
    return GDAL_TYPES[stored.DataType]


def _no_type(layer: QgsRasterLayer, band: int) -> Problem:
    return _refused(
        layer.name(),
        tr(
            "has pixels of a kind that is not supported in band {} (complex numbers, rendered colours or signed bytes)"
        ).format(band),
        tr("Convert it to 8 or 16 bit integers or to floating point: Raster, Conversion, Translate."),
    )


def _refused(name: str, what: str, hint: str) -> Problem:
    return Problem(ErrorCode.UNSUPPORTED_RASTER, tr("The layer '{}' {}.").format(name, what), hint)
