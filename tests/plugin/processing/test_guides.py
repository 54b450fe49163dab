"""The layers that guide ``afterimage:generate``: each an optional parameter, refused before work where it cannot be."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

import numpy as np
from afterimage.engine.contract import Job, ModelCard, dumps
from afterimage.plugin.jobs import Draft, create_folder, prepare_sources, read_job
from afterimage.plugin.processing.command import command
from afterimage.plugin.processing.generate import GenerateAlgorithm
from osgeo import gdal
from qgis import core
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProcessingParameterDefinition,
    QgsRectangle,
    QgsSettings,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

BOX = "500000,500400,4999700,5000000 [EPSG:32633]"
ASKED = dict(EXTENT=BOX, PROMPT="fields", RESOLUTION=2, MODEL="guided", STEPS=2, SEED=1)
KINDS = ("roads", "land_use", "lines", "edges", "sketch", "depth", "map", "content")


@pytest.fixture(autouse=True)
def models(monkeypatch, tmp_path):
    """A folder with a model that layers guide, one that needs a map, and one that takes none."""
    monkeypatch.setenv("AFTERIMAGE_ENGINE_PYTHON", "/usr/bin/true")
    monkeypatch.setenv("AFTERIMAGE_MODELS", str(tmp_path / "models"))
    facts = dict(
        summary="",
        family="f",
        version="1",
        tasks=("Generate",),
        bands=("red", "green", "blue"),
        gsd=(1.0, 4.0),
        window=32,
        stride=24,
        schedulers=("DDIM",),
        steps=2,
        uses=("prompt", "gsd", "cloud_cover", "control_strength"),
        palettes={"land_use": {"background": "#000000", "forest": "#00ff00", "water": "#0000ff"}},
    )
    for name, more in (
        ("guided", dict(controls=KINDS)),
        ("mapped", dict(controls=("map",), required=("map",), uses=("prompt",))),
        ("content", dict(controls=("roads", "content"), uses=("prompt", "content_strength"))),
        ("free", {}),
    ):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        card = ModelCard(id=name, name=name.title(), **{**facts, **more})
        (folder / "card.json").write_text(dumps(card))


@pytest.fixture
def generate(qgis_app):
    algorithm = GenerateAlgorithm()
    algorithm.initAlgorithm()
    return algorithm


@pytest.fixture
def land(context):
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633&field=fclass:string&field=code:int", "Land", "memory")
    for left, use in ((500000, "forest"), (500200, "quarry")):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, 4999700, left + 200, 5000000)))
        feature.setAttributes([use, 7])
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    context.project().addMapLayer(layer)
    return layer


def raster(path, bands, dtype):
    file = gdal.GetDriverByName("GTiff").Create(str(path), 60, 50, bands, dtype)
    file.SetGeoTransform((499900, 10, 0, 5000100, 0, -10))
    file.SetProjection(QgsCoordinateReferenceSystem("EPSG:32633").toWkt())
    for band in range(1, bands + 1):
        file.GetRasterBand(band).WriteArray(np.arange(3000).reshape(50, 60) % 250 + band)
    file.FlushCache()
    return str(path)


def draft(generate, context, **parameters):
    return generate.create().draft({**ASKED, **parameters}, context)


def refusal(generate, context, **parameters):
    asked = {**ASKED, "OUTPUT": "TEMPORARY_OUTPUT", **parameters}
    is_well, text = generate.create().checkParameterValues(asked, context)
    assert not is_well
    return text


def test_all_of_it_is_optional_and_advanced(generate, context):
    for kind in KINDS:
        flags = generate.parameterDefinition(kind.upper()).flags()
        assert flags & QgsProcessingParameterDefinition.Flag.FlagOptional
        assert flags & QgsProcessingParameterDefinition.Flag.FlagAdvanced
    found = draft(generate, context, MODEL="free")
    assert (found.request.controls, found.exports) == ((), ())
    assert (found.request.cloud_cover, found.request.told_gsd) == (None, None)


def test_what_the_model_is_told(generate, context):
    found = draft(generate, context, CLOUD_COVER="20", TOLD_GSD=0).request
    assert (found.cloud_cover, found.told_gsd) == (20, 0)
    assert refusal(generate, context, CLOUD_COVER=101).startswith("INVALID_REQUEST")
    assert refusal(generate, context, TOLD_GSD=-1).startswith("INVALID_REQUEST")


def test_layers_become_controls_of_the_job(generate, context, land, tmp_path):
    picture, heights = raster(tmp_path / "p.tif", 3, gdal.GDT_Byte), raster(tmp_path / "h.tif", 1, gdal.GDT_Float32)
    found = draft(
        generate,
        context,
        ROADS=land,
        LAND_USE="Land",
        LINES=picture,
        EDGES=picture,
        EDGES_FROM="ready",
        DEPTH=heights,
        MAP=picture,
        CONTROL_STRENGTH="0.5;MAP=1.5",
    )
    controls = {control.kind: control for control in found.request.controls}
    assert {kind: control.derive for kind, control in controls.items()} == {
        "roads": "",
        "land_use": "",
        "lines": "lines",
        "edges": "",
        "depth": "depth",
        "map": "",
    }
    assert controls["map"].strength == 1.5 and controls["roads"].strength == 0.5
    assert controls["land_use"].source.name == "Land"
    _, folder = create_folder(str(tmp_path / "jobs"), found)
    assert prepare_sources(folder, found.exports, lambda: False)
    use = gdal.Open(f"{folder}/{controls['land_use'].source.path}").ReadAsArray()
    assert {tuple(colour) for colour in use.reshape(3, -1).T} == {(0, 0, 0), (0, 255, 0)}


def test_a_file_of_shapes_is_taken_too(generate, context, land, tmp_path):
    path = str(tmp_path / "land.gpkg")
    options = QgsVectorFileWriter.SaveVectorOptions()
    QgsVectorFileWriter.writeAsVectorFormatV3(land, path, context.transformContext(), options)
    found = draft(generate, context, LAND_USE=path, LAND_USE_FIELD="fclass")
    assert [control.kind for control in found.request.controls] == ["land_use"]


def test_what_cannot_be_is_refused_with_a_next_step(generate, context, land, tmp_path):
    text = refusal(generate, context, MODEL="free", ROADS=land)
    assert text == (
        "INVALID_REQUEST: The model 'Free' is not guided by roads. "
        "Leave that layer out, or choose a model that takes layers."
    )
    assert "this model takes: map" in refusal(generate, context, MODEL="mapped", MAP=land, ROADS=land)
    assert "needs a layer for: map" in refusal(generate, context, MODEL="mapped")
    assert "has no field 'use'" in refusal(generate, context, LAND_USE=land, LAND_USE_FIELD="use")
    assert "No value of the field 'code'" in refusal(generate, context, LAND_USE=land, LAND_USE_FIELD="code")
    assert "no heights" in refusal(generate, context, DEPTH=land)
    assert refusal(generate, context, ROADS="nowhere.gpkg").startswith("SOURCE_UNREADABLE")
    away = refusal(generate, context, ROADS=land, EXTENT="600000,600400,4999700,5000000 [EPSG:32633]")
    assert away.startswith("SOURCE_EMPTY") and "does not lie in the extent" in away
    picture = raster(tmp_path / "p.tif", 3, gdal.GDT_Byte)
    assert "EDGES_FROM cannot be" in refusal(generate, context, EDGES=picture, EDGES_FROM="magic")
    for strength in ("strong", "3", "DEPTH=1"):
        assert "CONTROL_STRENGTH" in refusal(generate, context, ROADS=land, CONTROL_STRENGTH=strength)
    assert "knows no strength" in refusal(generate, context, MODEL="mapped", MAP=land, CONTROL_STRENGTH="0.5")


@pytest.fixture
def stretched(qgis_app):
    """QGIS shows every picture with a contrast of its own, as a person may have told it to."""
    name, settings = "Raster/defaultContrastEnhancementAlgorithm/multiBandSingleByte", QgsSettings()
    before = settings.value(name)
    settings.setValue(name, "StretchToMinimumMaximum")
    yield
    if before is None:
        settings.remove(name)
    else:
        settings.setValue(name, before)


def test_a_map_that_a_copied_command_names_is_taken_as_it_was_drawn(generate, context, tmp_path, stretched):
    found = draft(generate, context, MODEL="mapped", MAP=raster(tmp_path / "p.tif", 3, gdal.GDT_Byte))
    _, folder = create_folder(str(tmp_path / "jobs"), found)
    assert prepare_sources(folder, found.exports, lambda: False)
    drawn = f"{folder}/inputs/control_map.tif"
    again = draft(generate, context, MODEL="mapped", MAP=drawn)
    _, other = create_folder(str(tmp_path / "jobs"), again)
    assert prepare_sources(other, again.exports, lambda: False)
    before, after = (gdal.Open(path).ReadAsArray() for path in (drawn, f"{other}/inputs/control_map.tif"))
    np.testing.assert_array_equal(before, after)
    assert len(np.unique(before)) > 20


def test_a_job_copied_as_a_command_shows_the_model_the_same(generate, context, land, tmp_path):
    picture, heights = raster(tmp_path / "p.tif", 3, gdal.GDT_Byte), raster(tmp_path / "h.tif", 1, gdal.GDT_Float32)
    found = draft(generate, context, ROADS=land, EDGES=picture, DEPTH=heights, CONTROL_STRENGTH="ROADS=0.3")
    _, folder = create_folder(str(tmp_path / "jobs"), found)
    assert prepare_sources(folder, found.exports, lambda: False)
    land.dataProvider().truncate()  # the layer is another by now
    calls = []

    class Processing:
        run = staticmethod(lambda *arguments: calls.append(arguments))

    exec(command(folder), {**vars(core), "processing": Processing})
    again = generate.create().draft(calls[0][1], context)
    assert [(one.kind, one.derive, one.strength) for one in again.request.controls] == [
        ("roads", "", 0.3),
        ("edges", "edges", 1.0),
        ("depth", "depth", 1.0),
    ]
    _, other = create_folder(str(tmp_path / "jobs"), Draft(again.request, "again", again.exports))
    assert prepare_sources(other, again.exports, lambda: False)
    assert isinstance(read_job(other), Job)
    for control in found.request.controls:
        before, after = (gdal.Open(f"{place}/{control.source.path}") for place in (folder, other))
        assert before.GetGeoTransform() == after.GetGeoTransform()
        np.testing.assert_array_equal(before.ReadAsArray(), after.ReadAsArray())


def content_of(generate, context, folder, **parameters):
    """The content that a request is given: its control, its pixels and where they lie."""
    found = draft(generate, context, MODEL="content", **parameters)
    (control,) = found.request.controls
    _, job = create_folder(str(folder), found)
    assert prepare_sources(job, found.exports, lambda: False)
    file = gdal.Open(f"{job}/{control.source.path}")
    return control, file.ReadAsArray(), file.GetGeoTransform(), job


def test_content_is_the_middle_square_of_the_extent_where_the_layer_covers_it(generate, context, tmp_path):
    path = raster(tmp_path / "p.tif", 3, gdal.GDT_Byte)
    file = gdal.Open(path, gdal.GA_Update)
    east, south = np.full((50, 60), 40), np.full((50, 60), 40)
    east[:, 30:], south[25:] = 200, 200  # from x = 500200 and y = 4999850 on, the middle of the extent
    for band, pixels in ((1, east), (2, south)):
        file.GetRasterBand(band).WriteArray(pixels)
    file = None
    control, pixels, transform, _ = content_of(generate, context, tmp_path / "jobs", CONTENT=path)
    assert (control.kind, control.derive, control.strength) == ("content", "", 1.0)
    assert pixels.shape == (3, 150, 150)  # of 200 x 150 at 2 m
    assert transform == pytest.approx((500050, 2, 0, 5000000, 0, -2))
    assert (pixels[0, :, :70] == 40).all() and (pixels[0, :, 80:] == 200).all()
    assert (pixels[1, :70] == 40).all() and (pixels[1, 80:] == 200).all()


def test_content_of_a_layer_elsewhere_is_the_middle_square_of_the_layer(generate, context, tmp_path):
    picture = raster(tmp_path / "p.tif", 3, gdal.GDT_Byte)
    away = "600000,600400,4999700,5000000 [EPSG:32633]"
    _, pixels, transform, job = content_of(generate, context, tmp_path / "jobs", CONTENT=picture, EXTENT=away)
    own = gdal.Open(picture).ReadAsArray()
    assert transform == pytest.approx((499950, 10, 0, 5000100, 0, -10))
    np.testing.assert_array_equal(pixels, own[:, :, 5:55])
    copied = f"{job}/inputs/control_content.tif"
    _, again, _, _ = content_of(generate, context, tmp_path / "more", CONTENT=copied, EXTENT=away)
    np.testing.assert_array_equal(again, pixels)


def test_a_layer_in_degrees_is_not_squeezed(generate, context, tmp_path):
    path = str(tmp_path / "degrees.tif")
    file = gdal.GetDriverByName("GTiff").Create(path, 80, 80, 3, gdal.GDT_Byte)
    file.SetGeoTransform((20.0, 0.001, 0, 60.08, 0, -0.001))
    file.SetProjection(QgsCoordinateReferenceSystem("EPSG:4326").toWkt())
    for band in (1, 2, 3):
        file.GetRasterBand(band).Fill(90)
    file.FlushCache()
    file = None
    _, pixels, transform, _ = content_of(generate, context, tmp_path / "jobs", CONTENT=path)
    side = pixels.shape[1] * transform[1]
    assert pixels.shape[1] == pixels.shape[2] and side == pytest.approx(4460, rel=0.03)  # 0.08 degrees at 60 north
    assert (pixels == 90).mean() > 0.95


def test_content_that_cannot_be_is_refused(generate, context, land, tmp_path):
    picture = raster(tmp_path / "p.tif", 3, gdal.GDT_Byte)
    assert "is no picture" in refusal(generate, context, MODEL="content", CONTENT=land)
    assert "is not guided by content" in refusal(generate, context, MODEL="mapped", MAP=land, CONTENT=picture)
    text = refusal(generate, context, MODEL="content", CONTENT=picture, ROADS=land, CONTROL_STRENGTH="ROADS=0.5")
    assert "knows no strength" in text
    found = draft(generate, context, MODEL="content", CONTENT=picture, CONTROL_STRENGTH="CONTENT=0.5")
    assert found.request.controls[0].strength == 0.5
