import re
from dataclasses import replace

import pytest
from afterimage.engine.contract import Edit, Generate, GeoBox, Job, Mask, Sampling, Source, SuperResolve
from afterimage.plugin import cards
from afterimage.plugin.maps.grid import place
from afterimage.plugin.maps.mask import MaskExport
from afterimage.plugin.maps.plan import layer_plan
from afterimage.plugin.maps.polygons import drawn_polygon
from afterimage.plugin.maps.regions import prepare_regions
from afterimage.plugin.processing.command import command_of
from afterimage.plugin.processing.edit import EditAlgorithm
from afterimage.plugin.processing.generate import GenerateAlgorithm
from afterimage.plugin.processing.super_resolve import SuperResolveAlgorithm
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProject,
    QgsRectangle,
    QgsReferencedRectangle,
    QgsVectorLayer,
)

from .panels.conftest import painter, sharpener, write_raster

SAMPLING = Sampling(seed=2**40, steps=7, scheduler="DDPM", guidance_scale=2.5, samples=3)
GRID = GeoBox("EPSG:32633", (10.0, 0.0, 300000.0, 0.0, -10.0, 5300000.0), (40, 40))


@pytest.fixture(autouse=True)
def models(monkeypatch, qgis_app):
    editor = painter(tasks=("Edit",), uses=("prompt", "gsd", "strength", "margin", "cloud_cover", "image_guidance"))
    known = {"painter": painter(), "sharpener": sharpener(gives_mean=True), "editor": editor}
    monkeypatch.setattr(cards, "cards", lambda task: tuple(card for card in known.values() if task in card.tasks))
    monkeypatch.setattr(cards, "card", lambda id, task: known[id])


@pytest.fixture(autouse=True)
def empty_project(qgis_new_project):
    """The source is found in the job folder, not by its name."""


def asked_again(job, folder, algorithm):
    """The draft that the command makes, run through the real algorithm."""
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
    return made.draft(parameters, context)


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
    again = asked_again(Job("j", request), tmp_path, GenerateAlgorithm).request
    assert (again.grid, again.lattice, again.gsd) == (request.grid, request.lattice, request.gsd)
    assert (again.prompt, again.negative_prompt, again.date) == (request.prompt, "clouds", "2027-03-01")
    assert again.sampling == request.sampling


def test_a_crs_without_a_code_is_asked_again(tmp_path):
    crs = QgsCoordinateReferenceSystem()
    crs.createFromProj("+proj=laea +lat_0=40 +lon_0=-100 +datum=WGS84 +units=m")
    where = place(QgsRectangle(0, 0, 2000, 2000), crs, 10.0, crs)
    assert "[" in where.grid.crs
    request = Generate("painter", where.grid, where.lattice, where.gsd, "forest", SAMPLING)
    again = asked_again(Job("j", request), tmp_path, GenerateAlgorithm).request
    assert again.grid.transform == pytest.approx(request.grid.transform) and again.grid.shape == request.grid.shape


@pytest.mark.parametrize("bands", [(), (3, 1)])
def test_a_sharpened_raster_is_asked_again_from_the_job_s_own_copy(tmp_path, bands):
    (tmp_path / "inputs").mkdir()
    write_raster(tmp_path / "inputs" / "source.tif")
    source = Source("inputs/source.tif", "my layer", bands, "2024-06-30", cloud_cover=12.5)
    request = SuperResolve("sharpener", source, 4, 10.0, Sampling(5, 7, "DDIM", 1.0, 2), spread=True, mean=True)
    again = asked_again(Job("j", request), tmp_path, SuperResolveAlgorithm).request
    assert (again.factor, again.mean, again.spread, again.sampling) == (4, True, True, request.sampling)
    assert (again.source.bands, again.source.date, again.source.cloud_cover) == (bands, "2024-06-30", 12.5)


