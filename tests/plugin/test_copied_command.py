import re

import pytest
from afterimage.engine.contract import Generate, GeoBox, Job, Sampling, Source, SuperResolve
from afterimage.plugin import cards
from afterimage.plugin.maps.grid import place
from afterimage.plugin.processing.command import command_of
from afterimage.plugin.processing.generate import GenerateAlgorithm
from afterimage.plugin.processing.super_resolve import SuperResolveAlgorithm
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingContext,
    QgsProject,
    QgsRectangle,
    QgsReferencedRectangle,
)

from .panels.conftest import painter, sharpener, write_raster

SAMPLING = Sampling(seed=2**40, steps=7, scheduler="DDPM", guidance_scale=2.5, samples=3)


@pytest.fixture(autouse=True)
def models(monkeypatch, qgis_app):
    both = {"painter": painter(), "sharpener": sharpener()}
    monkeypatch.setattr(cards, "cards", lambda task: tuple(card for card in both.values() if task in card.tasks))
    monkeypatch.setattr(cards, "card", lambda id, task: both[id])


@pytest.fixture(autouse=True)
def empty_project(qgis_new_project):
    """The source is found in the job folder, not by its name."""


def asked_again(job, folder, algorithm):
    """The request that the command makes, run through the real algorithm."""
    text = command_of(job, str(folder))
    name, values = re.fullmatch(r"processing\.run\(.afterimage:(\w+)., (\{.*\})\)", text, re.DOTALL).groups()
    names = {
        "QgsReferencedRectangle": QgsReferencedRectangle,
        "QgsRectangle": QgsRectangle,
        "QgsCoordinateReferenceSystem": QgsCoordinateReferenceSystem,
    }
    parameters = eval(values, names)
    made = algorithm()
    made.initAlgorithm()
    assert made.name() == name
    assert set(parameters) <= {definition.name() for definition in made.parameterDefinitions()}
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    return made.draft(parameters, context).request


@pytest.mark.parametrize(
    "extent", [QgsRectangle(11.0, 48.0, 11.03, 48.02), QgsRectangle(179.99, -17.0, 180.02, -16.98)]
)
def test_a_picture_is_asked_again_on_the_same_pixels(extent, tmp_path):
    where = place(extent, QgsCoordinateReferenceSystem("EPSG:4326"), 10.0)
    request = Generate(
        "painter",
        where.grid,
        where.lattice,
        where.gsd,
        'a "quoted" river\\',
        SAMPLING,
        "clouds",
        "2027-03-01",
        where.longitude,
        where.latitude,
    )
    again = asked_again(Job("j", request), tmp_path, GenerateAlgorithm)
    assert (again.grid, again.lattice, again.gsd) == (request.grid, request.lattice, request.gsd)
    assert (again.prompt, again.negative_prompt, again.date) == (request.prompt, "clouds", "2027-03-01")
    assert again.sampling == request.sampling


def test_a_crs_without_a_code_is_asked_again(tmp_path):
    crs = QgsCoordinateReferenceSystem()
    crs.createFromProj("+proj=laea +lat_0=40 +lon_0=-100 +datum=WGS84 +units=m")
    where = place(QgsRectangle(0, 0, 2000, 2000), crs, 10.0, crs)
    assert "[" in where.grid.crs
    request = Generate("painter", where.grid, where.lattice, where.gsd, "forest", SAMPLING)
    again = asked_again(Job("j", request), tmp_path, GenerateAlgorithm)
    assert again.grid.transform == pytest.approx(request.grid.transform) and again.grid.shape == request.grid.shape


@pytest.mark.parametrize("bands", [(), (3, 1)])
def test_a_sharpened_raster_is_asked_again_from_the_job_s_own_copy(tmp_path, bands):
    (tmp_path / "inputs").mkdir()
    write_raster(tmp_path / "inputs" / "source.tif")
    source = Source("inputs/source.tif", "my layer", bands, "2024-06-30")
    request = SuperResolve("sharpener", source, 4, 10.0, Sampling(5, 7, "DDIM", 1.0, 2), spread=True)
    again = asked_again(Job("j", request), tmp_path, SuperResolveAlgorithm)
    assert (again.factor, again.spread, again.sampling) == (4, True, request.sampling)
    assert (again.source.bands, again.source.date) == (bands, "2024-06-30")


def test_what_was_not_asked_is_left_out(tmp_path):
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (64, 64))
    text = command_of(Job("j", Generate("painter", grid, grid, 10.0, "", SAMPLING)), str(tmp_path))
    assert "DATE" not in text and "NEGATIVE_PROMPT" not in text
    assert text.startswith("processing.run('afterimage:generate', {\n")
