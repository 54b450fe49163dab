"""The plugin as QGIS sees it: what it adds to the window when it is switched on, and takes away again."""

import os
from typing import Optional

from qgis.core import QgsApplication
from qgis.gui import QgisInterface
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QGuiApplication, QIcon
from qgis.PyQt.QtWidgets import QAction

from ..engine.contract import ErrorCode, Failure, WireError
from .report import TAG, tr

ICON = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "resources", "icons", "afterimage.svg")


class AfterimagePlugin:
    """Builds the session, the dock and the Processing provider.

    Nothing opens and nothing starts by itself: the session and the dock are made when somebody first opens the dock,
    the engine starts with the first job.
    """

    def __init__(self, iface: Optional[QgisInterface]) -> None:
        """Keep the window; do nothing yet.

        Args:
            iface: QGIS's window, None in ``qgis_process``.
        """
        self.iface = iface
        self.provider = None
        self.action: Optional[QAction] = None
        self.session = None
        self.delivery = None
        self.dock = None

    def initProcessing(self) -> None:  # noqa: N802  (QGIS's name)
        """Add the algorithms; called alone by ``qgis_process``, so nothing here needs a window."""
        from .processing.provider import AfterimageProvider

        self.provider = AfterimageProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:  # noqa: N802  (QGIS's name)
        """Add the algorithms, and an action to the Raster menu and the tool bar of plugins."""
        self.initProcessing()
        self.action = QAction(QIcon(ICON), tr("Afterimage"), self.iface.mainWindow())
        self.action.setObjectName("mActionAfterimage")
        self.action.setCheckable(True)
        self.action.setToolTip(tr("Generate, sharpen and edit satellite imagery on this computer"))
        self.action.toggled.connect(self._toggle)
        self.iface.addPluginToRasterMenu(tr("Afterimage"), self.action)
        self.iface.addToolBarIcon(self.action)  # the Raster tool bar is hidden in a new profile

    def unload(self) -> None:
        """Take everything away again; the engine ends, unfinished jobs can be resumed later."""
        if self.dock is not None:
            self.iface.removeDockWidget(self.dock)
            self.dock.deleteLater()
            self.dock = None
        if self.session is not None:
            self.session.stop()
            self.delivery.deleteLater()
            self.session.deleteLater()
            self.delivery = self.session = None
        if self.action is not None:
            self.iface.removePluginRasterMenu(tr("Afterimage"), self.action)
            self.iface.removeToolBarIcon(self.action)
            self.action.deleteLater()
            self.action = None
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None

    def open_dock(self) -> None:
        """Show the dock; makes it the first time."""
        if self.dock is None:
            self._make_dock()
        self.dock.setUserVisible(True)

    def _toggle(self, is_on: bool) -> None:
        if is_on:
            self.open_dock()
        elif self.dock is not None:
            self.dock.setUserVisible(False)

    def _make_dock(self) -> None:
        from .delivery import Delivery
        from .dock import Dock
        from .session import Session

        window = self.iface.mainWindow()
        self.session = Session(window)
        self.delivery = Delivery(self.session, self.iface.messageBar(), window)
        self.dock = Dock(self.session, self.iface.mapCanvas(), window)
        self.dock.refused.connect(self.delivery.refuse)
        self.dock.show_asked.connect(self.delivery.show_again)
        self.dock.copy_asked.connect(self._copy)
        self.iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        self.dock.visibilityChanged.connect(self._follow_dock)

    def _follow_dock(self, *_: object) -> None:
        # closed by its own button, or behind another tab: the action shows whether the dock is open at all
        if self.action is not None and self.dock is not None:
            self.action.blockSignals(True)
            self.action.setChecked(not self.dock.isHidden())
            self.action.blockSignals(False)

    def _copy(self, job: str) -> None:
        from .processing.command import command

        record = self.session.job(job)
        if record is None:
            return
        try:
            text = command(record.folder)
        except (OSError, WireError) as error:
            message, hint = tr("The folder of this job cannot be read."), tr("Run it anew from the panel.")
            self.delivery.refuse(Failure(ErrorCode.JOB_FOLDER_DAMAGED, message, hint, str(error)))
            return
        QGuiApplication.clipboard().setText(text)
        self.iface.messageBar().pushInfo(TAG, tr("The command is on the clipboard: paste it into the Python console."))
