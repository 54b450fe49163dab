"""The public models: which can be fetched, which are here, and the one that is on its way. The session owns it."""

import hashlib
import os
from dataclasses import replace
from typing import Callable, Dict, List, Optional, Tuple

from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.contract import Failure, Fetching, Files, Installed, Offer, Removed
from . import catalogue, settings
from .link.channel import Channel
from .link.models import ModelCommand, models_channel
from .transfer import Pace, Transfer


class Store(QObject):
    """Fetches, imports and removes models, one at a time; asks no network unless a person asked for it.

    Signals:
        offers_changed(): other offers, or other states of them.
        listed(str, object, object): what a host says of an offer: its id, and the ``Files`` or the ``Failure``.
        transfer_changed(): a fetch or an import began, went on or ended.
        installed(object): the card of a model that can be picked now.
        removed(str): id of a model that is gone.
        failed(str, object): a fetch, an import or a removal went wrong: id and ``Failure``; what shows it logs it.
    """

    offers_changed = pyqtSignal()
    listed = pyqtSignal(str, object, object)
    transfer_changed = pyqtSignal()
    installed = pyqtSignal(object)
    removed = pyqtSignal(str)
    failed = pyqtSignal(str, object)

    def __init__(
        self,
        parent: Optional[QObject] = None,
        open_channel: Callable[[Tuple[str, ...]], Channel] = models_channel,
    ):
        """Read the catalogue; start nothing.

        Args:
            parent: owner.
            open_channel: makes the way to the process of one command.
        """
        super().__init__(parent)
        self._open_channel = open_channel
        self._offers = catalogue.offers()
        self._listing: Optional[ModelCommand] = None
        self._working: Optional[ModelCommand] = None
        self._transfer: Optional[Transfer] = None
        self._waiting: List[Transfer] = []
        self._accepted: Dict[str, str] = {}  # model -> what the engine asks for: the hash of the terms
        self._pace = Pace()

    # what widgets read

    @property
    def folder(self) -> str:
        """Where fetched and imported models lie."""
        return settings.models_folder()

    @property
    def offers(self) -> Tuple[Offer, ...]:
        """The public models that this version knows, as they were at the last ``refresh``."""
        return self._offers

    @property
    def transfer(self) -> Optional[Transfer]:
        """The fetch or import that runs, None where none does."""
        return self._transfer

    @property
    def waiting(self) -> Tuple[Transfer, ...]:
        """Those that begin after it, in order."""
        return tuple(self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether something is being fetched, imported or removed."""
        return self._working is not None

    def offer(self, id: str) -> Optional[Offer]:
        """The offer with this id, None where there is none."""
        return next((offer for offer in self._offers if offer.card.id == id), None)

    def lacking(self, id: str) -> Tuple[Offer, ...]:
        """What must be fetched for an offer: those that it needs and that are not here, then itself."""
        order: Dict[str, Offer] = {}

        def visit(wanted: str, above: Tuple[str, ...]) -> None:
            offer = self.offer(wanted)
            if offer is None or wanted in above:
                return
            for needed in offer.needs:
                visit(needed, (*above, wanted))
            if offer.state != "installed" or wanted == id:
                order.setdefault(wanted, offer)

        visit(id, ())
        return tuple(order.values())

    def held(self, id: str) -> int:
        """Bytes that a model takes on the disk, what was fetched of it so far included."""
        store = settings.models_folder()
        return size_of(os.path.join(store, id)) + size_of(os.path.join(store, catalogue.PARTIAL, id))

    # what widgets ask

    def refresh(self) -> None:
        """See anew which models are here. Starts no engine and reaches no network."""
        self._offers = catalogue.offers()
        self.offers_changed.emit()

    def list_files(self, id: str) -> None:
        """Ask the host of an offer for its files; ``listed`` follows. The last one that is asked for counts."""
        self.cancel_list()
        command = self._listing = self._command("files", id)
        command.ended.connect(lambda files, failure: self._listed(command, id, files, failure))
        command.start()

    def cancel_list(self) -> None:
        """Wait no longer for a list of files."""
        command, self._listing = self._listing, None
        if command is not None:
            command.cancel()

    def get(self, *offers: Offer) -> None:
        """Fetch these offers, one after the other, or go on with them.

        Args:
            offers: as they were shown to the person, who has accepted the terms of each.
        """
        for offer in offers:
            if offer.card.id not in self._ids():
                self._waiting.append(Transfer(offer.card.id, offer.card.name))
                self._accepted[offer.card.id] = hashlib.sha256(offer.terms.encode()).hexdigest()
        self._next()

    def import_model(self, path: str, id: str, name: str, words: Tuple[str, ...] = ()) -> None:
        """Import a folder or a file of weights from this computer's disk; nothing else may run.

        Args:
            path: of the folder or file.
            id: that the model gets.
            name: that the model gets.
            words: further options of the engine's ``models import``.
        """
        if self._working is not None:
            return
        self._begin(Transfer(id, name, is_import=True), "import", path, "--id", id, "--name", name, *words)

    def cancel(self) -> None:
        """Stop what runs and forget what waits; what was fetched stays."""
        self._forget_waiting()
        if self._working is not None and self._transfer is not None:
            self._transfer = replace(self._transfer, stage="stopping", rate=None)
            self._working.cancel()
            self.transfer_changed.emit()

    def remove(self, id: str) -> None:
        """Take a model, or what was fetched of it, off the disk; ``removed`` follows."""
        if self._working is not None:
            return
        self._working = self._command("remove", id)
        self._working.ended.connect(lambda answer, failure: self._done(id, answer, failure))
        self._working.start()
        self.transfer_changed.emit()

    def stop(self) -> None:
        """End everything because the plugin or QGIS ends; a later get goes on."""
        self._forget_waiting()
        commands = [command for command in (self._listing, self._working) if command is not None]
        self._listing = self._working = self._transfer = None
        for command in commands:
            command.blockSignals(True)
            command.stop()

    # answers

    def _command(self, *words: str) -> ModelCommand:
        command = ModelCommand(*words, open_channel=self._open_channel, parent=self)
        command.ended.connect(lambda *_: command.deleteLater())
        return command

    def _ids(self) -> List[str]:
        """Of what runs and waits."""
        running = [] if self._transfer is None else [self._transfer.model]
        return [*running, *(transfer.model for transfer in self._waiting)]

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        self._accepted.clear()

    def _next(self) -> None:
        if self._working is None and self._waiting:
            transfer = self._waiting.pop(0)
            accepted = self._accepted.pop(transfer.model)
            self._begin(transfer, "get", transfer.model, "--accept-terms", accepted)
        else:
            self.transfer_changed.emit()

    def _begin(self, transfer: Transfer, *words: str) -> None:
        self._pace = Pace()
        self._transfer = replace(transfer, stage="starting")
        self._working = self._command(*words)
        self._working.progressed.connect(self._progressed)
        self._working.ended.connect(lambda answer, failure: self._done(transfer.model, answer, failure))
        self._working.start()
        self.transfer_changed.emit()

    def _progressed(self, notice: object) -> None:
        if self._transfer is None or self._transfer.stage == "stopping":
            return
        if isinstance(notice, Files):
            total, done = sum(file.size for file in notice.files), sum(file.done for file in notice.files)
            self._transfer = replace(self._transfer, total=total, done=done)
        elif isinstance(notice, Fetching):
            self._transfer = replace(
                self._transfer,
                stage=notice.stage,
                file=notice.file,
                done=notice.done,
                total=notice.total,
                rate=self._pace.rate(notice.done, notice.total),
            )
        self.transfer_changed.emit()

    def _done(self, id: str, answer: object, failure: Optional[Failure]) -> None:
        self._working = self._transfer = None
        self.refresh()
        if failure is not None:
            self._forget_waiting()  # it may need the one that failed
            self.failed.emit(id, failure)
        elif isinstance(answer, Installed):
            self.installed.emit(answer.card)
        elif isinstance(answer, Removed):
            self.removed.emit(answer.id)
        self._next()

    def _listed(self, command: ModelCommand, id: str, files: Optional[Files], failure: Optional[Failure]) -> None:
        if command is self._listing:  # not one that nobody waits for any more
            self._listing = None
            self.listed.emit(id, files, failure)


def imported_id(name: str, taken: Tuple[str, ...]) -> str:
    """An id for an imported model out of its name: lower case, hyphens, and a number where it is taken.

    Args:
        name: as the person wrote it.
        taken: ids that there are.
    """
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in name.lower()).split()
    stem = "-".join(words)[:60].strip("-") or "model"
    number, id = 1, stem
    while id in taken:
        number += 1
        id = f"{stem}-{number}"
    return id


def size_of(folder: str) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    files = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    return sum(os.lstat(file).st_size for file in files if os.path.lexists(file))
