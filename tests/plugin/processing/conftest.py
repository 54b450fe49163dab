"""What the tests of algorithms share."""

import pytest
from qgis.core import QgsProcessingContext, QgsProject


@pytest.fixture
def context(qgis_app):
    context, project = QgsProcessingContext(), QgsProject()
    context.setProject(project)  # which does not keep it
    yield context
    context.temporaryLayerStore().removeAllMapLayers()  # they must not outlive QGIS
    project.clear()
