"""Before anything is fetched: the files and their sizes, the space there is, the licence, and a box to accept it."""

from html import escape
from typing import List, Optional, Tuple

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QTextBrowser,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...engine.contract import Failure, Files, Offer, RemoteFile
from ..report import sentence, tr
from .about import offer_page, open_page, terms
from .numbers import count, size
from .quiet import QuietLabel


class FetchDialog(QDialog):
    """Asks the host what an offer consists of, and the person whether to fetch it.

    Signals:
        get_asked(object): the person accepts the terms: fetch these offers, in order.
    """

    get_asked = pyqtSignal(object)

    def __init__(self, store: object, offers: Tuple[Offer, ...], parent: Optional[QWidget] = None) -> None:
        """Show an offer, and begin to ask for its files.

        Args:
            store: the session's.
            offers: what to fetch, in order: those that the last one needs, then itself.
            parent: as usual.
        """
        super().__init__(parent)
        self.setObjectName("fetch")
        self._store = store
        self._offers = offers
        self._lists: List[Files] = []
        is_begun = offers[-1].state == "partial"
        title = tr("Go on fetching {name}") if is_begun else tr("Fetch {name}")
        self.setWindowTitle(title.format(name=offers[-1].card.name))
        self.state = QLabel(self)
        self.state.setObjectName("listing")
        self.state.setWordWrap(True)
        self.state.setTextFormat(Qt.TextFormat.PlainText)
        self.busy = QProgressBar(self)
        self.busy.setRange(0, 0)
        self.busy.setTextVisible(False)
        self.busy.setMaximumHeight(max(6, self.fontMetrics().height() // 2))
        self.busy.setAccessibleName(tr("The list of files is on its way"))
        self.again_button = QPushButton(tr("Try again"), self)
        self.again_button.setObjectName("list_again")
        self.again_button.setAutoDefault(False)
        self.files = QTreeWidget(self)
        self.files.setObjectName("files")
        self.files.setAccessibleName(tr("Files"))
        self.files.setHeaderLabels([tr("File"), tr("Size"), tr("Here already")])
        self.files.setRootIsDecorated(False)
        self.files.setUniformRowHeights(True)
        self.files.header().setStretchLastSection(False)
        self.files.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            self.files.header().setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.space = QuietLabel(parent=self)
        self.terms = QTextBrowser(self)
        self.terms.setObjectName("terms")
        self.terms.setAccessibleName(tr("Licence and terms"))
        self.terms.setOpenLinks(False)
        self.terms.setHtml("".join(_terms(offer) for offer in offers))
        self.accept_box = QCheckBox(
            tr("I have read the licence and the terms, and I &accept them")
            if len(offers) == 1
            else tr("I have read the licences and the terms of all of them, and I &accept them"),
            self,
        )
        self.accept_box.setObjectName("accept_terms")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel, self)
        self.get_button = QPushButton(tr("&Go on") if is_begun else tr("&Fetch"), self)
        self.get_button.setObjectName("get")
        buttons.addButton(self.get_button, QDialogButtonBox.ButtonRole.AcceptRole)
        self._lay_out(buttons)
        buttons.accepted.connect(self._accept)
        buttons.rejected.connect(self.reject)
        self.terms.anchorClicked.connect(open_page)
        self.accept_box.toggled.connect(self._follow)
        self.again_button.clicked.connect(lambda *_: self._ask())
        self.finished.connect(lambda *_: store.cancel_list())
        store.listed.connect(self._listed)
        self._ask()

    @property
    def remaining(self) -> int:
        """Bytes that are still to come."""
        return sum(file.size - file.done for files in self._lists for file in files.files)

    def _lay_out(self, buttons: QDialogButtonBox) -> None:
        head = QHBoxLayout()
        head.addWidget(self.state, 1)
        head.addWidget(self.again_button, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.addLayout(head)
        column.addWidget(self.busy)
        column.addWidget(self.files, 3)
        column.addWidget(self.space)
        column.addWidget(self.terms, 3)
        column.addWidget(self.accept_box)
        column.addWidget(buttons)
        metrics = self.fontMetrics()
        self.resize(metrics.averageCharWidth() * 84, metrics.lineSpacing() * 34)

    def _ask(self) -> None:
        """Ask for the files of the next offer."""
        offer = self._offers[len(self._lists)]
        text = tr("Asking {host} for the files of {name}\u2026")
        self.state.setText(text.format(host=_host(offer), name=offer.card.name))
        self._store.list_files(offer.card.id)
        self._follow()

    def _listed(self, id: str, files: Optional[Files], failure: Optional[Failure]) -> None:
        if len(self._lists) == len(self._offers) or id != self._offers[len(self._lists)].card.id:
            return
        if files is None:
            text = f"{failure.code.value}: {sentence(failure)}" if failure is not None else ""
            self.state.setText(text)
            self._follow(is_refused=True)
            return
        self._lists.append(files)
        if len(self._lists) < len(self._offers):
            self._ask()
            return
        self._show_files()
        self._follow()

    def _show_files(self) -> None:
        sizes, number = 0, 0
        for offer, files in zip(self._offers, self._lists):
            above = self.files
            if len(self._offers) > 1:
                above = QTreeWidgetItem(self.files, [offer.card.name])
                above.setFlags(Qt.ItemFlag.ItemIsEnabled)
                above.setFirstColumnSpanned(True)
            for file in files.files:
                _item(above, file)
            sizes += sum(file.size for file in files.files)
            number += len(files.files)
        self.files.expandAll()
        pinned = ", ".join(_pin(offer, files) for offer, files in zip(self._offers, self._lists))
        self.state.setText(
            tr("{number} files, {size}, from {pinned}").format(number=count(number), size=size(sizes), pinned=pinned)
        )
        here = sizes - self.remaining
        parts = [tr("{size} to fetch").format(size=size(self.remaining))]
        if here:
            parts.append(tr("{size} are here already").format(size=size(here)))
        parts.append(tr("{size} are free in {folder}").format(size=size(self._free()), folder=self._store.folder))
        text = ", ".join(parts) + "."
        if not self._fits():
            text += " " + tr("That is not enough: free some space, or choose another folder for the models.")
        self.space.setText(text)

    def _free(self) -> int:
        return min((files.free for files in self._lists), default=0)

    def _fits(self) -> bool:
        return self.remaining <= self._free()

    def _follow(self, *_: object, is_refused: bool = False) -> None:
        is_known = len(self._lists) == len(self._offers)
        self.busy.setVisible(not is_known and not is_refused)
        self.again_button.setVisible(is_refused)
        self.accept_box.setEnabled(is_known and self._fits())
        self.get_button.setEnabled(is_known and self._fits() and self.accept_box.isChecked())
        self.get_button.setDefault(self.get_button.isEnabled())
        if not is_known:
            tip = tr("First the list of files must be here")
        elif not self._fits():
            tip = tr("There is not enough space")
        else:
            tip = "" if self.accept_box.isChecked() else tr("First accept the terms")
        self.get_button.setToolTip(tip)
        self.get_button.setAccessibleDescription(tip)

    def _accept(self) -> None:
        if self.get_button.isEnabled():
            self.get_asked.emit(self._offers)
            self.accept()


def _item(above: object, file: RemoteFile) -> QTreeWidgetItem:
    here = "" if not file.done else tr("all") if file.done == file.size else size(file.done)
    item = QTreeWidgetItem(above, [file.path, size(file.size), here])
    item.setToolTip(0, file.path)
    item.setToolTip(1, tr("{number} bytes").format(number=count(file.size)))
    return item


def _host(offer: Offer) -> str:
    return offer_page(offer).split("/")[2] if "//" in offer_page(offer) else offer.host


def _pin(offer: Offer, files: Files) -> str:
    """Where exactly the files come from."""
    if not files.commit:
        return offer_page(offer)
    return tr("{page}, as of {commit}").format(page=offer_page(offer), commit=files.commit[:12])


def _terms(offer: Offer) -> str:
    licence = "<p><b>" + escape(tr("Licence of {name}").format(name=offer.card.name)) + "</b><br>"
    return licence + escape(offer.card.licence) + "</p>" + terms(offer)
