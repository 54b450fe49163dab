"""When the picture of a layer was taken and how clouded it is, from what comes with it."""

import datetime
from dataclasses import dataclass
from typing import Dict, Optional

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtCore import Qt

from .native import open_local
from .temporal import layer_date

#: Metadata of files that GDAL reads: (domain, key of the time, key of the cloud cover in percent). The first are those
#: of its readers of commercial imagery and Landsat, the second those of its driver for Sentinel-2.
_KEYS = (
    ("IMAGERY", "ACQUISITIONDATETIME", "CLOUDCOVER"),
    ("", "PRODUCT_START_TIME", "CLOUD_COVERAGE_ASSESSMENT"),
)


@dataclass(frozen=True)
class Acquisition:
    """What is known of a picture.

    Attributes:
        date: ISO 8601.
        cloud_cover: percent of it that is clouded.
    """

    date: Optional[str] = None
    cloud_cover: Optional[float] = None


def acquisition(layer: QgsRasterLayer) -> Acquisition:
    """What a layer says: its temporal range first, then its metadata in QGIS, then those of its file.

    Names of layers and the times at which files were written say nothing about the picture and are not asked.
    """
    in_file = _in_file(layer)
    return Acquisition(layer_date(layer) or _described(layer) or in_file.date, in_file.cloud_cover)


def _described(layer: QgsRasterLayer) -> Optional[str]:
    """The first day of the temporal extents in a layer's metadata."""
    for extent in layer.metadata().extent().temporalExtents():
        if extent.begin().isValid():
            return extent.begin().date().toString(Qt.DateFormat.ISODate)
    return None


def _in_file(layer: QgsRasterLayer) -> Acquisition:
    dataset = open_local(layer)
    if dataset is None:
        return Acquisition()
    for domain, time, clouds in _KEYS:
        said: Dict[str, str] = dataset.GetMetadata(domain) or {}
        if said.get(time):
            return Acquisition(_day(said[time]), _percent(said.get(clouds, "")))
    return Acquisition()


def _day(text: str) -> Optional[str]:
    try:
        return datetime.date.fromisoformat(text.strip()[:10]).isoformat()
    except ValueError:
        return None


def _percent(text: str) -> Optional[float]:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 100 else None  # GDAL writes 999 where it is not known
