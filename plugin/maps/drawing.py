"""A layer as QGIS draws it, on a grid, block by block, on a worker thread."""

from contextlib import contextmanager
from typing import Callable, Iterator, Optional, Tuple

import numpy as np
from qgis.core import (
    Qgis,
    QgsBilinearRasterResampler,
    QgsContrastEnhancement,
    QgsCoordinateTransformContext,
    QgsMapLayer,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsMultiBandColorRenderer,
    QgsRasterLayer,
    QgsRectangle,
    QgsSingleBandGrayRenderer,
)
from qgis.PyQt.QtCore import QCoreApplication, QEventLoop, QSize, QThread, QThreadPool, QTimer
from qgis.PyQt.QtGui import QColor, QImage

from ...engine.contract import GeoBox, Window
from .crs import crs_of

#: Pixels that are drawn beyond a block and cut off, so that symbols do not end where the block does.
_BEYOND = 32
#: Dots per inch of a screen that symbols were made for.
_DPI = 96.0
#: Milliseconds between two looks at whether to stop.
_TICK = 50
#: A coarser grid shows the mean of so many pixels along each axis, at most.
_OVERSAMPLING = 16.0


class Drawing:
    """A copy of a layer with its symbols; made on the main thread, painted on any one thread at a time.

    Nothing is smoothed at edges and nothing is labelled: colours are those of the legend, not mixtures of them.
    """

    def __init__(
        self,
        layer: QgsMapLayer,
        context: QgsCoordinateTransformContext,
        ground: Tuple[int, int, int] = (0, 0, 0),
        as_stored: bool = False,
        stretch: Optional[Callable[[QgsRasterLayer], Tuple[float, float]]] = None,
    ) -> None:
        """Copy the layer.

        Args:
            layer: vector or raster.
            context: how QGIS goes from one CRS to another in this project.
            ground: colour where the layer shows nothing.
            as_stored: whether 8-bit grey or colours are drawn without the contrast that the person chose.
            stretch: layer -> values of its first band that are black and white, in place of the layer's own symbols;
                asked of the copy when that is first painted.
        """
        self._layer = layer.clone()
        self._layer.setScaleBasedVisibility(False)
        self._context = context
        self._ground = ground
        self._stretch = stretch
        if isinstance(self._layer, QgsRasterLayer):
            _prepare(self._layer, as_stored, stretch is not None)
        self._layer.moveToThread(None)  # from now on it belongs to whoever paints

    def paint(self, grid: GeoBox, gsd: float, cancelled: Callable[[], bool]) -> Tuple[np.ndarray, bool]:
        """The block, and whether the layer shows anything in it.

        Args:
            grid: of the block, north up, with square pixels.
            gsd: metres on the ground of one of its pixels.
            cancelled: whether to stop; what is returned then is not complete.

        Returns:
            8-bit red, green and blue, shape (3, height, width).
        """
        around = grid.pad(_BEYOND)
        self._layer.moveToThread(QThread.currentThread())
        try:
            if self._stretch is not None:  # not before: it reads pixels, maybe from the network
                low_high, self._stretch = self._stretch(self._layer), None
                _enhance(self._layer, *low_high)
            image = self._draw(around, cancelled)
        finally:
            self._layer.moveToThread(None)
        rows, cols = Window(_BEYOND, _BEYOND, *grid.shape).slices()
        pixels = _array(image)[rows, cols].astype(np.uint16)
        alpha = pixels[..., 3:]
        ground = np.array(self._ground, np.uint16)
        colours = pixels[..., :3] + (ground * (255 - alpha) + 127) // 255
        return np.ascontiguousarray(np.moveaxis(colours.astype(np.uint8), 2, 0)), bool(alpha.any())

    def _draw(self, grid: GeoBox, cancelled: Callable[[], bool]) -> QImage:
        settings = QgsMapSettings()
        settings.setDestinationCrs(crs_of(grid.crs))
        settings.setTransformContext(self._context)
        settings.setLayers([self._layer])
        settings.setOutputSize(QSize(grid.width, grid.height))
        settings.setOutputDpi(_DPI)
        settings.setExtent(QgsRectangle(*grid.bounds), False)
        settings.setBackgroundColor(QColor(0, 0, 0, 0))
        settings.setOutputImageFormat(QImage.Format.Format_ARGB32_Premultiplied)
        for flag, is_on in (
            (QgsMapSettings.Flag.Antialiasing, False),
            (QgsMapSettings.Flag.DrawLabeling, False),
            (QgsMapSettings.Flag.DrawSelection, False),
            (QgsMapSettings.Flag.DrawEditingInfo, False),
            (QgsMapSettings.Flag.RenderMapTile, True),  # neighbouring blocks fit
        ):
            settings.setFlag(flag, is_on)
        # On other threads, with a loop of events here: Python's lock is free meanwhile, and layers of the network are
        # fetched without waiting for the main thread.
        job = QgsMapRendererParallelJob(settings)
        loop, timer = QEventLoop(), QTimer()
        job.finished.connect(loop.quit)
        timer.timeout.connect(lambda: job.cancelWithoutBlocking() if cancelled() else None)
        timer.start(_TICK)
        job.start()
        with place_left():
            if job.isActive():
                loop.exec()
        timer.stop()
        return job.renderedImage()


