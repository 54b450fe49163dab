"""The demo: runs inside the real QGIS Desktop (``qgis --code``) and does what a person does, widget by widget."""

import itertools
import os
import shutil
import sys
import time
from typing import Iterator, List, Tuple

import pyplugin_installer
import qgis.utils
from qgis.core import Qgis, QgsApplication, QgsPointXY, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QPoint, Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QComboBox, QDockWidget
from qgis.utils import iface

ROOT = os.environ["AFTERIMAGE_DEMO_ROOT"]
OUT = os.environ["AFTERIMAGE_DEMO_OUT"]
sys.path.append(os.path.join(ROOT, "tests", "e2e", "desktop"))
from stage import Failed, Stage, Wait, pause  # noqa: E402  (its folder is only now on the path)

PROMPT = "a river between green fields"
#: What a field becomes, and its corners: shares of the sample's width from the west and of its height from the south.
AFTER = "forest"
FIELD = ((0.45, 0.13), (0.72, 0.13), (0.76, 0.33), (0.62, 0.42), (0.47, 0.3))
SHARED = os.path.join(ROOT, os.pardir, "shared", "data", "test_rasters")
#: File, layer name, bands to use (empty: as offered), factor.
Raster = Tuple[str, str, Tuple[int, ...], int]
SAMPLE: Raster = (os.path.join(ROOT, "resources", "demo", "naip_wetlands_2018.tif"), "NAIP wetlands 2018", (), 4)
MORE: List[Raster] = [
    (os.path.join(SHARED, "s2_l1c_13band_i16_wgs84_flood.tif"), "Sentinel-2 flood", (2, 3, 4), 2),
    (os.path.join(SHARED, "hro_rgb_u8_utm13n_internalmask.tif"), "Aerial image with a mask", (), 2),
]


