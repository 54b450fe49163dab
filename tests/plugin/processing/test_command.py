"""A job copied as text asks for the same request when the text is run."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import Generate, Job, Regions, Sampling, Source, SuperResolve
from afterimage.plugin.jobs import Draft, create_folder
from afterimage.plugin.maps.grid import place
from afterimage.plugin.processing.command import command, command_of
from afterimage.plugin.processing.generate import GenerateAlgorithm
from qgis import core
from qgis.core import QgsCoordinateReferenceSystem, QgsProcessingContext, QgsProject, QgsRectangle

LAEA = "PROJ:+proj=laea +lat_0=52 +lon_0=13 +datum=WGS84"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("AFTERIMAGE_TEST_MODELS", "1")


def asked(text):
    """The arguments of ``processing.run`` in the text."""
    found = []

    class Processing:
        run = staticmethod(lambda *arguments: found.append(arguments))

    exec(text, {**vars(core), "processing": Processing})
    return found[0]


@pytest.mark.parametrize(
    ("bounds", "target"),
    [
        ((13, 52, 13.03, 52.02), None),
        ((13, 52, 13.03, 52.02), "EPSG:4326"),
        ((13, 52, 13.03, 52.02), "EPSG:3857"),
        ((13, 52, 13.03, 52.02), "EPSG:25832"),
        ((13, 52, 13.03, 52.02), LAEA),
        ((179.99, 52, 180.02, 52.02), "EPSG:4326"),
        ((11.99, 52, 12.02, 52.02), None),
    ],
)
def test_a_picture_is_asked_for_again(qgis_app, bounds, target):
    crs = QgsCoordinateReferenceSystem("EPSG:4326")
    where = place(QgsRectangle(*bounds), crs, 10, QgsCoordinateReferenceSystem(target) if target else None)
    request = Generate(
        "tiny-generate",
        where.grid,
        where.lattice,
        10.0,
        'it\'s a "forest"\\',
        Sampling(2**40 + 1, 5, "DDIM", 2.5, 3),
        "clouds",
        "2024-06-30",
        where.longitude,
        where.latitude,
        trajectory=4,
        cloud_cover=12.5,
        told_gsd=0.0,
    )
    name, parameters = asked(command_of(Job("j", request)))
    assert name == "afterimage:generate" and parameters["OUTPUT"] == "TEMPORARY_OUTPUT"
    algorithm = GenerateAlgorithm()
    algorithm.initAlgorithm()
    context = QgsProcessingContext()
    context.setProject(QgsProject())
    again = algorithm.create().draft(parameters, context).request
    assert again.grid == request.grid and again.lattice.crs == request.lattice.crs
    assert (again.sampling, again.prompt, again.negative_prompt) == (request.sampling, request.prompt, "clouds")
    assert (again.date, again.trajectory) == ("2024-06-30", 4)
    assert (again.cloud_cover, again.told_gsd) == (12.5, 0.0)


def test_a_finer_layer_is_asked_for_again(qgis_app, tmp_path):
    source = Source("inputs/source.tif", "a layer", (3, 1), "2024-06-30")
    request = SuperResolve("tiny-superresolve", source, 4, 10.0, Sampling(1, 2, "DDIM", samples=2), spread=True)
    _, folder = create_folder(str(tmp_path), Draft(request, "t"))
    assert "MEAN" not in asked(command(folder))[1]
    _, folder = create_folder(str(tmp_path), Draft(replace(request, mean=True), "t"))
    name, parameters = asked(command(folder))
    assert name == "afterimage:superresolve" and parameters["MEAN"] == "TEMPORARY_OUTPUT"
    assert parameters["INPUT"] == "a layer" and parameters["BANDS"] == [3, 1] and parameters["FACTOR"] == 4
    assert parameters["SPREAD"] == "TEMPORARY_OUTPUT" and parameters["SAMPLES"] == 2
    (tmp_path / folder / "inputs").mkdir()
    (tmp_path / folder / "inputs" / "source.tif").write_bytes(b"")
    assert asked(command(folder))[1]["INPUT"].endswith("source.tif")


def test_a_job_whose_regions_are_not_written_yet_says_what_the_command_leaves_out(qgis_app, tmp_path):
    where = place(QgsRectangle(300000, 5300000, 302000, 5301500), QgsCoordinateReferenceSystem("EPSG:32633"), 10)
    regions = Regions("inputs/regions.geojson", "Zoning", True)
    sampling = Sampling(1, 2, "DDIM")
    request = Generate("tiny-generate", where.grid, where.lattice, 10.0, "", sampling, regions=regions)
    _, folder = create_folder(str(tmp_path), Draft(request, "t"))
    text = command(folder)
    assert text.startswith("# ") and "REGIONS_FIELD" in text.splitlines()[0] and "not written" in text
    assert asked(text)[1]["REGIONS"] == "Zoning"
    (tmp_path / folder / "inputs").mkdir()
    (tmp_path / folder / "inputs" / "regions.geojson").write_text("{}")
    assert command(folder).startswith("processing.run(") and asked(command(folder))[1]["REGIONS_FIELD"] == "prompt"
