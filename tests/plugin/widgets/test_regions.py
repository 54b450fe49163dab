"""Polygons of a layer are read on another thread: some layers take seconds, and QGIS must not stand still."""

import json
import threading
import time

import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin.maps import plan, survey
from afterimage.plugin.maps.grid import place
from afterimage.plugin.report import Problem
from afterimage.plugin.widgets import surveyor
from afterimage.plugin.widgets.regions import RegionsInput
from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRectangle, QgsVectorLayer
from qgis.PyQt import sip

from ..panels.conftest import painter

#: Polygons along a side of a layer, a third of which have no text.
SIDE = 30
TEXTS = ("forest", "river", None)


@pytest.fixture
def where(qgis_app):
    return place(QgsRectangle(12.0, 47.6, 12.03, 47.63), QgsCoordinateReferenceSystem("EPSG:4326"), 10.0)


@pytest.fixture
def zoning(tmp_path, qgis_new_project):
    """Makes a layer of a file without an index of places: all of it is read to find anything."""

    def make(name="Zoning", texts=TEXTS):
        features = []
        for number in range(SIDE * SIDE):
            x, y, size = 12 + number % SIDE / 1000, 47.6 + number // SIDE / 1000, 0.0009
            ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
            ground = {"type": "Polygon", "coordinates": [ring]}
            properties = {"prompt": texts[number % len(texts)]}
            features.append({"type": "Feature", "properties": properties, "geometry": ground})
        path = tmp_path / f"{name}.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        layer = QgsVectorLayer(str(path), name, "ogr")
        QgsProject.instance().addMapLayer(layer)
        return layer

    return make


@pytest.fixture
def regions(qtbot, zoning, monkeypatch):
    """An input that looks at all of a layer, however busy the machine."""
    for limit in ("_WORK", "_SCAN", "_WAIT"):
        monkeypatch.setattr(survey, limit, 1000.0)
    made = RegionsInput()
    qtbot.addWidget(made)
    made.set_card(painter())
    return made


class Gate:
    """Lets polygons through once it is open, and notes which threads ask for any."""

    def __init__(self, monkeypatch):
        self.opened = threading.Event()
        self.threads = set()
        self._layer_polygons = plan.layer_polygons
        monkeypatch.setattr(surveyor, "PATIENCE", 0.01)
        monkeypatch.setattr(plan, "layer_polygons", self._guarded)

    def _guarded(self, layer, *asked, **more):
        found = self._layer_polygons(layer, *asked, **more)
        features = found.features

        def let_through(request):
            self.threads.add(threading.get_ident())
            assert self.opened.wait(30)
            yield from features(request)

        object.__setattr__(found, "features", let_through)
        return found


@pytest.fixture
def gate(monkeypatch):
    made = Gate(monkeypatch)
    yield made
    made.opened.set()


def test_a_layer_is_read_on_another_thread_and_run_waits_for_it(regions, zoning, where, gate, qtbot, monkeypatch):
    layer = zoning()

    def asked(*_):
        raise AssertionError("this may read all of a file on the main thread")

    for reads_all in ("extent", "getFeatures", "featureCount", "boundingBoxOfSelected"):
        monkeypatch.setattr(layer, reads_all, asked, raising=True)
    regions.layer.setLayer(layer)
    (problem,) = regions.problems(where)
    regions.show_summary(where)
    assert problem.code is ErrorCode.MASK_UNREADABLE and "being read" in problem.message and problem.hint
    assert regions.summary == "Reading polygons \u2026" and regions.is_part(where) and regions.crowd(where) is None
    with pytest.raises(Problem):
        regions.export(where)
    with qtbot.waitSignal(regions.changed, timeout=30_000):
        gate.opened.set()
    assert regions.problems(where) == [] and not regions.is_part(where)
    assert regions.crowd(where).most > 1 and regions.export(where) is not None
    regions.show_summary(where)
    assert (
        regions.summary.startswith("600 polygons lie in the extent") and "300 polygons have no text" in regions.summary
    )
    assert gate.threads and threading.get_ident() not in gate.threads


def test_what_is_asked_last_is_answered(regions, zoning, where, gate, qtbot):
    first, second = zoning(), zoning("Plan", ("meadow",))
    answers = []
    regions.changed.connect(lambda: answers.append(regions.show_summary(where) or regions.summary))
    regions.layer.setLayer(first)
    regions.layer.setLayer(second)
    regions.text.setExpression("'wet ' || \"prompt\"")
    assert set(answers) == {"Reading polygons \u2026"}
    with qtbot.waitSignal(regions.changed, timeout=30_000):
        gate.opened.set()
    assert (
        "900 polygons" in answers[-1] and "\u201cwet meadow\u201d" in answers[-1] and "forest" not in "".join(answers)
    )


def test_what_is_read_in_a_moment_is_known_at_once(regions, zoning, where, monkeypatch):
    monkeypatch.setattr(surveyor, "PATIENCE", 30.0)
    looked, look = [], surveyor.survey
    monkeypatch.setattr(surveyor, "survey", lambda *asked: looked.append(asked) or look(*asked))
    regions.layer.setLayer(zoning())
    assert regions.problems(where) == []
    alone = regions.crowd(where)
    regions.only.setChecked(True)
    assert regions.crowd(where).mean < alone.mean and len(looked) == 1


def test_a_layer_that_cannot_be_read_is_a_problem_and_another_can_be_chosen(regions, zoning, where, monkeypatch, qtbot):
    monkeypatch.setattr(surveyor, "PATIENCE", 30.0)

    def fail(*_):
        raise RuntimeError("the server went away")

    monkeypatch.setattr(surveyor, "survey", fail)
    regions.layer.setLayer(zoning())
    (problem,) = regions.problems(where)
    assert problem.code is ErrorCode.MASK_UNREADABLE and "Zoning" in problem.message
    assert "the server went away" in problem.detail
    monkeypatch.undo()
    monkeypatch.setattr(surveyor, "PATIENCE", 30.0)
    regions.layer.setLayer(zoning("Plan"))
    assert regions.problems(where) == []


def test_a_form_that_goes_leaves_no_thread_at_work(zoning, where, monkeypatch):
    monkeypatch.setattr(surveyor, "PATIENCE", 0.01)
    asked = threading.Event()

    def endless(plan, lattice, card, cancelled):
        asked.set()
        while not cancelled():
            time.sleep(0.001)
        raise Problem(ErrorCode.MASK_EMPTY, "nobody waits for this")

    monkeypatch.setattr(surveyor, "survey", endless)
    regions = RegionsInput()
    regions.set_card(painter())
    regions.layer.setLayer(zoning())
    regions.show_summary(where)
    assert asked.wait(30)
    work = regions._surveyor._work
    assert not work.over.is_set()
    sip.delete(regions)
    assert work.over.is_set() and work._plan is None
