"""The window of the models: which there are, what they can do, and fetching, importing and removing them."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QSplitter,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from ..engine.contract import ErrorCode, Failure, ModelCard, Offer
from . import cards, settings
from .report import Problem, log_failure, sentence, tr
from .session import Session
from .store import size_of
from .widgets.about import describe, describe_offer, open_page
from .widgets.elided import ElidedLabel
from .widgets.fetch import FetchDialog
from .widgets.importing import BASES, ImportDialog
from .widgets.numbers import size
from .widgets.offers import OfferTree, Row
from .widgets.quiet import QuietLabel
from .widgets.transfer import TransferBox


class ModelsDialog(QDialog):
    """Every model, by task. It blocks nothing; a fetch goes on when it is closed."""

    def __init__(self, session: Session, parent: Optional[QWidget] = None) -> None:
        """Show the models of a session, and follow them; starts nothing."""
        super().__init__(parent)
        self.setObjectName("models_window")
        self.setWindowTitle(tr("Models of Afterimage"))
        self._session = session
        self._store = session.store
        self._measured: Dict[str, int] = {}  # folder or model -> bytes
        self._leaving: Tuple[str, int] = ("", 0)  # name, and bytes that become free
        self.tree = OfferTree(self)
        self.about = QTextBrowser(self)
        self.about.setObjectName("about_offer")
        self.about.setAccessibleName(tr("About the model that is chosen"))
        self.about.setOpenLinks(False)
        self.get_button = self._button("get_model", tr("&Fetch\u2026"))
        self.import_button = self._button("import_model", tr("&Import folder or .ckpt\u2026"))
        self.remove_button = self._button("remove_model", tr("&Remove\u2026"))
        self.reason = QuietLabel(parent=self)
        self.reason.setObjectName("reason")
        self.transfer = TransferBox(self)
        self.said = QLabel(self)
        self.said.setObjectName("said")
        self.said.setWordWrap(True)
        self.said.setTextFormat(Qt.TextFormat.PlainText)
        self.folder = ElidedLabel(parent=self)
        self.folder.setObjectName("models_folder")
        self.folder_button = self._button("change_folder", tr("Change f&older\u2026"))
        self._lay_out()
        self._connect()
        self._store.refresh()
        self._tell("")
        self._follow()

    def show_task(self, task: str) -> None:
        """Choose a model that can do a task ("" for any), one that could be fetched if there is one."""
        self.tree.show_task(task)

    def _button(self, name: str, text: str) -> QPushButton:
        button = QPushButton(text, self)
        button.setObjectName(name)
        button.setAutoDefault(False)
        return button

    def _lay_out(self) -> None:
        self.splitter = QSplitter(Qt.Orientation.Vertical, self)
        self.splitter.addWidget(self.tree)
        self.splitter.addWidget(self.about)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.setStretchFactor(0, 3)
        self.splitter.setStretchFactor(1, 2)
        actions = QHBoxLayout()
        for button in (self.get_button, self.remove_button):
            actions.addWidget(button)
        actions.addWidget(self.reason, 1)
        actions.addWidget(self.import_button)
        place = QHBoxLayout()
        place.addWidget(self.folder, 1)
        place.addWidget(self.folder_button)
        close = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        close.button(QDialogButtonBox.StandardButton.Close).setAutoDefault(False)
        close.rejected.connect(self.reject)
        place.addWidget(close)
        column = QVBoxLayout(self)
        column.addWidget(self.splitter, 1)
        column.addLayout(actions)
        column.addWidget(self.transfer)
        column.addWidget(self.said)
        column.addLayout(place)
        metrics = self.fontMetrics()
        self.resize(metrics.averageCharWidth() * 120, metrics.lineSpacing() * 42)

    def _connect(self) -> None:
        session, store = self._session, self._store
        self.tree.picked.connect(self._follow_choice)
        self.tree.itemActivated.connect(lambda *_: self.get_button.isEnabled() and self._fetch())
        self.about.anchorClicked.connect(open_page)
        self.get_button.clicked.connect(lambda *_: self._fetch())
        self.import_button.clicked.connect(lambda *_: self._import())
        self.remove_button.clicked.connect(lambda *_: self._remove())
        self.folder_button.clicked.connect(lambda *_: self._change_folder())
        self.transfer.cancel_asked.connect(store.cancel)
        session.cards_changed.connect(self._follow)
        session.engine_changed.connect(self._follow_choice)
        store.offers_changed.connect(self._follow_offers)
        store.transfer_changed.connect(self._follow_transfer)
        store.installed.connect(self._installed)
        store.removed.connect(self._removed)
        store.failed.connect(self._failed)

    # what is shown

    def _follow_offers(self) -> None:
        self._measured.clear()
        self._follow()

    def _follow(self) -> None:
        """Show other models, or other states of them."""
        found = [(card, self._store.offer(card.id)) for card in self._session.cards]
        here, folders = {card.id for card, _ in found}, cards.folders()
        found += [(offer.card, offer) for offer in self._store.offers if offer.card.id not in here]
        self._all = tuple(self._row(card, offer, folders.get(card.id)) for card, offer in found)
        folder = self._store.folder
        self.folder.setText(
            tr("Models lie in {folder}, where {free} are free").format(folder=folder, free=size(_free(folder)))
        )
        self.folder.setAccessibleName(self.folder.text())
        self._follow_transfer()

    def _row(self, card: ModelCard, offer: Optional[Offer], folder: Optional[Path]) -> Row:
        if folder is not None:
            state = {cards.MODELS: "shipped", Path(self._store.folder): "installed"}.get(folder.parent, "yours")
            taken = self._bytes(str(folder), size_of)
        else:
            state, taken = ("available", 0) if offer is None else (offer.state, offer.size)
        held = self._bytes(card.id, self._store.held) if state in ("installed", "partial") else 0
        return Row(card, state, offer, taken, held)

    def _bytes(self, what: str, measure: Callable[[str], int]) -> int:
        """Bytes of a folder or of a model, measured once for as long as no model comes or goes."""
        if what not in self._measured:
            self._measured[what] = measure(what)
        return self._measured[what]

    def _follow_transfer(self) -> None:
        """Show how far the transfer is."""
        transfer, waiting = self._store.transfer, self._store.waiting
        rows = []
        for row in self._all:
            if transfer is not None and transfer.model == row.id:
                percent = int(100 * transfer.done / transfer.total) if transfer.total else None
                row = replace(row, state="fetching", percent=percent)
            elif row.id in [each.model for each in waiting]:
                row = replace(row, state="waiting")
            rows.append(row)
        self.tree.set_rows(tuple(rows))
        self.transfer.show_transfer(transfer, waiting)
        if transfer is not None:
            self._tell("")
        self._follow_choice()

    def _follow_choice(self, *_: object) -> None:
        """Show what can be done with the model that is chosen."""
        row, lack, is_busy = self.tree.row, self._engine_lack(), self._store.is_busy
        text = "" if row is None else self._describe(row)
        if text != self.about.property("shown"):
            self.about.setProperty("shown", text)
            self.about.setHtml(text)
        is_partial = row is not None and row.state == "partial"
        can_get = row is not None and row.offer is not None and row.state in ("available", "partial")
        can_remove = row is not None and row.state in ("installed", "partial")
        self.get_button.setText(tr("Go on &fetching\u2026") if is_partial else tr("&Fetch\u2026"))
        self.get_button.setEnabled(can_get and not lack)
        self.import_button.setEnabled(not is_busy and not lack)
        self.remove_button.setEnabled(can_remove and not is_busy and not lack)
        is_fixed = bool(os.environ.get(settings.MODELS_VARIABLE))
        self.folder_button.setEnabled(not is_busy and not is_fixed)
        variable = tr("The environment variable {name} says where").format(name=settings.MODELS_VARIABLE)
        self.folder_button.setToolTip(variable if is_fixed else tr("Models that lie in the old folder stay there"))
        reason = lack
        if row is not None and not lack:
            reason = {
                "shipped": tr("This model comes with the plugin."),
                "yours": tr("This model lies in a folder that {name} names.").format(name=cards.MORE),
            }.get(row.state, "")
        self.reason.setText(reason)
        for button in (self.get_button, self.import_button, self.remove_button):
            button.setAccessibleDescription(reason if not button.isEnabled() else "")

    def _describe(self, row: Row) -> str:
        if row.offer is None:
            return describe(row.card)
        needed = [self._store.offer(id) for id in row.offer.needs]
        return describe_offer(row.offer, tuple(offer.card.name for offer in needed if offer is not None))

    def _engine_lack(self) -> str:
        """Why nothing can be fetched, imported or removed; "" where it can."""
        if self._session.engine_state == "installing":
            return tr("The engine is being installed; it fetches the models.")
        failure = self._session.engine_problem
        is_missing = self._session.engine_state == "missing" and failure is not None
        return tr("The engine fetches the models.") + " " + sentence(failure) if is_missing else ""

    def _tell(self, text: str) -> None:
        self.said.setText(text)
        self.said.setAccessibleName(text)
        self.said.setVisible(bool(text))

    # what is done

    def _fetch(self) -> None:
        row = self.tree.row
        if row is None or row.offer is None:
            return
        dialog = FetchDialog(self._store, self._store.lacking(row.id), self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.get_asked.connect(self._get)
        dialog.open()

    def _get(self, offers: Tuple[Offer, ...]) -> None:
        self.transfer.show_problem(None)
        self._store.get(*offers)

    def _import(self) -> None:
        offers = tuple(offer for offer in self._store.offers if offer.state != "installed")
        folders = cards.folders()
        mine = [card for card in self._session.cards if card.family in BASES and card.id in folders]
        bases = tuple((card.name, str(folders[card.id])) for card in mine)
        taken = [card.id for card in self._session.cards] + [offer.card.id for offer in self._store.offers]
        dialog = ImportDialog(offers, bases, tuple(taken), self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.import_asked.connect(self._begin_import)
        dialog.open()

    def _begin_import(self, path: str, id: str, name: str, words: Tuple[str, ...]) -> None:
        self.transfer.show_problem(None)
        self._store.import_model(path, id, name, words)

    def _remove(self) -> None:
        row = self.tree.row
        if row is None:
            return
        freed = size(row.done)
        lines = [tr("{size} in {folder} become free.").format(size=freed, folder=self._store.folder)]
        users = [other.card.name for other in self._users(row.id)]
        if users:
            lines.append(tr("It was the base of: {names}.").format(names=", ".join(users)))
        if row.offer is not None:
            lines.append(tr("It can be fetched again."))
        else:
            lines.append(tr("The files that it was imported from are not touched."))
        box = QMessageBox(self)
        box.setObjectName("confirm_remove")
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle(tr("Remove {name}").format(name=row.card.name))
        box.setText(tr("Remove {name} from this computer?").format(name=row.card.name))
        box.setInformativeText(" ".join(lines))
        sure = box.addButton(tr("&Remove"), QMessageBox.ButtonRole.AcceptRole)
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.buttonClicked.connect(lambda button: button is sure and self._remove_now(row))
        box.open()

    def _remove_now(self, row: Row) -> None:
        self.transfer.show_problem(None)
        self._leaving = (row.card.name, row.done)
        try:
            self._session.remove_model(row.id)
        except Problem as problem:
            self.transfer.show_problem(problem.failure, row.card.name)

    def _users(self, id: str) -> List[Offer]:
        return [offer for offer in self._store.offers if id in offer.needs and offer.state == "installed"]

    def _change_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, tr("Folder for models"), self._store.folder)
        if not folder or os.path.abspath(folder) == self._store.folder:
            return
        if not os.access(folder, os.W_OK):
            message = tr("Nothing can be written to {folder}.").format(folder=folder)
            failure = Failure(ErrorCode.OUTPUT_NOT_WRITABLE, message, tr("Choose another folder."))
            self.transfer.show_problem(failure, tr("Folder for models"))
            return
        self.transfer.show_problem(None)
        self._session.set_models_folder(folder)

    # what became of it

    def _installed(self, card: ModelCard) -> None:
        text = tr("{name} is installed: the forms of {tasks} offer it now.")
        self._tell(text.format(name=card.name, tasks=", ".join(self.tree.titles(card.tasks))))

    def _removed(self, _: str) -> None:
        name, freed = self._leaving
        self._tell(tr("{name} was removed: {size} are free again.").format(name=name, size=size(freed)))

    def _failed(self, id: str, failure: Failure) -> None:
        row = next((row for row in self._all if row.id == id), None)
        self._tell("")
        log_failure(failure)
        self.transfer.show_problem(failure, id if row is None else row.card.name)


def _free(folder: str) -> int:
    """Bytes that are free where a folder lies or will lie."""
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(str(place)).free
