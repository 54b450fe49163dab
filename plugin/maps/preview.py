"""How a picture forms on the map: one layer a job, replaced in place, never saved with the project."""

from typing import Dict, List, Set

from qgis.core import QgsMapLayer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QObject

from ..report import tr
from .opening import open_raster, reopen_raster
from .record import MARK
from .style import style_sample

#: Custom property of a preview layer: the job whose preview it is.
_JOB = "afterimage/preview"
_KEEPER = "afterimage-previews"
#: All keepers there are: without a reference of ours, the Python side of one goes when Python lets go of its project,
#: and what the project still has is a plain QObject.
_keepers: Set[QObject] = set()


def is_preview(layer: QgsMapLayer) -> bool:
    """Whether a layer is a preview, which goes when its job ends."""
    return bool(layer.customProperty(_JOB))


def show_preview(job: str, path: str, project: QgsProject) -> None:
    """Show a job's newest preview, in place of the one before; call it on the main thread.

    A file that cannot be opened (the next preview may already have replaced it) changes nothing.
    """
    _keeper(project).show(job, path)


def remove_preview(job: str, project: QgsProject) -> None:
    """Take a job's preview off the map, if there is one."""
    for layer in _previews(project):
        if layer.customProperty(_JOB) == job:
            project.removeMapLayer(layer.id())


def _previews(project: QgsProject) -> List[QgsRasterLayer]:
    return [layer for layer in project.mapLayers().values() if is_preview(layer)]


def _keeper(project: QgsProject) -> "_Keeper":
    found = project.findChild(QObject, _KEEPER)
    return found if hasattr(found, "show") else _Keeper(project)


class _Keeper(QObject):
    """Takes previews out of a project while it is being saved."""

    def __init__(self, project: QgsProject):
        super().__init__(project)
        self.setObjectName(_KEEPER)
        self._project = project
        self._aside: Dict[str, str] = {}
        self._held: List[QgsRasterLayer] = []
        _keepers.add(self)
        self.destroyed.connect(lambda: _keepers.discard(self))
        project.writeProject.connect(self._take_out)
        project.projectSaved.connect(self._put_back)

    def show(self, job: str, path: str) -> None:
        """As ``show_preview``."""
        layer = next((found for found in _previews(self._project) if found.customProperty(_JOB) == job), None)
        fresh = open_raster(path, tr("Preview ({})").format(MARK))
        if not fresh.isValid():
            return
        style_sample(fresh)
        if layer is None:
            fresh.setCustomProperty(_JOB, job)
            self._project.addMapLayer(fresh, False)
            self._project.layerTreeRoot().insertLayer(0, fresh).setExpanded(False)
            return
        reopen_raster(layer, path)
        style_sample(layer)
        layer.triggerRepaint()

    def _take_out(self, document) -> None:
        """Before QGIS writes the layers: previews leave the project, and the layer tree that is already written."""
        previews = {layer.id(): layer for layer in _previews(self._project)}
        nodes = document.elementsByTagName("layer-tree-layer")
        for node in [nodes.at(i) for i in range(nodes.count())]:
            if node.toElement().attribute("id") in previews:
                node.parentNode().removeChild(node)
        for identifier, layer in previews.items():
            self._aside[layer.customProperty(_JOB)] = layer.source()
            self._held.append(self._project.takeMapLayer(self._project.mapLayer(identifier)))

    def _put_back(self) -> None:
        self._held.clear()
        aside, self._aside = self._aside, {}
        for job, path in aside.items():
            self.show(job, path)
