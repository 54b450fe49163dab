"""All that a model's card says, for a person to read."""

from html import escape
from typing import List, Optional, Tuple

from qgis.PyQt.QtCore import Qt, QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QVBoxLayout, QWidget

from ...engine.contract import Measure, ModelCard, Offer
from ..maps.guide import kind_name
from ..report import tr
from .numbers import count, decimal, megabytes, metres


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
        "cloud_cover": tr("cloud cover"),
        "control_strength": tr("strength of the layers that guide"),
        "content_strength": tr("strength of the content"),
        "mask": tr("polygons"),
        "strength": tr("strength"),
        "image_guidance": tr("how much of the source is kept"),
        "margin": tr("a margin beyond the source"),
    }
    used = [inputs.get(name, name) for name in card.uses]
    parts = [
        "<h3>" + escape(card.name) + "</h3><p>" + escape(card.summary) + "</p>",
        _section(tr("What it is not good at"), [card.limitations]),
        _section(tr("How good it is, measured"), [figure(measure) for measure in card.measures]),
        _section(tr("What it draws"), [", ".join(card.bands), ", ".join(card.vocabulary)]),
        _section(tr("Ground resolution"), [gsd_range(card)]),
        _section(tr("What changes the picture"), [", ".join(used)]),
        _section(tr("Layers that can guide it"), [", ".join(kind_name(kind) for kind in card.controls)]),
        _section(tr("What it needs to be given"), _needs(card)),
        _section(
            tr("What it gives beside samples"),
            [tr("The mean of all that it would draw: the most accurate picture")] if card.gives_mean else [],
        ),
        _section(tr("Memory"), [megabytes(card.memory_mb)] if card.memory_mb else []),
        _section(tr("Trained on"), list(card.training_data)),
        _section(tr("Licence"), [card.licence, card.attribution]),
        _section(tr("To cite"), [card.citation]),
        _section(
            tr("Identity"),
            [
                tr("{id}, version {version}, {parameters} weights").format(
                    id=card.id, version=card.version, parameters=count(card.parameters)
                )
                if card.parameters
                else tr("{id}, version {version}").format(id=card.id, version=card.version),
                tr("From {origin}").format(origin=card.origin) if card.origin else "",
            ],
        ),
    ]
    return "".join(parts)


def describe_offer(offer: Offer, needed: Tuple[str, ...] = ()) -> str:
    """All about a public model: its card, where it lives, and what a person accepts by fetching it.

    Args:
        offer: the model.
        needed: names of the models that it builds on.
    """
    card = offer.card
    link = '<a href="{address}">{address}</a>'.format(address=escape(offer_page(offer)))
    parts = [
        describe(card),
        _section(tr("Builds on"), list(needed)),
        "<p><b>" + escape(tr("Where it lives")) + "</b><br>" + link + "</p>",
        terms(offer),
    ]
    return "".join(parts)


def terms(offer: Offer) -> str:
    """What a person accepts by fetching a model, as rich text."""
    text = "<p><b>" + escape(tr("Terms")) + "</b><br>" + escape(offer.terms) + "</p>"
    if offer.licence_url:
        text += '<p><a href="{address}">{name}</a></p>'.format(
            address=escape(offer.licence_url),
            name=escape(tr("Read the licence: {address}").format(address=offer.licence_url)),
        )
    return text


def offer_page(offer: Offer) -> str:
    """The page of a public model at its host."""
    hosts = {"huggingface": "https://huggingface.co/{}", "zenodo": "https://zenodo.org/records/{}"}
    return hosts.get(offer.host, offer.host + "/{}").format(offer.repository)


def open_page(address: QUrl) -> None:
    """Open a page of the web in the person's own browser; anything else is no page."""
    if address.scheme() in ("http", "https"):
        QDesktopServices.openUrl(address)


def _needs(card: ModelCard) -> List[str]:
    lines = []
    if card.required:
        lines.append(", ".join(kind_name(kind) for kind in card.required))
    if card.frames:
        lines.append(tr("1 to {number} dated layers").format(number=card.frames))
    if card.source_bands:
        lines.append(tr("The bands {bands}").format(bands=", ".join(card.source_bands)))
    return lines


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
