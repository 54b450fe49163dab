"""Layers that Processing loads say what they are too: name, style, metadata and date."""

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
from ..maps.record import layer_name

#: Path -> what dresses its layer. QGIS keeps no reference of its own, so they live as long as the plugin.
_dressers: Dict[str, "_Dresser"] = {}


def dress_when_loaded(result: Result, title: str, context: QgsProcessingContext) -> None:
    """Have a result's layers dressed when QGIS loads them; the other samples are loaded along with the first.

    Args:
        result: of the job.
        title: of the job.
        context: of the run.
    """
    samples = [output for output in result.outputs if output.role is Role.SAMPLE]
    first = samples[0].path
    for output in result.outputs:
        name = layer_name(title, output, len(samples))
        if output.role is Role.SAMPLE and output.path != first and context.willLoadLayerOnCompletion(first):
            project = context.layerToLoadOnCompletionDetails(first).project
            context.addLayerToLoadOnCompletion(output.path, QgsProcessingContext.LayerDetails(name, project, "OUTPUTS"))
        if context.willLoadLayerOnCompletion(output.path):
            _dressers[output.path] = _Dresser(name, output, result.provenance)
            context.layerToLoadOnCompletionDetails(output.path).setPostProcessor(_dressers[output.path])


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
