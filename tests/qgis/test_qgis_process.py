"""The algorithms as people run them: ``qgis_process`` without a screen, the toolbox's thread, a model, a batch."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

import numpy as np
from afterimage.plugin.maps.record import PROVENANCE
from afterimage.plugin.maps.temporal import layer_date
from afterimage.plugin.processing.provider import AfterimageProvider
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsGeometry,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterExtent,
    QgsProject,
    QgsProperty,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QTimer

EXTENT = "13.000,13.010,52.000,52.006 [EPSG:4326]"


@pytest.fixture
def picture(tmp_path):
    path = str(tmp_path / "picture.tif")
    file = gdal.GetDriverByName("GTiff").Create(path, 37, 29, 4, gdal.GDT_UInt16)
    file.SetGeoTransform((500000, 10, 0, 5000000, 0, -10))
    file.SetProjection(QgsCoordinateReferenceSystem("EPSG:32633").toWkt())
    for band in range(1, 5):
        data = (np.arange(37 * 29) % 300 + 1000 * band).astype("uint16")
        data[:37] = 0
        file.GetRasterBand(band).WriteRaster(0, 0, 37, 29, data.tobytes())
        file.GetRasterBand(band).SetNoDataValue(0)
    file = None
    return path


def test_the_algorithms_are_listed_and_explained(qgis_process):
    status, _, said = qgis_process("list", json_output=False)
    assert status == 0 and "afterimage:generate" in said and "afterimage:superresolve" in said
    assert "afterimage:edit" in said
    status, _, said = qgis_process("help", "afterimage:generate", json_output=False)
    assert status == 0 and "RESOLUTION" in said and "AI-generated" in said


def test_a_picture_from_the_command_line(qgis_process, tmp_path):
    target = str(tmp_path / "forest.tif")
    arguments = (f"--EXTENT={EXTENT}", "--PROMPT=Forest", "--RESOLUTION=10", "--DATE=2024-06-30", "--STEPS=2")
    status, results, said = qgis_process(
        "run", "afterimage:generate", "--", *(word[2:] for word in arguments), "MODEL=tiny-generate", f"OUTPUT={target}"
    )
    if status != 0:  # the syntax before 3.24
        status, results, said = qgis_process(
            "run", "afterimage:generate", *arguments, "--MODEL=tiny-generate", f"--OUTPUT={target}"
        )
    assert status == 0, said
    assert results["OUTPUT"] == target and results["OUTPUTS"] == [target]
    assert "Traceback" not in said
    file = gdal.Open(target)
    assert file.RasterCount == 3 and QgsCoordinateReferenceSystem.fromWkt(file.GetProjection()).authid() == "EPSG:32633"
    assert "AI" in json.dumps(file.GetMetadata()) and "COG" in file.GetMetadataItem("LAYOUT", "IMAGE_STRUCTURE")


def test_a_layer_gets_finer_from_the_command_line(qgis_process, picture, tmp_path):
    target, mean, spread = (str(tmp_path / name) for name in ("fine.tif", "mean.tif", "spread.tif"))
    status, results, said = qgis_process(
        "run",
        "afterimage:superresolve",
        f"--INPUT={picture}",
        "--BANDS=3",
        "--BANDS=1",
        "--FACTOR=4",
        "--SAMPLES=2",
        "--STEPS=2",
        "--MODEL=tiny-superresolve",
        f"--OUTPUT={target}",
        f"--MEAN={mean}",
        f"--SPREAD={spread}",
    )
    assert status == 0, said
    assert (results["OUTPUT"], results["MEAN"], results["SPREAD"]) == (target, mean, spread) and len(
        results["OUTPUTS"]
    ) == 2
    for path in (*results["OUTPUTS"], mean, spread):
        file = gdal.Open(path)
        assert (file.RasterXSize, file.RasterYSize, file.RasterCount) == (148, 116, 2)
        assert file.GetGeoTransform() == (500000, 2.5, 0, 5000000, 0, -2.5)
    for path in (target, mean):
        file = gdal.Open(path)
        assert file.GetRasterBand(1).DataType == gdal.GDT_UInt16 and file.GetRasterBand(1).GetNoDataValue() == 0
        assert file.GetRasterBand(1).ReadAsArray()[4:].mean() == pytest.approx(3150, abs=60)
        assert not file.GetRasterBand(1).ReadAsArray()[:4].any()


@pytest.fixture
def parcels(tmp_path):
    """A file with a field of 10 by 8 pixels of the picture, columns 5 to 14 and rows 6 to 13, in degrees."""
    field = QgsGeometry.fromRect(QgsRectangle(500050, 4999860, 500150, 4999940))
    degrees = QgsCoordinateReferenceSystem("EPSG:4326")
    field.transform(
        QgsCoordinateTransform(QgsCoordinateReferenceSystem("EPSG:32633"), degrees, QgsCoordinateTransformContext())
    )
    path = str(tmp_path / "parcels.geojson")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{{"type": "Feature", "properties": {{}}, "geometry": {field.asJson(12)}}}')
    return path


def test_a_field_becomes_a_forest_from_the_command_line(qgis_process, picture, parcels, tmp_path):
    target = str(tmp_path / "edited.tif")
    arguments = (f"--INPUT={picture}", f"--MASK={parcels}", "--PROMPT=Forest", "--BANDS=3", "--BANDS=2", "--BANDS=1")
    more = ("--STRENGTH=0.8", "--STEPS=3", "--SEED=5", "--DATE=2030-05-01", "--MODEL=tiny-generate")
    status, results, said = qgis_process("run", "afterimage:edit", *arguments, *more, f"--OUTPUT={target}")
    assert status == 0, said
    assert results["OUTPUT"] == target and results["OUTPUTS"] == [target] and "Traceback" not in said
    before, after = gdal.Open(picture), gdal.Open(target)
    assert (after.RasterXSize, after.RasterYSize, after.RasterCount) == (37, 29, 3)
    assert after.GetGeoTransform() == before.GetGeoTransform() and after.GetRasterBand(1).GetNoDataValue() == 0
    expected, found = before.ReadAsArray()[[2, 1, 0]], after.ReadAsArray()
    changed = (expected != found).any(axis=0)
    inside = np.zeros_like(changed)
    inside[6:14, 5:15] = True
    assert not changed[~inside].any(), "what lies outside keeps its numbers"
    assert changed[inside].mean() > 0.8


#: Name of a tiny model -> its checkpoint.
PUBLISHED = {
    "tiny-forecast": "diffusionsat/controlnet3d",
    "tiny-rsedit": "rsedit",
    "tiny-inpainting": "text2earth/text2earth-inpainting",
}


@pytest.mark.parametrize(
    ("algorithm", "parameters", "code"),
    [
        ("generate", {"EXTENT": "13,13,52,53 [EPSG:4326]"}, "EMPTY_EXTENT"),
        ("generate", {"EXTENT": "14,13,52,53 [EPSG:4326]"}, "EMPTY_EXTENT"),
        ("generate", {"EXTENT": "13,13.1,52,52.1"}, "UNKNOWN_CRS"),
        ("superresolve", {"INPUT": __file__}, "SOURCE_UNREADABLE"),
        ("edit", {"INPUT": __file__, "PROMPT": "forest"}, "SOURCE_UNREADABLE"),
    ],
)
def test_bad_input_is_refused_without_a_traceback(qgis_process, tmp_path, algorithm, parameters, code):
    words = [f"--{name}={value}" for name, value in parameters.items()]
    status, _, said = qgis_process("run", f"afterimage:{algorithm}", *words, f"--OUTPUT={tmp_path / 'x.tif'}")
    assert status != 0 and f"{code}: " in said
    assert "Traceback" not in said and not (tmp_path / "x.tif").exists()
    jobs = qgis_process.profile / "afterimage" / "jobs"
    assert not [folder for folder in (jobs.iterdir() if jobs.exists() else ()) if not (folder / "prepared").exists()]


@pytest.fixture
def provider(qgis_processing, engine_variables, monkeypatch, tmp_path):
    """The provider, registered as the plugin does."""
    monkeypatch.setattr("afterimage.plugin.settings.jobs_folder", lambda: str(tmp_path / "jobs"))
    for name, value in engine_variables.items():
        monkeypatch.setenv(name, value)
    provider = AfterimageProvider()
    assert QgsApplication.processingRegistry().addProvider(provider)
    yield provider
    QgsApplication.processingRegistry().removeProvider(provider)


@pytest.fixture
def project(qgis_app):
    project = QgsProject.instance()
    project.clear()
    yield project
    project.clear()


def start(name, parameters, project):
    """Run an algorithm as the toolbox does, on a thread of its own."""
    context, feedback = QgsProcessingContext(), QgsProcessingFeedback()
    context.setProject(project)
    algorithm = QgsApplication.processingRegistry().createAlgorithmById(f"afterimage:{name}")
    task = QgsProcessingAlgRunnerTask(algorithm, parameters, context, feedback)
    assert not task.isCanceled()
    return algorithm, task, context, feedback


def test_layers_that_the_toolbox_loads_say_what_they_are(provider, project, qtbot):
    from processing.gui.Postprocessing import handleAlgorithmResults

    output = QgsProcessingOutputLayerDefinition("TEMPORARY_OUTPUT", project)
    parameters = {"EXTENT": EXTENT, "PROMPT": "Forest", "RESOLUTION": 10, "DATE": "2024-06-30", "STEPS": 2}
    parameters.update(SAMPLES=2, MODEL="tiny-generate", OUTPUT=output)
    algorithm, task, context, feedback = start("generate", parameters, project)
    with qtbot.waitSignal(task.executed, timeout=180000) as done:
        QgsApplication.taskManager().addTask(task)
    is_well, results = done.args
    assert is_well, feedback.textLog()
    handleAlgorithmResults(algorithm, context, feedback, False, parameters)
    layers = sorted(project.mapLayers().values(), key=lambda layer: layer.name())
    assert [layer.name() for layer in layers] == ["AI-generated: Forest 1", "AI-generated: Forest 2"]
    assert [layer.source() for layer in layers] == results["OUTPUTS"]
    for layer in layers:
        assert layer_date(layer) == "2024-06-30" and "AI-generated" in layer.metadata().abstract()
        assert layer.customProperty(PROVENANCE) and layer.isValid()


def test_selected_polygons_are_edited_and_the_layer_says_where(provider, project, picture, qtbot):
    from processing.gui.Postprocessing import handleAlgorithmResults

    parcels = QgsVectorLayer("Polygon?crs=EPSG:32633", "Parcels", "memory")
    for left in (500050, 500200):
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, 4999860, left + 80, 4999940)))
        assert parcels.dataProvider().addFeature(feature)
    parcels.updateExtents()
    parcels.selectByIds([2])
    project.addMapLayer(parcels)
    parameters = {"INPUT": picture, "MASK": QgsProcessingFeatureSourceDefinition(parcels.id(), True), "STEPS": 2}
    parameters.update(PROMPT="Forest", STRENGTH=1, DATE="2030-05-01", MODEL="tiny-generate")
    parameters["OUTPUT"] = QgsProcessingOutputLayerDefinition("TEMPORARY_OUTPUT", project)
    algorithm, task, context, feedback = start("edit", parameters, project)
    with qtbot.waitSignal(task.executed, timeout=180000) as done:
        QgsApplication.taskManager().addTask(task)
    is_well, results = done.args
    assert is_well, feedback.textLog()
    handleAlgorithmResults(algorithm, context, feedback, False, parameters)
    layer = next(layer for layer in project.mapLayers().values() if layer.source() == results["OUTPUT"])
    assert layer.name() == "AI-generated: Forest in Parcels, picture" and layer_date(layer) == "2030-05-01"
    text = layer.metadata().abstract()
    assert "AI-generated inside polygons" in text and "Changed inside: Parcels." in text and "Strength: 100 %" in text
    changed = (gdal.Open(picture).ReadAsArray()[:3] != gdal.Open(results["OUTPUT"]).ReadAsArray()).any(axis=0)
    assert changed[6:14, 20:28].mean() > 0.8 and not changed[:, :20].any() and not changed[:, 28:].any()


def test_cancelling_stops_the_engine_and_leaves_no_output(provider, project, qtbot, tmp_path):
    target = tmp_path / "x.tif"
    parameters = {"EXTENT": "13.0,13.2,52.0,52.2 [EPSG:4326]", "RESOLUTION": 10, "STEPS": 200, "PROMPT": "Forest"}
    parameters.update(MODEL="tiny-generate", OUTPUT=str(target))
    _, task, _, feedback = start("generate", parameters, project)
    QTimer.singleShot(4000, feedback.cancel)
    with qtbot.waitSignal(task.executed, timeout=30000):
        QgsApplication.taskManager().addTask(task)
    assert not target.exists()


DRAW = {"PROMPT": "Forest", "RESOLUTION": 10, "MODEL": "tiny-generate", "STEPS": 2, "SEED": 3, "SAMPLES": 1}
FINER = {"FACTOR": 2, "MODEL": "tiny-superresolve", "STEPS": 2, "SEED": 3, "SAMPLES": 1}


def test_one_feeds_the_other_in_a_model_and_it_runs_again_and_again(provider, project, tmp_path):
    import processing

    model = QgsProcessingModelAlgorithm("thread", "test")
    model.addModelParameter(QgsProcessingParameterExtent("where", "where"), QgsProcessingModelParameter("where"))
    draw = QgsProcessingModelChildAlgorithm("afterimage:generate")
    draw.setChildId("draw")
    static = QgsProcessingModelChildParameterSource.fromStaticValue
    draw.addParameterSources("EXTENT", [QgsProcessingModelChildParameterSource.fromModelParameter("where")])
    for name, value in DRAW.items():
        draw.addParameterSources(name, [static(value)])
    model.addChildAlgorithm(draw)
    finer = QgsProcessingModelChildAlgorithm("afterimage:superresolve")
    finer.setChildId("finer")
    finer.addParameterSources("INPUT", [QgsProcessingModelChildParameterSource.fromChildOutput("draw", "OUTPUT")])
    for name, value in FINER.items():
        finer.addParameterSources(name, [static(value)])
    result = QgsProcessingModelOutput("fine", "fine")
    result.setChildId("finer")
    result.setChildOutputName("OUTPUT")
    finer.setModelOutputs({"fine": result})
    model.addChildAlgorithm(finer)
    for child in ("draw", "finer"):
        is_well, why = model.validateChildAlgorithm(child)
        assert is_well, why
    for row in (1, 2):  # what batch does
        parameters = {"where": EXTENT, "finer:fine": str(tmp_path / f"{row}.tif")}
        found = processing.run(model, parameters)
        file = gdal.Open(found["finer:fine"])
        assert file.GetGeoTransform()[1] == 5 and file.RasterCount == 3
    one, other = (gdal.Open(str(tmp_path / f"{row}.tif")).ReadAsArray() for row in (1, 2))
    np.testing.assert_array_equal(one, other)


def test_a_parameter_can_be_an_expression(provider, project, tmp_path):
    import processing

    target = str(tmp_path / "x.tif")
    parameters = {"EXTENT": EXTENT, "RESOLUTION": QgsProperty.fromExpression("5 * 2"), "STEPS": "2", "SEED": "7"}
    parameters["PROMPT"] = QgsProperty.fromExpression("'for' || 'est'")
    found = processing.run("afterimage:generate", {**parameters, "MODEL": "tiny-generate", "OUTPUT": target})
    assert found["OUTPUT"] == target and gdal.Open(target).GetGeoTransform()[1] == 10
