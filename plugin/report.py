"""How we talk to a person: translated sentences, problems with a next step, the log panel, the message bar."""

from qgis.core import Qgis, QgsMessageLog
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtWidgets import QPushButton

from ..engine.contract import ErrorCode, Failure

#: Tab of QGIS's log panel, and translation context.
TAG = "Afterimage"


def tr(text: str) -> str:
    """The text in the language of QGIS."""
    return QCoreApplication.translate(TAG, text)


class Problem(Exception):
    """Something cannot be done; carries the ``Failure`` that tells the person why and what to do next.

    Attributes:
        failure: the same facts in the contract's words.
    """

    def __init__(self, code: ErrorCode, message: str, hint: str = "", detail: str = "", resumable: bool = False):
        """Make a problem from a stable code, one sentence for the person and one sentence with the next step."""
        super().__init__(message)
        self.failure = Failure(code, message, hint, detail, resumable)

    @classmethod
    def of(cls, failure: Failure) -> "Problem":
        """The problem that carries this failure."""
        return cls(failure.code, failure.message, failure.hint, failure.detail, failure.resumable)


def sentence(failure: Failure) -> str:
    """The failure as a person reads it: what happened, then what to do."""
    return f"{failure.message} {failure.hint}".strip()


def log(message: str, level: Qgis.MessageLevel = Qgis.MessageLevel.Info) -> None:
    """Write to QGIS's log panel, from any thread, without a notice over the map."""
    QgsMessageLog.logMessage(message, TAG, level, False)


def log_failure(failure: Failure) -> None:
    """Write a failure with its code and detail to the log panel."""
    log(f"[{failure.code.value}] {sentence(failure)}\n{failure.detail}".rstrip(), Qgis.MessageLevel.Warning)


def show(iface_message_bar, failure: Failure) -> None:
    """Show a failure in a ``QgsMessageBar``: one sentence, the next step, and a button that opens the log panel."""
    log_failure(failure)
    item = iface_message_bar.createMessage(TAG, sentence(failure))
    details = QPushButton(tr("Details"), item)
    details.setToolTip(tr("Open the log panel"))
    details.clicked.connect(lambda: open_log())
    item.layout().addWidget(details)
    iface_message_bar.pushWidget(item, Qgis.MessageLevel.Warning)


def open_log() -> None:
    """Open QGIS's log panel, where there is a QGIS window."""
    from qgis.utils import iface  # bound when the window exists, None in qgis_process

    if iface is not None:
        iface.openMessageLog()
