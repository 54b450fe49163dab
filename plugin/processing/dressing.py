"""Layers that Processing loads say what they are too: name, style, metadata and date."""

import os
from typing import Dict

from qgis.core import (
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterLayer,
)

from ...engine.contract import Output, Provenance, Result, Role
from ..maps.layers import dress, label_legend
from ..maps.record import layer_name, way_name

#: Destination, as Processing spells it -> what dresses its layer. QGIS keeps no reference of its own, so they live as
#: long as the plugin.
_dressers: Dict[str, "_Dresser"] = {}


def dress_when_loaded(result: Result, title: str, context: QgsProcessingContext) -> None:
    """Have a result's layers dressed when QGIS loads them; the other samples are loaded along with the first.

    So are the pictures on their way from noise, in a group of their own where QGIS lets Processing have one (3.32).

    Args:
        result: of the job.
        title: of the job.
        context: of the run.
    """
    samples = [output for output in result.outputs if output.role is Role.SAMPLE]
    loaded = {_normal(key): key for key in context.layersToLoadOnCompletion()}  # keys are spelled as a person did
    first = loaded.get(_normal(samples[0].path))
    for output in result.outputs:
        name = layer_name(title, output, len(samples))
        key = loaded.get(_normal(output.path))
        if key is None and first is not None and output.role not in (Role.MEAN, Role.SPREAD):
            key = output.path
            project = context.layerToLoadOnCompletionDetails(first).project
            source = "FRAMES" if output.role is Role.TRAJECTORY else "OUTPUTS"
            details = QgsProcessingContext.LayerDetails(name, project, source)
            if output.role is Role.TRAJECTORY and hasattr(details, "groupName"):
                details.groupName = way_name(title, output, len(samples))
            context.addLayerToLoadOnCompletion(key, details)
        if key is not None:
            _dressers[key] = _Dresser(name, output, result.provenance)
            context.layerToLoadOnCompletionDetails(key).setPostProcessor(_dressers[key])


def _normal(path: str) -> str:
    return os.path.normcase(os.path.abspath(path))


class _Dresser(QgsProcessingLayerPostProcessorInterface):
    """Dresses one layer, on the main thread."""

    def __init__(self, name: str, output: Output, provenance: Provenance):
        super().__init__()
        self._name, self._output, self._provenance = name, output, provenance

    def postProcessLayer(  # noqa: N802  (QGIS's name)
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Dress the layer that was just loaded."""
        if isinstance(layer, QgsRasterLayer):
            layer.setName(self._name)
            dress(layer, self._output, self._provenance)
            if context.project() is not None:
                label_legend(layer, context.project())
