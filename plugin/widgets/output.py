"""Where to save: a GeoTIFF of the person's choice, or the job's own folder."""

import os
from typing import List, Optional

from qgis.gui import QgsFileWidget
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QToolButton, QVBoxLayout, QWidget

from ...engine.contract import ErrorCode, Failure
from ..report import tr


class OutputInput(QWidget):
    """A file to write; empty means the job's own folder.

    Signals:
        changed: another file.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an empty input."""
        super().__init__(parent)
        self.file = QgsFileWidget(self)
        self.file.setObjectName("output")
        self.file.setStorageMode(QgsFileWidget.StorageMode.SaveFile)
        self.file.setFilter(tr("GeoTIFF") + " (*.tif *.tiff)")
        self.file.setDialogTitle(tr("Save the result as"))
        self.file.lineEdit().setPlaceholderText(tr("in the job\u2019s own folder"))
        browse = self.file.findChild(QToolButton)
        if browse is not None:
            browse.setAccessibleName(tr("Choose where to save the result"))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.file)
        self.setFocusProxy(self.file.lineEdit())
        self.file.fileChanged.connect(self._announce)

    def value(self) -> str:
        """Absolute path with the extension of a GeoTIFF, or ""."""
        text = self.file.filePath().strip()
        if not text:
            return ""
        path = os.path.abspath(os.path.expanduser(text))
        return path if path.lower().endswith((".tif", ".tiff")) else path + ".tif"

    def clear(self) -> None:
        """Save in the job's own folder again, so that the next run does not replace the last one's file."""
        self.file.setFilePath("")

    def problems(self) -> List[Failure]:
        """Why no job can start with this."""
        path = self.value()
        if not path:
            return []
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            message = tr("The folder {folder} does not exist.").format(folder=folder)
        elif not os.access(folder, os.W_OK):
            message = tr("Nothing can be written to {folder}.").format(folder=folder)
        elif os.path.isdir(path):
            message = tr("{path} is a folder.").format(path=path)
        else:
            return []
        return [Failure(ErrorCode.OUTPUT_NOT_WRITABLE, message, tr("Choose another place for the result."))]

    def _announce(self, *_: object) -> None:
        self.changed.emit()
