"""Results say what they are: name, legend, metadata, date; previews come, change and never reach the project file."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import (
    Edit,
    ErrorCode,
    Job,
    Mask,
    Output,
    Provenance,
    Result,
    Role,
    Sampling,
    Source,
    dumps,
    loads,
)
from afterimage.plugin.maps.layers import GROUP, add_result, remove_preview, show_preview
from afterimage.plugin.maps.record import PROVENANCE
from afterimage.plugin.maps.sources import describe
from afterimage.plugin.maps.style import colour_bands
from afterimage.plugin.maps.temporal import layer_date, set_layer_date
from afterimage.plugin.report import Problem
from qgis.core import QgsContrastEnhancement, QgsDateTimeRange, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime


@pytest.fixture
def project(qgis_app):
    project = QgsProject()
    yield project
    project.clear()


@pytest.fixture
def result(raster, ramp):
    """Makes a result: one raster for each (role, bands, dtype)."""

    def make(*kinds, date="2024-06-30"):
        outputs, number = [], 0
        for role, count, dtype in kinds:
            number += role is Role.SAMPLE
            path = raster(ramp(count, dtype=dtype), name=f"{role.value}{number}.tif")
            grid = describe(QgsRasterLayer(path, "x", "gdal")).grid
            os.remove(f"{path}.aux.xml") if os.path.exists(f"{path}.aux.xml") else None
            names = ("red", "green", "blue")[:count] if count <= 3 else tuple(f"B{n + 1}" for n in range(count))
            outputs.append(Output(path, role, number if role is Role.SAMPLE else 0, grid, names, dtype, date))
        provenance = Provenance(
            task="SuperResolve",
            model="some-model",
            weights={"unet.safetensors": "00ff"},
            licence="CC-BY-4.0",
            attribution="Somebody\nSomebody else",
            job="{}",
            prompt="a forest",
            negative_prompt="",
            date=date,
            seed=5,
            scheduler="DDIM",
            steps=20,
            guidance_scale=1.0,
            inputs=(),
            grid=outputs[0].grid,
            engine_version="0.1",
            created="2026-01-01T00:00:00Z",
        )
        return Result(tuple(outputs), provenance)

    return make


SAMPLE, MEAN, SPREAD = Role.SAMPLE, Role.MEAN, Role.SPREAD


def test_layers_stand_in_their_own_group_and_say_that_they_are_ai_generated(result, project):
    made = result((SAMPLE, 3, "uint8"), (SAMPLE, 3, "uint8"), (MEAN, 3, "uint8"), (SPREAD, 1, "float32"))
    layers = add_result(made, "A job", project)
    assert [layer.name() for layer in layers] == [
        "AI-generated: A job 1",
        "AI-generated: A job 2",
        "AI-generated: A job, mean",
        "AI-generated: A job, spread",
    ]
    group = project.layerTreeRoot().findGroup(GROUP).findGroup("A job")
    assert [node.layer() for node in group.findLayers()] == layers
    assert [node.itemVisibilityChecked() for node in group.findLayers()] == [True, False, False, False]
    for node in group.findLayers():
        assert "AI-generated" in node.customProperty("legend/title-label")
        assert "AI-generated" in node.customProperty("legend/label-0")
        assert not node.layer().isTemporary() or node.layer().source().startswith("/tmp")


def test_the_mean_looks_like_a_sample_and_says_what_it_is(result, project):
    sample, mean = add_result(result((SAMPLE, 3, "uint8"), (MEAN, 3, "uint8")), "A job", project)
    assert mean.renderer().type() == sample.renderer().type() == "multibandcolor"
    assert sample.name() == "AI-generated: A job" and mean.name() == "AI-generated: A job, mean"
    said = mean.metadata().abstract()
    assert "the mean of all" in said and "smoother than the ground" in said and "AI-generated" in said
    history = "\n".join(mean.metadata().history())
    assert "eight orientations" in history and "seed 5" not in history.splitlines()[0]
    assert loads(Provenance, mean.customProperty(PROVENANCE)).seed == 5


@pytest.mark.parametrize(
    ("mask", "where"),
    [
        (Mask("inputs/mask.geojson", "Parcels"), "Changed inside: Parcels."),
        (Mask("inputs/mask.geojson"), "Changed inside: a drawn polygon."),
        (None, "AI-generated: a sample"),
    ],
)
def test_an_edited_layer_says_where_and_how_far_it_was_changed(result, project, mask, where):
    made = result((SAMPLE, 3, "uint8"))
    request = Edit("m", Source("inputs/source.tif", "Photo"), 10.0, "a forest", Sampling(5, 20, "DDIM"), mask, 0.6)
    made = replace(made, provenance=replace(made.provenance, task="Edit", job=dumps(Job("j", request))))
    (layer,) = add_result(made, "A job", project)
    text = layer.metadata().abstract()
    assert where in text and "Strength: 60 %" in text and "Made from: Photo" in text
    assert ("inside polygons" in text) is (mask is not None) and "AI-generated" in text


@pytest.mark.parametrize("mask", [Mask("inputs/mask.geojson", "Parcels"), None])
def test_a_layer_that_was_drawn_on_says_how_far_and_what_of_it_is_not_generated(result, project, mask):
    made = result((SAMPLE, 3, "uint8"))
    source, sampling = Source("inputs/source.tif", "Photo"), Sampling(5, 20, "DDIM")
    request = Edit("m", source, 10.0, "a forest", sampling, mask, margin=48)
    made = replace(made, provenance=replace(made.provenance, task="Edit", job=dumps(Job("j", request))))
    (layer,) = add_result(made, "A job", project)
    text = layer.metadata().abstract()
    assert "Drawn beyond the source: 48 pixels on each side" in text
    assert ("inside polygons and beyond the edge" if mask else "AI-generated beyond the edge of its source") in text


def test_the_record_is_in_the_metadata(result, project):
    (layer,) = add_result(result((SAMPLE, 3, "uint8")), "A job", project)
    metadata = layer.metadata()
    assert "AI-generated" in metadata.abstract() and "a forest" in metadata.abstract()
    assert "AI-generated" in metadata.keywords()["Afterimage"] and "some-model" in metadata.keywords()["Afterimage"]
    assert metadata.licenses() == ["CC-BY-4.0"] and metadata.rights() == ["Somebody", "Somebody else"]
    history = "\n".join(metadata.history())
    assert "seed 5" in history and "DDIM" in history and "00ff" in history
    assert loads(Provenance, layer.customProperty(PROVENANCE)).seed == 5


def test_a_project_that_is_saved_and_opened_again_still_says_so(result, project, tmp_path):
    add_result(result((SAMPLE, 3, "uint8")), "A job", project)
    assert project.write(str(tmp_path / "p.qgz"))
    again = QgsProject()
    assert again.read(str(tmp_path / "p.qgz"))
    (layer,) = again.mapLayers().values()
    assert "AI-generated" in layer.name() and "AI-generated" in layer.metadata().abstract()
    assert layer_date(layer) == "2024-06-30"
    node = again.layerTreeRoot().findLayer(layer.id())
    assert "AI-generated" in node.customProperty("legend/title-label")
    again.clear()


def test_a_dated_layer_is_there_on_its_day_only(result, project):
    (layer,) = add_result(result((SAMPLE, 3, "uint8")), "A job", project)

    def shown(year, month, day):
        begin = QDateTime(QDate(year, month, day), QTime(6, 0), Qt.TimeSpec.UTC)
        return layer.temporalProperties().isVisibleInTemporalRange(QgsDateTimeRange(begin, begin.addSecs(3600)))

    assert shown(2024, 6, 30) and not shown(2024, 6, 29) and not shown(2024, 7, 1)


def test_an_undated_result_is_always_there(result, project):
    (layer,) = add_result(result((SAMPLE, 3, "uint8"), date=None), "A job", project)
    assert not layer.temporalProperties().isActive() and layer_date(layer) is None


def test_bytes_are_shown_as_they_are_and_other_types_are_stretched(result, project):
    plain = add_result(result((SAMPLE, 3, "uint8")), "A", project)[0].renderer()
    assert plain.usesBands() == [1, 2, 3]
    none = QgsContrastEnhancement.ContrastEnhancementAlgorithm.NoEnhancement
    enhancement = plain.redContrastEnhancement()
    assert enhancement is None or enhancement.contrastEnhancementAlgorithm() == none
    many = add_result(result((SAMPLE, 13, "uint16")), "B", project)[0].renderer()
    assert many.usesBands() == [4, 3, 2]
    assert many.redContrastEnhancement().maximumValue() > many.redContrastEnhancement().minimumValue() > 0
    grey = add_result(result((SAMPLE, 1, "float32")), "C", project)[0].renderer()
    assert grey.type() == "singlebandgray" and grey.contrastEnhancement() is not None
    spread = add_result(result((SAMPLE, 1, "uint8"), (SPREAD, 1, "float32")), "D", project)[1].renderer()
    assert spread.type() == "singlebandpseudocolor" and len(spread.legendSymbologyItems()) >= 2


def test_red_green_and_blue_are_found_by_name():
    assert colour_bands(("red", "green", "blue"), (1, 2, 3)) == (1, 2, 3)
    assert colour_bands(("blue", "green", "red", "nir"), (1, 2, 3, 4)) == (3, 2, 1)
    assert colour_bands(("Band 01: B1", "Band 02: B2", "Band 03: B3", "Band 04: B4"), (1, 2, 3, 4)) == (4, 3, 2)
    assert colour_bands((), (1, 2, 3, 4)) == (1, 2, 3)
    assert colour_bands(("a", "b"), (1, 2)) == (1,)


def test_adding_layers_is_quick_and_leaves_no_file_beside_them(result, project, tmp_path):
    found = result((SAMPLE, 3, "uint8"), (SAMPLE, 13, "uint16"), (SPREAD, 1, "float32"))
    add_result(found, "warm", project)  # the first one loads QGIS's own databases
    began = time.thread_time()  # not the wall's clock: other programs may hold the processor
    add_result(found, "A job", project)
    assert time.thread_time() - began < 0.3
    project.clear()
    assert not list(tmp_path.glob("*.aux.xml"))


def test_a_result_that_is_gone_is_a_problem(result, project):
    found = result((SAMPLE, 3, "uint8"))
    os.remove(found.outputs[0].path)
    with pytest.raises(Problem) as caught:
        add_result(found, "A job", project)
    assert caught.value.failure.code is ErrorCode.OUTPUT_DAMAGED
    assert not project.mapLayers()


def test_a_preview_is_replaced_in_place_and_taken_away(raster, project):
    first = raster(np.full((3, 8, 8), 9, "uint8"), name="1.tif")
    second = raster(np.full((3, 8, 8), 99, "uint8"), name="2.tif")
    show_preview("job", first, project)
    (layer,) = project.mapLayers().values()
    assert "AI-generated" in layer.name()
    show_preview("job", second, project)
    show_preview("other", first, project)
    assert layer.source() == second and len(project.mapLayers()) == 2
    assert layer.dataProvider().sample(layer.extent().center(), 1) == (99, True)
    show_preview("job", first + ".gone", project)
    assert layer.isValid() and layer.source() == second
    remove_preview("job", project)
    remove_preview("never", project)
    assert [found.source() for found in project.mapLayers().values()] == [first]


@pytest.mark.parametrize("name", ["p.qgs", "p.qgz"])
def test_a_preview_is_not_saved_and_stays_on_the_map(raster, result, project, tmp_path, name):
    add_result(result((SAMPLE, 3, "uint8")), "A job", project)
    show_preview("job", raster(np.full((3, 8, 8), 9, "uint8"), name="1.tif"), project)
    assert len(project.mapLayers()) == 2
    assert project.write(str(tmp_path / name))
    assert len(project.mapLayers()) == 2
    again = QgsProject()
    assert again.read(str(tmp_path / name))
    assert [layer.name() for layer in again.mapLayers().values()] == ["AI-generated: A job"]
    assert [node.name() for node in again.layerTreeRoot().findLayers()] == ["AI-generated: A job"]
    again.clear()


def test_a_day_that_is_none_leaves_a_layer_as_it_was(raster, ramp, qgis_app):
    layer = QgsRasterLayer(raster(ramp()), "x", "gdal")
    with pytest.raises(ValueError, match="day"):
        set_layer_date(layer, "2024-02-31")
    assert not layer.temporalProperties().isActive()


def test_a_way_from_noise_is_a_closed_group_that_the_temporal_controller_plays(result, project):
    made = result(*[(SAMPLE, 3, "uint8")] * 2, date=None)
    days = ("2024-02-28", "2024-02-29", "2024-03-01")
    way = [
        replace(sample, role=Role.TRAJECTORY, frame=number, date=day)
        for sample in made.outputs
        for number, day in enumerate(days, 1)
    ]
    layers = add_result(replace(made, outputs=(*made.outputs, *way)), "A job", project)
    group = project.layerTreeRoot().findGroup(GROUP).findGroup("A job")
    assert [node.name() for node in group.children()] == [
        "A job 1, from noise",
        "A job 2, from noise",
        "AI-generated: A job 1",
        "AI-generated: A job 2",
    ]
    first, second = group.children()[:2]
    assert not first.isExpanded() and first.isVisible() and not second.isVisible()
    # the last picture is uppermost: it is the result, so that without the controller the map shows that
    shown = [node.layer() for node in first.findLayers()]
    assert shown == layers[2:5][::-1] and all(node.itemVisibilityChecked() for node in first.findLayers())
    ranges = []
    for layer, day in zip(layers[2:5], days):
        properties = layer.temporalProperties()
        assert properties.isActive() and layer_date(layer) == day
        ranges.append(properties.fixedTemporalRange())
        assert layer.name().startswith("AI-generated") and "way from noise" in layer.abstract()
        assert layer.customProperty(PROVENANCE)
    for earlier, later in zip(ranges, ranges[1:]):
        assert earlier.end() == later.begin() and not earlier.includeEnd() and later.includeBeginning()
    # what the controller does: it asks each layer whether it is there at the time of the map
    for day, expected in zip(days, layers[2:5]):
        noon = QDateTime(QDate.fromString(day, Qt.DateFormat.ISODate), QTime(12, 0), Qt.TimeSpec.UTC)
        moment = QgsDateTimeRange(noon, noon)
        playing = [each for each in layers[2:5] if each.temporalProperties().isVisibleInTemporalRange(moment)]
        assert playing == [expected]


def test_previews_go_on_when_python_let_go_of_the_project(raster):
    first, second = (raster(np.full((3, 8, 8), 9, "uint8"), name=name) for name in ("1.tif", "2.tif"))
    show_preview("job", first, QgsProject.instance())
    gc.collect()
    show_preview("job", second, QgsProject.instance())
    remove_preview("job", QgsProject.instance())
