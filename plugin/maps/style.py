"""How results look: colours as they are, stretched where the type has no natural range, a ramp for a spread."""

from typing import Optional, Sequence, Tuple

import numpy as np
from qgis.core import (
    Qgis,
    QgsColorRampShader,
    QgsContrastEnhancement,
    QgsGradientColorRamp,
    QgsGradientStop,
    QgsMultiBandColorRenderer,
    QgsRaster,
    QgsRasterLayer,
    QgsRasterRenderer,
    QgsRasterShader,
    QgsSingleBandGrayRenderer,
    QgsSingleBandPseudoColorRenderer,
)
from qgis.PyQt.QtGui import QColor

#: Side of the decimated picture from which a range is taken, in pixels; the overviews make it cheap.
_SAMPLE = 256
#: Share of the pixels, in percent, that may lie outside the shown range at each end.
_TAIL = 2.0
#: Names of the bands for red, green and blue: plain, Sentinel-2's.
_COLOURS = (("red", "b4", "b04"), ("green", "b3", "b03"), ("blue", "b2", "b02"))
_DTYPES = {
    Qgis.DataType.Byte: "uint8",
    Qgis.DataType.UInt16: "uint16",
    Qgis.DataType.Int16: "int16",
    Qgis.DataType.UInt32: "uint32",
    Qgis.DataType.Int32: "int32",
    Qgis.DataType.Float32: "float32",
    Qgis.DataType.Float64: "float64",
}


def style_sample(layer: QgsRasterLayer, names: Sequence[str] = ()) -> None:
    """Show a picture: three bands as colours, one or two as grey; 8-bit values as they are.

    Args:
        layer: gets a new renderer.
        names: of the bands, to find red, green and blue.
    """
    bands = colour_bands(names, _data_bands(layer))
    provider = layer.dataProvider()
    is_plain = all(provider.dataType(band) == Qgis.DataType.Byte for band in bands)
    if len(bands) == 3:
        renderer = QgsMultiBandColorRenderer(provider, *bands)
        if not is_plain:
            renderer.setRedContrastEnhancement(_stretch(layer, bands[0]))
            renderer.setGreenContrastEnhancement(_stretch(layer, bands[1]))
            renderer.setBlueContrastEnhancement(_stretch(layer, bands[2]))
    else:
        renderer = QgsSingleBandGrayRenderer(provider, bands[0])
        if not is_plain:
            renderer.setContrastEnhancement(_stretch(layer, bands[0]))
    _set(layer, renderer)


def style_spread(layer: QgsRasterLayer) -> None:
    """Show a standard deviation with a ramp from dark (the samples agree) to bright (they do not)."""
    _, highest = value_range(layer, 1)
    ramp = QgsGradientColorRamp(
        QColor(0, 0, 4),
        QColor(252, 253, 191),
        False,
        [QgsGradientStop(0.35, QColor(95, 24, 127)), QgsGradientStop(0.7, QColor(241, 96, 93))],
    )
    colours = QgsColorRampShader(0.0, highest if highest > 0 else 1.0, ramp)
    colours.setColorRampType(QgsColorRampShader.Type.Interpolated)
    colours.setClassificationMode(QgsColorRampShader.ClassificationMode.Continuous)
    colours.classifyColorRamp(5, 1)
    shader = QgsRasterShader()
    shader.setRasterShaderFunction(colours)
    renderer = QgsSingleBandPseudoColorRenderer(layer.dataProvider(), 1, shader)
    renderer.setClassificationMin(colours.minimumValue())
    renderer.setClassificationMax(colours.maximumValue())
    _set(layer, renderer)


def shown_bands(layer: QgsRasterLayer, names: Sequence[str], bands: Sequence[int]) -> Tuple[int, ...]:
    """The bands that a layer shows as red, green and blue; where it shows no three, those of ``colour_bands``.

    Args:
        layer: as the person styled it.
        names: of the bands, in order; may be empty.
        bands: 1-based numbers of the bands with data.
    """
    renderer = layer.renderer()
    if isinstance(renderer, QgsMultiBandColorRenderer):
        shown = (renderer.redBand(), renderer.greenBand(), renderer.blueBand())
        if len(set(shown)) == 3 and set(shown) <= set(bands):
            return shown
    return colour_bands(names, bands)


def colour_bands(names: Sequence[str], bands: Sequence[int]) -> Tuple[int, ...]:
    """The bands to show as red, green and blue: by name, else the first three; one band where there are fewer.

    Args:
        names: of the bands, in order; may be empty.
        bands: 1-based numbers of the bands with data.
    """
    if len(bands) < 3:
        return tuple(bands[:1])
    lowered = [name.lower().rpartition(":")[2].strip() for name in names]
    found = [next((lowered.index(name) + 1 for name in colour if name in lowered), 0) for colour in _COLOURS]
    return tuple(found) if all(band in bands for band in found) else tuple(bands[:3])


def value_range(layer: QgsRasterLayer, band: int) -> Tuple[float, float]:
    """The range that most of a band's values are in, from a decimated picture of it."""
    values = _sample(layer, band)
    alpha = _alpha_band(layer)
    if alpha is not None:
        shown = _sample(layer, alpha)
        values = values[shown > 0] if shown.shape == values.shape else values
    provider = layer.dataProvider()
    if provider.sourceHasNoDataValue(band):
        values = values[values != provider.sourceNoDataValue(band)]
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (_TAIL, 100 - _TAIL)))
    return (low, high) if high > low else (low, low + 1.0)


def _sample(layer: QgsRasterLayer, band: int) -> np.ndarray:
    provider = layer.dataProvider()
    shrink = max(1.0, provider.xSize() / _SAMPLE, provider.ySize() / _SAMPLE)
    width, height = max(1, int(provider.xSize() / shrink)), max(1, int(provider.ySize() / shrink))
    block = provider.block(band, provider.extent(), width, height)
    dtype = _DTYPES.get(provider.dataType(band))
    data = bytes(block.data()) if block is not None and block.isValid() else b""
    if dtype is None or len(data) != width * height * np.dtype(dtype).itemsize:
        return np.empty(0)
    return np.frombuffer(data, dtype).astype(float)


def _stretch(layer: QgsRasterLayer, band: int) -> QgsContrastEnhancement:
    enhancement = QgsContrastEnhancement(layer.dataProvider().dataType(band))
    low, high = value_range(layer, band)
    enhancement.setContrastEnhancementAlgorithm(
        QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
    )
    enhancement.setMinimumValue(low)
    enhancement.setMaximumValue(high)
    return enhancement


def _data_bands(layer: QgsRasterLayer) -> Tuple[int, ...]:
    alpha = _alpha_band(layer)
    return tuple(band for band in range(1, layer.bandCount() + 1) if band != alpha) or (1,)


def _alpha_band(layer: QgsRasterLayer) -> Optional[int]:
    provider = layer.dataProvider()
    for band in range(layer.bandCount(), 0, -1):
        if provider.colorInterpretation(band) == QgsRaster.ColorInterpretation.AlphaBand:
            return band
    return None


def _set(layer: QgsRasterLayer, renderer: QgsRasterRenderer) -> None:
    alpha = _alpha_band(layer)
    if alpha is not None:
        renderer.setAlphaBand(alpha)
    layer.setRenderer(renderer)