@pytest.mark.parametrize("bands", [(), (3, 1, 2)])
def test_an_edited_raster_is_asked_again_with_the_job_s_own_polygons(tmp_path, bands):
    (tmp_path / "inputs").mkdir()
    write_raster(tmp_path / "inputs" / "source.tif")
    field = QgsGeometry.fromRect(QgsRectangle(300050, 5299700, 300150, 5299900))
    drawn = drawn_polygon(field, QgsCoordinateReferenceSystem("EPSG:32633"))
    MaskExport(drawn, GRID).write(str(tmp_path), lambda: False)
    source, mask = Source("inputs/source.tif", "my layer", bands), Mask("inputs/mask.geojson")
    request = Edit("editor", source, 10.0, "a forest", SAMPLING, mask, 0.65, "clouds", "2030-01-01")
    draft = asked_again(Job("j", request), tmp_path, EditAlgorithm)
    again = draft.request
    assert (again.prompt, again.negative_prompt, again.date) == ("a forest", "clouds", "2030-01-01")
    assert (again.strength, again.sampling, again.source.bands) == (0.65, SAMPLING, bands)
    draft.exports[1].write(str(tmp_path / "again"), lambda: False)
    assert (tmp_path / "again/inputs/mask.geojson").read_bytes() == (tmp_path / "inputs/mask.geojson").read_bytes()


def test_a_raster_changed_as_a_whole_is_asked_again_without_polygons(tmp_path):
    (tmp_path / "inputs").mkdir()
    write_raster(tmp_path / "inputs" / "source.tif")
    request = Edit("editor", Source("inputs/source.tif", "my layer"), 10.0, "river", SAMPLING, strength=0.3)
    again = asked_again(Job("j", request), tmp_path, EditAlgorithm).request
    assert again.mask is None and again.strength == 0.3


def test_a_raster_drawn_on_is_asked_again_with_its_margin_and_what_the_model_was_told(tmp_path):
    (tmp_path / "inputs").mkdir()
    write_raster(tmp_path / "inputs" / "source.tif")
    source, more = Source("inputs/source.tif", "my layer"), {"margin": 48, "cloud_cover": 12.5, "told_gsd": 0.0}
    for guided in (1.5, 3.25):
        request = Edit("editor", source, 10.0, "river", SAMPLING, image_guidance_scale=guided, **more)
        again = asked_again(Job("j", request), tmp_path, EditAlgorithm).request
        assert (again.margin, again.cloud_cover, again.told_gsd, again.image_guidance_scale) == (48, 12.5, 0.0, guided)


@pytest.mark.parametrize("only", [False, True])
def test_regions_are_asked_again_from_the_job_s_own_copy(tmp_path, only):
    where = place(QgsRectangle(300000, 5300000, 302000, 5301500), QgsCoordinateReferenceSystem("EPSG:32633"), 10.0)
    layer = QgsVectorLayer("Polygon?crs=EPSG:4326&field=use:string", "Zoning", "memory")
    for left, text in ((12.31, "forest"), (12.32, "W\u00e4lder"), (12.315, "river")):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, 47.82, left + 0.01, 47.825)))
        feature.setAttributes([text])
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    export = prepare_regions(layer_plan(layer, "use", only=only), painter(), where.lattice)
    export.write(str(tmp_path), lambda: False)
    text = "" if only else "annual crop"
    request = Generate("painter", where.grid, where.lattice, 10.0, text, SAMPLING, regions=export.regions)
    draft = asked_again(Job("j", request), tmp_path, GenerateAlgorithm)
    assert (draft.request.prompt, draft.request.regions) == (text, replace(export.regions, name="regions"))
    draft.exports[0].write(str(tmp_path / "again"), lambda: False)
    path = export.regions.path
    assert (tmp_path / "again" / path).read_bytes() == (tmp_path / path).read_bytes()


def test_what_was_not_asked_is_left_out(tmp_path):
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (64, 64))
    text = command_of(Job("j", Generate("painter", grid, grid, 10.0, "", SAMPLING)), str(tmp_path))
    assert "DATE" not in text and "NEGATIVE_PROMPT" not in text
    assert text.startswith("processing.run('afterimage:generate', {\n")
