"""What: a text, how long it may be, and what the model knows."""

from typing import List, Optional, Tuple

from qgis.PyQt.QtCore import QMimeData, QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QFontMetrics
from qgis.PyQt.QtWidgets import QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from ...engine.contract import PROMPT_LIMIT, ErrorCode, Failure, ModelCard, clean_prompt
from ..report import tr
from .numbers import count
from .words import Words

#: Most characters that are taken over at once: enough to see that it is too much, and quick to lay out.
_TAKEN = 2 * PROMPT_LIMIT


class TextInput(QPlainTextEdit):
    """A few lines of text; Tab leaves it."""

    def __init__(self, lines: int, parent: Optional[QWidget] = None) -> None:
        """Make an input that is so many lines high."""
        super().__init__(parent)
        self._lines = lines
        self.setTabChangesFocus(True)
        self.setFixedHeight(self.sizeHint().height())

    def sizeHint(self) -> QSize:  # noqa: N802  (Qt's name)
        """As high as its lines."""
        margin = 2 * (self.frameWidth() + int(self.document().documentMargin()))
        return QSize(160, QFontMetrics(self.font()).lineSpacing() * self._lines + margin)

    def insertFromMimeData(self, source: QMimeData) -> None:  # noqa: N802  (Qt's name)
        """Paste plain text; of a very long one only the beginning, which is refused as too long all the same."""
        self.insertPlainText(source.text()[:_TAKEN])


class PromptInput(QWidget):
    """A prompt with a counter and, where the model knows a closed list of words, that list.

    Signals:
        changed: the text is another.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None, lines: int = 3, use: str = "prompt") -> None:
        """Make an empty input.

        Args:
            parent: as usual.
            lines: how many it is high.
            use: what a card calls it, "prompt" or "negative_prompt".
        """
        super().__init__(parent)
        self._use = use
        self._card: Optional[ModelCard] = None
        self.edit = TextInput(lines, self)
        self.edit.setObjectName(use)
        self.counter = QLabel(self)
        self.counter.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.counter.setAccessibleName(tr("Length of the prompt"))
        self.words = Words(self)
        self.words.setAccessibleName(tr("Words that this model knows"))
        self.words.setToolTip(tr("Words that this model knows. Click one to add it to the prompt."))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.edit)
        column.addWidget(self.counter)
        column.addWidget(self.words)
        self.setFocusProxy(self.edit)
        self.words.hide()
        self.words.itemClicked.connect(self._take)
        self.words.itemActivated.connect(self._take_by_key)
        self.edit.textChanged.connect(self._announce)
        self._clicked = False
        self._count()

    def text(self) -> str:
        """The text as it will be used and recorded.

        Raises:
            ValueError: for a text that is too long.
        """
        return clean_prompt(self.edit.toPlainText())

    def set_text(self, text: str) -> None:
        """Show a text."""
        self.edit.setPlainText(text[:_TAKEN])

    def set_card(self, card: ModelCard) -> None:
        """Follow another model: what it knows, and whether it reads the text at all."""
        self._card = card
        if self._use == "prompt":
            self.set_vocabulary(card.vocabulary if self.is_used else ())

    @property
    def is_used(self) -> bool:
        """Whether the model reads the text."""
        return self._card is None or self._use in self._card.uses

    def value(self) -> str:
        """The text as it stands in a request: empty where the model does not read it.

        Raises:
            ValueError: for a text that is too long.
        """
        return self.text() if self.is_used else ""

    def remark(self) -> str:
        """What to say below a text that the model may not understand; else empty."""
        words = self._words()
        if not words or self.is_known(words):
            return ""
        return tr("It names none of these words; other words may be refused.")

    def set_vocabulary(self, words: Tuple[str, ...]) -> None:
        """Show what the model knows."""
        self.words.set_words(words)

    def is_known(self, words: Tuple[str, ...]) -> bool:
        """Whether the text is empty or names one of these words; a text that is too long is not searched."""
        if self._length() > PROMPT_LIMIT:
            return True
        text = self.edit.toPlainText()
        return not text.strip() or names_any(text, words)

    def problems(self) -> List[Failure]:
        """Why no job can start with this: too long, or empty where the model must be told what to draw."""
        length = self._length()
        if not self.is_used:
            return []
        if self._words() and not self.edit.toPlainText()[:_TAKEN].strip():
            message = tr("Say what the picture should show.")
            hint = tr("Click a word below the prompt, or write some.")
            return [Failure(ErrorCode.PROMPT_NOT_UNDERSTOOD, message, hint)]
        if length <= PROMPT_LIMIT:
            return []
        return [
            Failure(
                ErrorCode.PROMPT_TOO_LONG,
                tr("The prompt has {length} characters, at most {limit} are read.").format(
                    length=count(length), limit=count(PROMPT_LIMIT)
                ),
                tr("Shorten it."),
            )
        ]

    def add(self, word: str) -> None:
        """Add a word at the end, after a comma."""
        text = self.edit.toPlainText().rstrip().rstrip(",")
        self.edit.setPlainText(text + ", " + word if text else word)

    def _words(self) -> Tuple[str, ...]:
        """The closed list that the text must name a word of; empty where there is none."""
        is_asked = self._card is not None and self._use == "prompt" and self.is_used
        return self._card.vocabulary if is_asked else ()

    def _length(self) -> int:
        # characterCount counts the end of the last paragraph too; cheaper than a copy of a text that may be large
        return max(0, self.edit.document().characterCount() - 1)

    def _take(self, item: object) -> None:
        self._clicked = True
        self.add(item.text())

    def _take_by_key(self, item: object) -> None:
        # where the desktop activates with a single click, itemActivated follows itemClicked for the same click
        if not self._clicked:
            self.add(item.text())
        self._clicked = False

    def _announce(self) -> None:
        self._clicked = False
        self._count()
        self.changed.emit()

    def _count(self) -> None:
        length = self._length()
        text = tr("{length} of {limit} characters").format(length=count(length), limit=count(PROMPT_LIMIT))
        self.counter.setText(text)
        self.counter.setVisible(length > PROMPT_LIMIT // 2)


def names_any(text: str, words: Tuple[str, ...]) -> bool:
    """Whether a text names one of a model's words, as far as that can be told without the model."""
    return any(word.casefold() in text.casefold() for word in words)
