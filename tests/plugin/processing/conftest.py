"""What the tests of algorithms share."""

from __future__ import annotations

import numpy as np
import pytest
from afterimage.plugin.processing.provider import AfterimageProvider
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
)

SPAIN = "-0.78,-0.76,38.10,38.12 [EPSG:4326]"


@pytest.fixture
def context(qgis_app):
    context, project = QgsProcessingContext(), QgsProject()
    context.setProject(project)  # which does not keep it
    yield context
    context.temporaryLayerStore().removeAllMapLayers()  # they must not outlive QGIS
    project.clear()


@pytest.fixture
def environment(monkeypatch):
    """Models for tests, and an engine that is never started."""
    monkeypatch.setenv("AFTERIMAGE_TEST_MODELS", "1")
    monkeypatch.setenv("AFTERIMAGE_ENGINE_PYTHON", "/usr/bin/true")


@pytest.fixture
def provider(qgis_app, environment):
    provider = AfterimageProvider()
    provider.refreshAlgorithms()
    return provider


@pytest.fixture
def picture(qgis_app, tmp_path):
    path = str(tmp_path / "picture.tif")
    file = gdal.GetDriverByName("GTiff").Create(path, 40, 30, 4, gdal.GDT_UInt16)
    file.SetGeoTransform((500000, 10, 0, 5000000, 0, -10))
    file.SetProjection(QgsCoordinateReferenceSystem("EPSG:32633").toWkt())
    for band in range(1, 5):
        data = (np.arange(1200) + 100 * band).astype("uint16")
        file.GetRasterBand(band).WriteRaster(0, 0, 40, 30, data.tobytes())
    file.FlushCache()
    return path


@pytest.fixture
def generate(provider):
    return provider.algorithm("generate")


@pytest.fixture
def super_resolve(provider):
    return provider.algorithm("superresolve")


@pytest.fixture
def edit(provider):
    return provider.algorithm("edit")


@pytest.fixture
def parcels(context):
    """Two squares of 50 m in the upper left corner of the picture; the second is selected."""
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633", "Parcels", "memory")
    for left in (500010, 500100):
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, 4999940, left + 50, 4999990)))
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    layer.selectByIds([2])
    context.project().addMapLayer(layer)
    return layer


def draft(algorithm, context, **parameters):
    return algorithm.create().draft(parameters, context)


def refusal(algorithm, parameters, context):
    is_well, text = algorithm.create().checkParameterValues(parameters, context)
    assert not is_well
    code, _, rest = text.partition(": ")
    assert len(text) < 600 and rest.count(".") >= 2, "a sentence and a next step"
    # in a model nobody checks beforehand: preparing the run refuses in the same words
    said = []

    class Feedback(QgsProcessingFeedback):
        def reportError(self, error, fatalError=False):  # noqa: N802, N803
            said.append(error)

    assert not algorithm.create().prepare(parameters, context, Feedback())
    assert said == [text]
    return code