class Demo:
    """The scenario, and what it looks at to know how far it is."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.timings = stage.report.setdefault("jobs", {})
        self.pictures = itertools.count(1)

    def scenario(self) -> Iterator[Wait]:
        """Install, open, look at the public models, generate, super-resolve, edit, save."""
        stage, window = self.stage, iface.mainWindow()
        stage.report["qgis"] = Qgis.QGIS_VERSION
        window.setGeometry(0, 20, 1590, 970)
        QgsApplication.messageLog().messageReceived.connect(self.listen)
        for dock in window.findChildren(QDockWidget, "Browser"):
            dock.hide()
        yield pause(1)
        pyplugin_installer.instance().installFromZipFile(os.environ["AFTERIMAGE_DEMO_ZIP"])
        yield Wait("the plugin", lambda: "afterimage" in qgis.utils.plugins)
        stage.report["plugin"] = qgis.utils.pluginMetadata("afterimage", "version")
        self.plugin = qgis.utils.plugins["afterimage"]
        if self.plugin.dock is not None:
            stage.problem("the dock opened by itself")
        if QgsApplication.processingRegistry().algorithmById("afterimage:generate") is None:
            stage.problem("afterimage:generate is not in the Processing toolbox")
        sample = self.add(SAMPLE)
        QgsProject.instance().setCrs(sample.crs())
        yield pause(1)  # QGIS itself shows the whole of a first layer
        self.look_at(sample, 3.0)
        yield pause(1.5)
        self.plugin.action.trigger()
        yield Wait("the dock", lambda: self.plugin.dock is not None and self.plugin.dock.isVisible())
        self.dock = self.plugin.dock
        layers = window.findChild(QDockWidget, "Layers")
        window.resizeDocks([layers, self.dock], [330, 430], Qt.Orientation.Horizontal)
        yield pause(1)
        self.shoot("dock")
        yield from self.models()

        panel = self.pick("Generate")
        stage.type(panel.prompt.edit, PROMPT)
        stage.click(panel.extent.view_button)
        stage.type(panel.output.file.lineEdit(), os.path.join(OUT, "generated.tif"))
        QTest.keyClick(panel.output.file.lineEdit(), Qt.Key.Key_Tab)
        yield from self.run("generate", "generating")
        yield pause(2)
        self.shoot("generated")

        yield from self.super_resolve("super_resolve_naip", SAMPLE, sample)
        more = [raster for raster in MORE if os.path.exists(raster[0])]
        for number, raster in enumerate(more, 1):
            yield from self.super_resolve(f"super_resolve_{number}", raster, self.add(raster))
        yield from self.edit(sample)

        project = QgsProject.instance()
        if not project.write(os.path.join(OUT, "afterimage-demo.qgz")):
            stage.problem(f"the project was not saved: {project.error()}")
        stage.report["longest_stall_ms"] = round(max(stage.stalls.gaps_ms))
        stage.report["longest_work_ms"] = round(max(stage.stalls.own_ms))
        stage.report["layers"] = [layer.name() for layer in project.mapLayers().values()]

    def listen(self, text: str, tag: str, level: Qgis.MessageLevel) -> None:
        """Nobody may be shown a traceback."""
        if tag == "Python error" or "Traceback" in text:
            self.stage.problem(text)

    def models(self) -> Iterator[Wait]:
        """Look at the form of a task that needs public weights, and at the window that has them; fetch nothing."""
        panel = self.pick("Forecast")
        yield pause(1)
        named = panel.fields.note_text(panel.model)
        if panel.model.card is None and "public weights" not in named:
            self.stage.problem("the form of Forecast does not say which weights it needs")
        self.shoot("forecast")
        self.stage.click(panel.model.models_button)
        yield Wait("the window of models", lambda: self.dock.models is not None and self.dock.models.isVisible())
        models = self.dock.models
        yield pause(1)
        row = models.tree.row
        if row is None or "Forecast" not in row.card.tasks or not models.about.toPlainText().strip():
            self.stage.problem("the window of models does not open at those that can forecast")
        heads = [models.tree.topLevelItem(index) for index in range(models.tree.topLevelItemCount())]
        listed = self.stage.report["models"] = {head.text(0): head.childCount() for head in heads}
        if len(listed) != len(self.dock.panels) or not all(listed.values()):
            self.stage.problem(f"the window of models lists {listed}")
        self.shoot("models")
        models.reject()
        yield Wait("the window of models to close", lambda: self.dock.models is None)

    def super_resolve(self, key: str, raster: Raster, layer: QgsRasterLayer) -> Iterator[Wait]:
        """Fill the second form for a layer, run it, and look at the result."""
        _, _, bands, factor = raster
        panel = self.pick("SuperResolve")
        self.look_at(layer, 1.1)
        self.choose(panel.layer, [panel.layer.layer(i) for i in range(panel.layer.count())].index(layer))
        self.choose(panel.factor, panel.factor.findData(factor))
        if bands:
            panel.bands.deselectAllOptions()
            panel.bands.setCheckedItems([panel.bands.itemText(band - 1) for band in bands])
            if panel.bands.value() != bands:
                raise Failed(f"{panel.bands.value()} are checked instead of bands {bands}")
        self.stage.type(panel.output.file.lineEdit(), os.path.join(OUT, f"{key}.tif"))
        QTest.keyClick(panel.output.file.lineEdit(), Qt.Key.Key_Tab)
        yield from self.run(key, f"{key}_running")
        self.look_at(layer, 0.45)
        yield pause(2)
        self.shoot(key)

    def edit(self, layer: QgsRasterLayer) -> Iterator[Wait]:
        """Draw a polygon on a layer, say what should be there, run it, and look at the result."""
        stage, canvas = self.stage, iface.mapCanvas()
        panel = self.pick("Edit")
        for node in QgsProject.instance().layerTreeRoot().findGroup("Afterimage").children():
            node.setItemVisibilityChecked(False)  # earlier results lie over the field
        self.look_at(layer, 1.1)
        yield pause(2)
        self.choose(panel.layer, [panel.layer.layer(i) for i in range(panel.layer.count())].index(layer))
        stage.click(panel.mask.draw_button)
        extent = canvas.mapSettings().layerExtentToOutputExtent(layer, layer.extent())
        for u, v in FIELD:
            point = QgsPointXY(extent.xMinimum() + u * extent.width(), extent.yMinimum() + v * extent.height())
            place = canvas.getCoordinateTransform().transform(point)
            corner = QPoint(round(place.x()), round(place.y()))
            QTest.mouseClick(canvas.viewport(), Qt.MouseButton.LeftButton, pos=corner)
        QTest.mouseClick(canvas.viewport(), Qt.MouseButton.RightButton, pos=corner)
        if panel.mask.draw_button.isChecked() or panel.mask.problems():
            raise Failed("no polygon can be drawn on the map")
        stage.type(panel.prompt.edit, AFTER)
        stage.type(panel.output.file.lineEdit(), os.path.join(OUT, "edited.tif"))
        QTest.keyClick(panel.output.file.lineEdit(), Qt.Key.Key_Tab)
        yield from self.run("edit_naip", "editing")
        panel.mask.clear_button.click()
        self.look_at(layer, 1.1)
        yield pause(2)
        self.shoot("edited")

    def run(self, key: str, picture: str) -> Iterator[Wait]:
        """Click Run, wait for the end of the job, and check that its layers are on the map."""
        stage, session, dock = self.stage, self.plugin.session, self.dock
        before = set(QgsProject.instance().mapLayers())
        yield pause(1)
        if not dock.run_button.isEnabled():
            raise Failed(f"{key} cannot be run: {dock.problem.text()}")
        known = {record.id for record in session.jobs}
        started = time.monotonic()
        stage.stalls.start()
        stage.click(dock.run_button)
        yield Wait("the job", lambda: {record.id for record in session.jobs} - known, 10)
        job = ({record.id for record in session.jobs} - known).pop()
        yield Wait("work to begin", lambda: session.job(job).is_over or (session.job(job).fraction or 0) > 0.3, 600)
        self.shoot(picture)
        yield Wait("the end of the job", lambda: session.job(job).is_over, 1500)
        yield pause(0.5)
        stage.stalls.stop()
        record = session.job(job)
        if record.result is None:
            failure = record.failure
            text = f"{failure.code.value}: {failure.message} {failure.hint}\n{failure.detail}" if failure else ""
            stage.problem(f"{key}: {record.state.value}. {text}")
            return
        self.timings[key] = {
            "seconds": round(time.monotonic() - started, 1),
            "shape": list(record.result.outputs[0].grid.shape),
            "model": record.result.provenance.model,
            "files": [os.path.relpath(output.path, OUT) for output in record.result.outputs],
            "notices": list(record.result.notices),
        }
        added = [QgsProject.instance().mapLayer(id) for id in set(QgsProject.instance().mapLayers()) - before]
        if len(added) < len(record.result.outputs) or not all(layer.isValid() for layer in added):
            stage.problem(f"{key}: the layer is missing")
        if not all("AI" in layer.name() for layer in added):
            stage.problem(f"{key}: a layer does not say that it is AI-generated")

    def shoot(self, name: str) -> None:
        """Save a picture of the screen, numbered."""
        self.stage.shoot(f"{next(self.pictures):02}-{name}")

    def pick(self, task: str):
        """Click a task's tab and return its form."""
        index = [panel.task for panel in self.dock.panels].index(task)
        bar = self.dock.tabs.tabBar()
        QTest.mouseClick(bar, Qt.MouseButton.LeftButton, pos=bar.tabRect(index).center())
        if self.dock.panel.task != task:
            raise Failed(f"the tab of {task} cannot be reached")
        return self.dock.panel

    def choose(self, combo: QComboBox, index: int) -> None:
        """Choose an entry with the keyboard."""
        combo.setFocus()
        QTest.keyClick(combo, Qt.Key.Key_Home)
        for _ in range(index):
            QTest.keyClick(combo, Qt.Key.Key_Down)
        if combo.currentIndex() != index:
            raise Failed(f"entry {index} of {combo.objectName()} cannot be chosen")

    def add(self, raster: Raster) -> QgsRasterLayer:
        """Add a copy of a raster to the project; QGIS may write statistics beside a file."""
        copy = shutil.copy(raster[0], OUT)
        layer = QgsRasterLayer(copy, raster[1])
        if not layer.isValid():
            raise Failed(f"{copy} is not a raster")
        QgsProject.instance().addMapLayer(layer)
        return layer

    def look_at(self, layer: QgsRasterLayer, zoom: float) -> None:
        """Show so many times the extent of a layer."""
        canvas = iface.mapCanvas()
        extent = canvas.mapSettings().layerExtentToOutputExtent(layer, layer.extent())
        extent.scale(zoom)
        canvas.setExtent(extent)
        canvas.refresh()


def leave(_stage: Stage) -> None:
    """Close QGIS, or leave it to the person."""
    if os.environ.get("AFTERIMAGE_DEMO_STAY"):
        return
    QgsProject.instance().removeAllMapLayers()  # QGIS asks about layers below the system's temporary folder
    QgsProject.instance().setDirty(False)
    iface.actionExit().trigger()


stage = Stage(OUT, leave)
stage.play(Demo(stage).scenario())