@contextmanager
def place_left() -> Iterator[None]:
    """While this thread waits for others, its place in Qt's global pool is another's.

    QGIS draws each layer of a map on a thread of that pool, and its tasks and ours may run there, too: if all of them
    waited for a layer, none would ever be drawn. The main thread holds no place.
    """
    if QThread.currentThread() == QCoreApplication.instance().thread():
        yield
        return
    pool = QThreadPool.globalInstance()
    pool.releaseThread()
    try:
        yield
    finally:
        pool.reserveThread()


def _is_plain(layer: QgsRasterLayer) -> bool:
    """Whether a raster's colours are its values: 8-bit bands shown as grey or as red, green and blue."""
    renderer = layer.renderer()
    is_byte = all(layer.dataProvider().dataType(band) == Qgis.DataType.Byte for band in renderer.usesBands())
    return is_byte and type(renderer) in (QgsSingleBandGrayRenderer, QgsMultiBandColorRenderer)


def _enhance(layer: QgsRasterLayer, low: float, high: float) -> None:
    """Show a layer of greys from black, its value ``low``, to white, its value ``high``."""
    enhancement = QgsContrastEnhancement(layer.dataProvider().dataType(1))
    enhancement.setContrastEnhancementAlgorithm(
        QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
    )
    enhancement.setMinimumValue(low)
    enhancement.setMaximumValue(high)
    layer.renderer().setContrastEnhancement(enhancement)


def _prepare(layer: QgsRasterLayer, as_stored: bool, as_greys: bool) -> None:
    """Values as colours or greys where that is asked for, else as the person styled them; see ``Drawing``."""
    renderer = layer.renderer()
    if as_greys:
        renderer = QgsSingleBandGrayRenderer(layer.dataProvider(), 1)
        layer.setRenderer(renderer)
    elif as_stored and _is_plain(layer):  # without a stretch, which a map of few lines has at its dark end
        if isinstance(renderer, QgsSingleBandGrayRenderer):
            renderer.setContrastEnhancement(None)
        else:
            renderer.setRedContrastEnhancement(None)
            renderer.setGreenContrastEnhancement(None)
            renderer.setBlueContrastEnhancement(None)
    if type(renderer) in (QgsSingleBandGrayRenderer, QgsMultiBandColorRenderer):  # classes have nothing in between
        resampling = layer.resampleFilter()
        resampling.setZoomedInResampler(QgsBilinearRasterResampler())
        resampling.setZoomedOutResampler(QgsBilinearRasterResampler())
        resampling.setMaxOversampling(_OVERSAMPLING)


def _array(image: QImage) -> np.ndarray:
    """Premultiplied red, green, blue and alpha, shape (height, width, 4)."""
    image = image.convertToFormat(QImage.Format.Format_RGBA8888_Premultiplied)
    data = image.constBits()
    data.setsize(image.bytesPerLine() * image.height())
    rows = np.frombuffer(bytes(data), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 4 * image.width()].reshape(image.height(), image.width(), 4)
