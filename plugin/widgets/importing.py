"""Weights that are on this computer already: which, what they are, and what to call them."""

import os
from typing import Optional, Tuple

from qgis.PyQt.QtCore import QEvent, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ...engine.contract import CONTENT, CONTROLS, Offer
from ..maps.guide import kind_name
from ..report import tr
from ..store import imported_id
from .fields import Fields
from .quiet import QuietLabel

#: Families whose models can be the base of a ControlNet.
BASES = ("diffusionsat", "stable_diffusion", "stable_diffusion_xl")
#: Files that hold a whole model.
_FILES = (".ckpt", ".safetensors")


class ImportDialog(QDialog):
    """A form for one import.

    Signals:
        import_asked(str, str, str, object): path, id, name, and further words for the engine's ``models import``.
    """

    import_asked = pyqtSignal(str, str, str, object)

    def __init__(
        self,
        offers: Tuple[Offer, ...],
        bases: Tuple[Tuple[str, str], ...],
        taken: Tuple[str, ...],
        parent: Optional[QWidget] = None,
    ) -> None:
        """Make an empty form.

        Args:
            offers: public models that the weights may be, those that are not here.
            bases: (name, folder) of installed models that a ControlNet may need.
            taken: ids that are not free.
            parent: as usual.
        """
        super().__init__(parent)
        self.setObjectName("import")
        self.setWindowTitle(tr("Import weights"))
        self._taken = taken
        self._offers = {offer.card.id: offer for offer in offers}
        self.path = QLineEdit(self)
        self.path.setObjectName("import_path")
        self.folder_button = QPushButton(tr("F&older\u2026"), self)
        self.file_button = QPushButton(tr("F&ile\u2026"), self)
        where = QWidget(self)
        row = QHBoxLayout(where)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.path, self.folder_button, self.file_button):
            row.addWidget(widget)
        self.kind = QComboBox(self)
        self.kind.setObjectName("import_offer")
        self.kind.addItem(tr("Find out by the files"), "")
        for offer in offers:
            self.kind.addItem(offer.card.name, offer.card.id)
        self.name = QLineEdit(self)
        self.name.setObjectName("import_name")
        self.base = QComboBox(self)
        self.base.setObjectName("import_base")
        self.base.addItem(tr("None, or the one that it lies in"), "")
        for name, folder in bases:
            self.base.addItem(name, folder)
        self.base.addItem(tr("Another folder\u2026"), None)
        self.control = QComboBox(self)
        self.control.setObjectName("import_control")
        self.control.addItem(tr("No ControlNet, or one that is known"), "")
        for kind in (kind for kind in CONTROLS if kind != CONTENT):  # which no ControlNet is shown
            self.control.addItem(kind_name(kind), kind)
        self.tower = QComboBox(self)
        self.tower.setObjectName("import_tower")
        self.tower.addItem(tr("None, or the one that lies beside it"), "")
        self.tower.addItem(tr("A folder\u2026"), None)
        self.window_side = QSpinBox(self)
        self.window_side.setObjectName("import_window")
        self.window_side.setRange(0, 4096)
        self.window_side.setSingleStep(64)
        self.window_side.setSpecialValueText(tr("As it was trained"))
        self.window_side.setSuffix(tr(" px"))
        self.form = Fields()
        self._lay_out(where)
        self.folder_button.clicked.connect(self._choose_folder)
        self.file_button.clicked.connect(self._choose_file)
        self.path.textChanged.connect(self._follow)
        self.name.textChanged.connect(self._follow)
        self.kind.currentIndexChanged.connect(self._follow)
        self.base.activated.connect(lambda index: _choose(self, self.base, index, tr("Folder of the base")))
        self.tower.activated.connect(lambda index: _choose(self, self.tower, index, tr("Folder of the image tower")))
        self._follow()

    def _lay_out(self, where: QWidget) -> None:
        about = QuietLabel(
            tr(
                "A folder in the authors\u2019 layout, or a .ckpt or .safetensors file. It is copied; pickled weights "
                "are converted once, in a process of their own, and nothing in the folder is run."
            ),
            self,
        )
        self.form.add(tr("&Weights"), where, self.path, tr("A folder or a file on this computer"))
        self.form.add(tr("What they &are"), self.kind, tip=tr("The public model that these weights are"))
        self.form.add(tr("&Name"), self.name, tip=tr("What the lists of models call it"))
        self.form.add(tr("&Base"), self.base, tip=tr("For a ControlNet: the model that it was trained on"))
        self.form.add(tr("&Guided by"), self.control, tip=tr("For a ControlNet: what its layer shows"))
        tip = tr(
            "For CRS-Diff: the folder of a CLIP image tower, such as that of ViT-L/14, to read layers of content with"
        )
        self.form.add(tr("Image &tower"), self.tower, tip=tip)
        self.form.add(tr("&Picture size"), self.window_side, tip=tr("Side of the pictures that it draws, in pixels"))
        self.problem = QLabel(self)
        self.problem.setObjectName("import_problem")
        self.problem.setWordWrap(True)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel, self)
        self.import_button = QPushButton(tr("I&mport"), self)
        self.import_button.setObjectName("do_import")
        buttons.addButton(self.import_button, QDialogButtonBox.ButtonRole.AcceptRole)
        column = QVBoxLayout(self)
        column.addWidget(about)
        column.addLayout(self.form)
        column.addStretch(1)
        column.addWidget(self.problem)
        column.addWidget(buttons)
        buttons.accepted.connect(self._accept)
        buttons.rejected.connect(self.reject)
        metrics = self.fontMetrics()
        self.resize(metrics.averageCharWidth() * 72, self.sizeHint().height())

    def event(self, event: QEvent) -> bool:
        """Grow with what is said below the inputs: the inputs would give up their own height for it."""
        done = super().event(event)
        if event.type() == QEvent.Type.LayoutRequest:
            self.resize(self.width(), max(self.height(), self.layout().totalHeightForWidth(self.width())))
        return done

    @property
    def model_name(self) -> str:
        """What the model will be called."""
        offer = self._offers.get(self.kind.currentData())
        path = self.path.text().strip().rstrip("/\\")
        own = os.path.basename(path)
        if os.path.isfile(path):  # what follows a dot in the name of a folder is part of it
            own = os.path.splitext(own)[0]
        return self.name.text().strip() or (offer.card.name if offer is not None else own)

    @property
    def model_id(self) -> str:
        """The id that the model will get: that of the public model that it is, or one made of its name."""
        return self.kind.currentData() or imported_id(self.model_name, self._taken)

    def words(self) -> Tuple[str, ...]:
        """What the engine is told beyond path, id and name."""
        found = []
        options = (("--offer", self.kind), ("--base", self.base), ("--control", self.control), ("--tower", self.tower))
        for word, choice in options:
            if choice.currentData():
                found += [word, choice.currentData()]
        if self.window_side.value():
            found += ["--window", str(self.window_side.value())]
        return tuple(found)

    def _follow(self, *_: object) -> None:
        path = self.path.text().strip()
        problem = ""
        if path and not os.path.exists(path):
            problem = tr("There is no such folder or file.")
        elif os.path.isfile(path) and not path.lower().endswith(_FILES):
            problem = tr(
                "A file of weights ends in .ckpt or .safetensors; of a model of several files, name its folder."
            )
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        self.import_button.setEnabled(bool(path) and not problem)
        self.name.setPlaceholderText(self.model_name)
        self.form.note(self.name, tr("Requests and scripts call it {id}.").format(id=self.model_id) if path else "")

    def _choose_folder(self) -> None:
        self._take(QFileDialog.getExistingDirectory(self, tr("Folder of the weights"), self.path.text()))

    def _choose_file(self) -> None:
        patterns = " ".join(f"*{written}" for ending in _FILES for written in (ending, ending.upper()))
        kinds = tr("Weights ({patterns})").format(patterns=patterns)
        self._take(QFileDialog.getOpenFileName(self, tr("File of weights"), self.path.text(), kinds)[0])

    def _take(self, path: str) -> None:
        if path:
            self.path.setText(os.path.normpath(path))

    def _accept(self) -> None:
        if self.import_button.isEnabled():
            path = os.path.abspath(self.path.text().strip())
            self.import_asked.emit(path, self.model_id, self.model_name, self.words())
            self.accept()


def _choose(parent: QWidget, choice: QComboBox, index: int, title: str) -> None:
    """Where the entry that asks for a folder was picked: ask, and show that folder, or nothing where none was named."""
    if choice.itemData(index) is not None:
        return
    folder = QFileDialog.getExistingDirectory(parent, title)
    if folder:
        choice.insertItem(index, os.path.basename(folder), os.path.normpath(folder))
    choice.setCurrentIndex(index if folder else 0)
