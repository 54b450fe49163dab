"""The day that a layer shows."""

import datetime
from typing import Optional

from qgis.core import Qgis, QgsDateTimeRange, QgsRasterLayer
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime


def layer_date(layer: QgsRasterLayer) -> Optional[str]:
    """ISO 8601 date of a layer with a fixed temporal range (the day on which that begins), None for any other."""
    properties = layer.temporalProperties()
    if not properties.isActive() or properties.mode() != Qgis.RasterTemporalMode.FixedTemporalRange:
        return None
    begin = properties.fixedTemporalRange().begin()
    return begin.date().toString(Qt.DateFormat.ISODate) if begin.isValid() else None


def set_layer_date(layer: QgsRasterLayer, date: str) -> None:
    """Make a layer show in the Temporal Controller on one day, written YYYY-MM-DD."""
    day = datetime.date.fromisoformat(date)
    first = QDate(day.year, day.month, day.day)
    begin = QDateTime(first, QTime(0, 0), Qt.TimeSpec.UTC)
    end = QDateTime(first.addDays(1), QTime(0, 0), Qt.TimeSpec.UTC)
    properties = layer.temporalProperties()
    properties.setMode(Qgis.RasterTemporalMode.FixedTemporalRange)
    properties.setFixedTemporalRange(QgsDateTimeRange(begin, end, True, False))
    properties.setIsActive(True)
