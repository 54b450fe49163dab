"""All that a model's card says, for a person to read."""

from html import escape
from typing import List, Optional

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QVBoxLayout, QWidget

from ...engine.contract import Measure, ModelCard
from ..report import tr
from .numbers import count, decimal, metres


def gsd_range(card: ModelCard) -> str:
    """The ground resolutions that a model was trained on: "10 m", or "0.3 to 10 m"."""
    finest, coarsest = card.gsd
    if finest == coarsest:
        return metres(finest)
    return tr("{finest} to {coarsest}").format(finest=metres(finest), coarsest=metres(coarsest))


def figure(measure: Measure) -> str:
    """One measured figure as a sentence."""
    text = tr("{name}: {value} on {data}").format(
        name=measure.name, value=(decimal(measure.value, 4) + " " + measure.unit).strip(), data=measure.on
    )
    return text + " (" + measure.reference + ")" if measure.reference else text


def tooltip(card: ModelCard) -> str:
    """The card in short, as rich text."""
    lines = [card.summary, tr("Trained for {range} a pixel.").format(range=gsd_range(card))]
    lines += [figure(measure) for measure in card.measures]
    if card.licence:
        lines.append(tr("Licence: {licence}").format(licence=card.licence))
    rows = "".join("<p>" + escape(line) + "</p>" for line in lines if line)
    return "<b>" + escape(card.name) + "</b>" + rows


def describe(card: ModelCard) -> str:
    """The whole card, as rich text in the theme's own colours."""
    inputs = {
        "prompt": tr("prompt"),
        "negative_prompt": tr("negative prompt"),
        "gsd": tr("ground resolution"),
        "date": tr("date"),
        "place": tr("place"),
    }
    used = [inputs.get(name, name) for name in card.uses]
    parts = [
        "<h3>" + escape(card.name) + "</h3><p>" + escape(card.summary) + "</p>",
        _section(tr("What it is not good at"), [card.limitations]),
        _section(tr("How good it is, measured"), [figure(measure) for measure in card.measures]),
        _section(tr("What it draws"), [", ".join(card.bands), ", ".join(card.vocabulary)]),
        _section(tr("Ground resolution"), [gsd_range(card)]),
        _section(tr("What changes the picture"), [", ".join(used)]),
        _section(tr("Trained on"), list(card.training_data)),
        _section(tr("Licence"), [card.licence, card.attribution]),
        _section(tr("To cite"), [card.citation]),
        _section(
            tr("Identity"),
            [
                tr("{id}, version {version}, {parameters} weights").format(
                    id=card.id, version=card.version, parameters=count(card.parameters)
                )
            ],
        ),
    ]
    return "".join(parts)


class AboutModel(QDialog):
    """A window that shows one card; it blocks nothing and goes away when closed."""

    def __init__(self, card: ModelCard, parent: Optional[QWidget] = None) -> None:
        """Show a card."""
        super().__init__(parent)
        self.setWindowTitle(tr("About {name}").format(name=card.name))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.text = QTextBrowser(self)
        self.text.setAccessibleName(self.windowTitle())
        self.text.setOpenLinks(False)
        self.text.setHtml(describe(card))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.rejected.connect(self.close)
        column = QVBoxLayout(self)
        column.addWidget(self.text)
        column.addWidget(buttons)
        metrics = self.fontMetrics()
        self.resize(metrics.averageCharWidth() * 80, metrics.lineSpacing() * 30)


def _section(title: str, lines: List[str]) -> str:
    kept = [escape(line) for line in lines if line]
    if not kept:
        return ""
    return "<p><b>" + escape(title) + "</b><br>" + "<br>".join(kept) + "</p>"
