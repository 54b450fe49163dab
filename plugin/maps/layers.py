"""Results on the map: layers in their own group, named, styled, dated and described as what they are."""

import os
from typing import Dict, List

from qgis.core import (
    QgsLayerTree,
    QgsLayerTreeGroup,
    QgsMapLayerLegend,
    QgsMapLayerLegendUtils,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import Qt

from ...engine.contract import ErrorCode, Output, Provenance, Result, Role
from ..report import Problem, tr
from .opening import open_raster
from .preview import remove_preview, show_preview
from .record import MARK, layer_name, way_name, write_record
from .style import style_sample, style_spread

__all__ = ["GROUP", "add_result", "dress", "main_group", "remove_preview", "show_preview"]

#: Name of the group that all results are in.
GROUP = "Afterimage"


def add_result(result: Result, title: str, project: QgsProject) -> List[QgsRasterLayer]:
    """Add a job's outputs to the project; call it on the main thread.

    The first sample is shown; the others, the mean and the spread are there to be switched on. Pictures on the way from
    noise stand above, in a closed group for each sample, with the result uppermost: without the Temporal Controller the
    map shows the result, and with it they are played.

    Args:
        result: of a job that succeeded.
        title: of the job, which names the group and the layers.
        project: gets the layers.

    Raises:
        Problem: OUTPUT_DAMAGED for an output that QGIS cannot open.
    """
    samples = sum(output.role is Role.SAMPLE for output in result.outputs)
    layers = [open_output(output, layer_name(title, output, samples)) for output in result.outputs]
    for layer, output in zip(layers, result.outputs):
        dress(layer, output, result.provenance)
    group = main_group(project).insertGroup(0, title)
    project.addMapLayers(layers, False)
    ways: Dict[int, QgsLayerTreeGroup] = {}
    for number, (layer, output) in enumerate(zip(layers, result.outputs)):
        if output.role is Role.TRAJECTORY:
            if output.sample not in ways:
                way = group.insertGroup(len(ways), way_name(title, output, samples))
                way.setItemVisibilityChecked(not ways)
                way.setExpanded(False)
                ways[output.sample] = way
            node = ways[output.sample].insertLayer(0, layer)
        else:
            node = group.addLayer(layer)
            node.setItemVisibilityChecked(number == 0)
        node.setExpanded(False)
    for layer in layers:
        label_legend(layer, project)
    return layers


def open_output(output: Output, name: str) -> QgsRasterLayer:
    """An output as a layer.

    Raises:
        Problem: OUTPUT_DAMAGED where QGIS cannot open it.
    """
    layer = open_raster(output.path, name)
    if not layer.isValid():
        raise Problem(
            ErrorCode.OUTPUT_DAMAGED,
            tr("The result {} cannot be opened.").format(os.path.basename(output.path)),
            tr("Run the job again: finished tiles are used once more."),
            output.path,
        )
    return layer


def dress(layer: QgsRasterLayer, output: Output, provenance: Provenance) -> None:
    """Style a result's layer, describe it and give it its date."""
    if output.role is Role.SPREAD:
        style_spread(layer)
    else:
        style_sample(layer, output.bands)
    write_record(layer, output, provenance)


def label_legend(layer: QgsRasterLayer, project: QgsProject) -> None:
    """Say in the legend, of the layer tree and of print layouts, that the layer is AI-generated."""
    node = project.layerTreeRoot().findLayer(layer.id())
    if node is None:
        return
    node.setCustomProperty("legend/title-label", layer.name())
    for entry in QgsMapLayerLegend.defaultRasterLegend(layer).createLayerTreeModelLegendNodes(node)[:1]:
        said = entry.data(Qt.ItemDataRole.DisplayRole)
        QgsMapLayerLegendUtils.setLegendNodeUserLabel(node, 0, f"{MARK}: {said}" if said else MARK)


def main_group(project: QgsProject) -> QgsLayerTreeGroup:
    """The group that all results are in, made at the top of the layer tree if it is not there."""
    root: QgsLayerTree = project.layerTreeRoot()
    return root.findGroup(GROUP) or root.insertGroup(0, GROUP)
