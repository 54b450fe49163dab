"""How long QGIS's main thread is away from its event loop while jobs run: never more than 100 ms is the goal.

The dock, the session, the map and the real engine are there; the network is the tiny one with random weights, which
sends its events faster than a real one. ``pytest -s`` prints the figures. So it is while a layer of many polygons is
read: ``AFTERIMAGE_POLYGONS=200000 pytest -s -k polygons``.
"""

import json
import math
import os
import shutil
import time

import numpy as np
import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import Generate, GeoBox, JobState, Sampling, SuperResolve
from afterimage.plugin import settings
from afterimage.plugin.delivery import Delivery
from afterimage.plugin.dock import Dock
from afterimage.plugin.jobs import Draft
from afterimage.plugin.maps.sources import prepare
from afterimage.plugin.session import Session
from osgeo import gdal, osr
from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsRectangle, QgsVectorLayer
from qgis.gui import QgsMessageBar
from qgis.PyQt.QtCore import Qt, QTimer

GOAL_MS = 100
TICK_MS = 20
#: A machine that does other things too takes the processor away from everybody now and then.
TRIES = 3
#: Polygons of the layer that is chosen as regions.
POLYGONS = int(os.environ.get("AFTERIMAGE_POLYGONS", 20_000))

ENGINE = os.environ.get(settings.PYTHON_VARIABLE, "")
pytestmark = pytest.mark.skipif(not shutil.which(ENGINE), reason=f"{settings.PYTHON_VARIABLE} names no Python")


@pytest.fixture
def session(qgis_app, tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERIMAGE_THREADS", "1")
    monkeypatch.setenv("AFTERIMAGE_DEVICE", "cpu")
    session = Session(root=str(tmp_path / "jobs"))
    yield session
    session.stop()


@pytest.fixture
def desk(session, qgis_canvas, qtbot):
    """Everything that reacts to a job: dock, message bar, map."""
    bar = QgsMessageBar()
    dock = Dock(session, qgis_canvas)
    qtbot.addWidget(bar)
    qtbot.addWidget(dock)
    dock.show()
    delivery = Delivery(session, bar)
    yield dock
    delivery.deleteLater()
    QgsProject.instance().clear()


def raster(path, side):
    """A picture in 16 bits with structure at every scale."""
    file = gdal.GetDriverByName("GTiff").Create(str(path), side, side, 3, gdal.GDT_UInt16, ["TILED=YES"])
    file.SetGeoTransform((500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0))
    crs = osr.SpatialReference()
    crs.ImportFromEPSG(32633)
    file.SetProjection(crs.ExportToWkt())
    pixels = np.random.default_rng(0).normal(size=(side, side)).cumsum(0).cumsum(1)
    pixels = (3000 + 2000 * pixels / np.abs(pixels).max()).astype(np.uint16)
    for band in (1, 2, 3):
        file.GetRasterBand(band).WriteArray(pixels)
    file.FlushCache()
    return QgsRasterLayer(str(path), "source")


class Ticks:
    """The longest time between two ticks of a timer on the main thread: in all, and of that the thread's own work."""

    def __init__(self):
        self.wall = self.own = 0.0
        self._last = (time.perf_counter(), time.thread_time())
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)

    def _tick(self):
        now = (time.perf_counter(), time.thread_time())
        self.wall = max(self.wall, (now[0] - self._last[0]) * 1000)
        self.own = max(self.own, (now[1] - self._last[1]) * 1000)
        self._last = now


def longest_gap(qtbot, session, make):
    """Milliseconds away from the event loop at most, from the start of a job to its layer on the map.

    While other programs keep all processors busy, what the thread waits for them is left out.
    """
    found = []
    for _ in range(TRIES):
        ticks = Ticks()
        job = session.submit(make())
        qtbot.waitUntil(lambda job=job: session.job(job).is_over, timeout=200_000)
        qtbot.wait(500)
        assert session.job(job).state is JobState.SUCCEEDED, session.job(job).failure
        is_busy = os.getloadavg()[0] > os.cpu_count() + 1
        found.append(ticks.own if is_busy else ticks.wall)
        print(f"\naway for {ticks.wall:.0f} ms, {ticks.own:.0f} ms of it at work{', busy machine' if is_busy else ''}")
        if found[-1] <= GOAL_MS:
            break
    return min(found)


def test_generate(qtbot, session, desk):
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (768, 768))
    sampling = Sampling(seed=1, steps=2, scheduler="DDIM", guidance_scale=1.0)
    request = Generate("tiny-generate", grid, grid, 10.0, "forest", sampling)
    assert longest_gap(qtbot, session, lambda: Draft(request, "a picture")) <= GOAL_MS


def test_super_resolve(qtbot, session, desk, tmp_path):
    layer = raster(tmp_path / "source.tif", 384)
    QgsProject.instance().addMapLayer(layer)

    def make():
        export = prepare(layer, (1, 2, 3))
        sampling = Sampling(seed=1, steps=2, scheduler="DDIM")
        request = SuperResolve("tiny-superresolve", export.source, 2, export.gsd, sampling)
        return Draft(request, "finer", exports=(export,))

    assert longest_gap(qtbot, session, make) <= GOAL_MS


def parcels(path, count):
    """A file of so many squares with texts, without an index of places: all of it is read to find those anywhere."""
    side = math.isqrt(count - 1) + 1
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number in range(count):
            x, y, size = 12 + number % side / 1000, 47.6 + number // side / 1000, 0.0009
            ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
            properties = {"prompt": ("forest", "river", "meadow", None)[number % 4]}
            feature = {"type": "Feature", "properties": properties}
            feature["geometry"] = {"type": "Polygon", "coordinates": [ring]}
            file.write((",\n" if number else "\n") + json.dumps(feature))
        file.write("]}")
    return QgsRectangle(12, 47.6, 12 + side / 1000, 47.6 + side / 1000)


def test_many_polygons(qtbot, session, desk, tmp_path):
    panel = desk.panels[0]
    panel.extent.set_extent(parcels(tmp_path / "plan.geojson", POLYGONS), QgsCoordinateReferenceSystem("EPSG:4326"))
    panel.prompt.set_text("forest")
    found = []
    for _ in range(TRIES):
        layer = QgsVectorLayer(str(tmp_path / "plan.geojson"), "plan", "ogr")  # QGIS's own time
        QgsProject.instance().addMapLayer(layer)
        qtbot.wait(500)
        ticks = Ticks()
        panel.regions.layer.setLayer(layer)
        qtbot.waitUntil(lambda: panel.problems() == [], timeout=100_000)
        qtbot.waitUntil(desk.run_button.isEnabled)
        assert "forest" in panel.regions.summary
        panel.draft()
        qtbot.wait(100)
        is_busy = os.getloadavg()[0] > os.cpu_count() + 1
        found.append(ticks.own if is_busy else ticks.wall)
        print(f"\naway for {ticks.wall:.0f} ms, {ticks.own:.0f} ms of it at work{', busy machine' if is_busy else ''}")
        QgsProject.instance().removeMapLayer(layer.id())
        if found[-1] <= GOAL_MS / 2:
            break
    assert min(found) <= GOAL_MS / 2
