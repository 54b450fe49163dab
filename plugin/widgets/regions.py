"""Polygons with texts of their own: a layer, the field with the texts, and what of it lies in the extent."""

from typing import Dict, Iterable, List, Optional

from qgis.core import QgsFieldProxyModel, QgsMapLayerProxyModel, QgsProject, QgsVectorLayer
from qgis.gui import QgsCollapsibleGroupBoxBasic, QgsFieldExpressionWidget, QgsMapLayerComboBox
from qgis.PyQt.QtCore import QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QToolButton, QVBoxLayout, QWidget

from ...engine.contract import ErrorCode, Failure, ModelCard
from ..maps.crowd import Crowd
from ..maps.grid import Place
from ..maps.plan import Plan, layer_plan, usual_field
from ..maps.regions import RegionsExport, prepare_regions
from ..maps.survey import require_regions
from ..report import Problem, tr
from .fields import Fields
from .numbers import count, decimal
from .prompt import names_any
from .surveyor import Finding, Surveyor

#: Milliseconds for which a layer has to rest before it is looked at again.
_REST = 300
#: Texts that are named, of more how many; and characters that are shown of one.
_NAMED, _SHOWN = 6, 40
#: Characters of the layer's name in the title, which is never broken.
_TITLE = 16
#: Texts of a window on average above which it is said that they take longer.
_CROWDED = 1.05


class RegionsInput(QgsCollapsibleGroupBoxBasic):
    """A group with a polygon layer and how it is read; hidden for models that read no text.

    Signals:
        changed: another layer, or it is read otherwise, or what it shows is another.

    Attributes:
        layer: which polygons; the first entry is none.
        text: the field, or the expression, that says what is in each.
        selected_only: whether only selected features count.
        only: whether nothing is drawn outside of the polygons.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make a closed group without a layer."""
        super().__init__(tr("Regions"), parent)
        self.setObjectName("regions")
        button = self.findChild(QToolButton, "collapseButton")
        if button is not None:
            button.setAccessibleName(tr("Show or hide the polygons with texts of their own"))
        self._card: Optional[ModelCard] = None
        self._followed: Optional[QgsVectorLayer] = None
        self._edition = 0
        self._unmet: Dict[str, object] = {}
        self._surveyor = Surveyor(self)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST)
        self._rest.timeout.connect(self._announce)
        self._make_inputs()
        self._lay_out()
        self._surveyor.answered.connect(self.changed)
        self.layer.layerChanged.connect(self._follow_layer)
        self.text.fieldChanged.connect(self._announce)
        self.selected_only.toggled.connect(self._announce)
        self.only.toggled.connect(self.changed)  # what lies there stays the same
        QgsProject.instance().readProject.connect(self._meet)
        self._follow_layer()
        self.setCollapsed(True)

    def _make_inputs(self) -> None:
        self.layer = QgsMapLayerComboBox(self)
        self.layer.setObjectName("regions_layer")
        self.layer.setFilters(QgsMapLayerProxyModel.Filter.PolygonLayer)
        self.layer.setAllowEmptyLayer(True, tr("none"))
        self.layer.setCurrentIndex(0)
        self.layer.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.layer.setMinimumContentsLength(5)
        self.text = QgsFieldExpressionWidget(self)
        self.text.setObjectName("regions_text")
        self.text.setFilters(QgsFieldProxyModel.Filter.String)
        self.text.setExpressionDialogTitle(tr("Text of a polygon"))
        for combo in self.text.findChildren(QComboBox):
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(5)
        self.selected_only = QCheckBox(tr("Selected only"), self)
        self.selected_only.setToolTip(tr("Use the selected features of the layer alone"))
        self.selected_only.setObjectName("regions_selected_only")
        self.only = QCheckBox(tr("Draw only inside"), self)
        self.only.setObjectName("regions_only")
        self.only.setToolTip(tr("Outside the polygons there is no data, and no time is spent on it"))

    def _lay_out(self) -> None:
        self._body, self._fields = QWidget(self), Fields()
        self._ticks = QWidget()
        ticks = QVBoxLayout(self._ticks)
        ticks.setContentsMargins(0, 0, 0, 0)
        ticks.setSpacing(2)
        ticks.addWidget(self.selected_only)
        ticks.addWidget(self.only)
        tip = tr("Each polygon is drawn from its own text; later features lie above earlier ones")
        self._fields.add(tr("Pol&ygons"), self.layer, tip=tip)
        combo = self.text.findChild(QComboBox)
        tip = tr("Field or expression that says what is in a polygon")
        self._fields.add(tr("&Text"), self.text, self.text if combo is None else combo, tip)
        self._fields.add("", self._ticks, self.selected_only)
        self.selected_only.setAccessibleName("")  # its own text
        self._body.setLayout(self._fields)  # in one piece: opening the group would show each child of its own
        QVBoxLayout(self).addWidget(self._body)

    def set_card(self, card: ModelCard) -> None:
        """Follow another model."""
        self._card = card
        self.setVisible("prompt" in card.uses)

    @property
    def is_given(self) -> bool:
        """Whether a layer was chosen, of a model that reads texts."""
        return self._layer() is not None

    @property
    def is_alone(self) -> bool:
        """Whether nothing is drawn but what the polygons say."""
        return self.is_given and self.only.isChecked()

    def plan(self) -> Optional[Plan]:
        """What was chosen, None for no regions.

        Raises:
            Problem: MASK_EMPTY where only selected features are asked for and none is selected.
        """
        layer = self._layer()
        if layer is None:
            return None
        return layer_plan(layer, self.text.asExpression(), self.selected_only.isChecked(), self.only.isChecked())

    def problems(self, where: Place) -> List[Failure]:
        """Why no job can start with these polygons there."""
        layer = self._layer()
        if layer is None:
            return []
        found = self._find(where)
        if found.survey is None:
            return [found.failure or _reading(layer.name())]
        try:
            require_regions(layer.name(), found.survey, self._card)
        except Problem as problem:
            return [problem.failure]
        return []

    def export(self, where: Place) -> Optional[RegionsExport]:
        """The polygons on their way into a job folder, None for none.

        Raises:
            Problem: where ``problems`` would not be empty.
        """
        plan = self.plan()
        if plan is None:
            return None
        found = self._find(where)
        if found.survey is None:
            raise Problem.of(found.failure or _reading(plan.polygons.name))
        return prepare_regions(plan, self._card, where.lattice, found.survey)

    def crowd(self, where: Place) -> Optional[Crowd]:
        """How many texts meet in the windows of the model; None where that cannot be told, or not yet."""
        return self._find(where).crowd

    def is_part(self, where: Place) -> bool:
        """Whether only some of the polygons there were looked at so far, so that more texts may meet."""
        found = self._find(where)
        return not found.is_complete or (found.survey is not None and found.survey.is_part)

    def show_summary(self, where: Optional[Place]) -> None:
        """Say what of the layer lies there; nothing, where that cannot be told."""
        layer = self._layer()
        self.setTitle(tr("Regions") if layer is None else tr("Regions: {}").format(_clipped(layer.name(), _TITLE)))
        self._fields.note(self._ticks, "" if where is None else self._summary(where))

    @property
    def summary(self) -> str:
        """What is said below the inputs."""
        return self._fields.note_text(self._ticks)

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        layer = self.layer.currentLayer()
        if layer is None and self._unmet:
            return dict(self._unmet)
        return {
            "layer": "" if layer is None else layer.id(),
            "text": self.text.asExpression(),
            "selected_only": self.selected_only.isChecked(),
            "only": self.only.isChecked(),
        }

    def hold(self, values: object) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        if not isinstance(values, dict):
            return
        self._unmet = {}
        layer = QgsProject.instance().mapLayer(str(values.get("layer", "")))
        self.layer.setLayer(layer)
        if layer is None or self.layer.currentLayer() is not layer:  # not one of polygons
            self.layer.setCurrentIndex(0)  # QGIS shows an empty line; it has announced it
            if layer is None and isinstance(values.get("layer"), str) and values["layer"]:
                self._unmet = dict(values)  # its project may be opened later
            return
        if isinstance(values.get("text"), str) and values["text"]:
            self.text.setExpression(values["text"])
        self.selected_only.setChecked(values.get("selected_only") is True)
        self.only.setChecked(values.get("only") is True)

    def _layer(self) -> Optional[QgsVectorLayer]:
        reads_text = self._card is not None and "prompt" in self._card.uses
        return self.layer.currentLayer() if reads_text else None

    def _meet(self, *_: object) -> None:
        """A project was opened: maybe that of the layer that was kept."""
        if self._unmet and self.layer.currentLayer() is None:
            self.hold(self._unmet)

    def _find(self, where: Place) -> Finding:
        """What of the layer lies there, looked at once for each state of it."""
        layer = self._layer()
        if layer is None:
            return Finding()
        asked = (self._edition, layer.id(), self.text.asExpression(), self.selected_only.isChecked(), where.lattice)
        asked = (*asked, self._card.windows, self._card.window, self._card.halo, self._card.whole)
        return self._surveyor.find(asked, self.only.isChecked(), self.plan, where.lattice, self._card)

    def _summary(self, where: Place) -> str:
        finding = self._find(where)
        if not finding.is_complete:
            return tr("Reading polygons \u2026")
        found, meeting = finding.survey, finding.crowd
        if found is None or not (found.texts or found.empty or found.is_part):  # the form says why
            return ""
        said = [_counted(sum(found.texts.values()), found.texts)] if found.texts else []
        if found.empty == 1:
            said.append(tr("1 polygon has no text and is left out."))
        elif found.empty:
            said.append(tr("{} polygons have no text and are left out.").format(count(found.empty)))
        strange = self._strange(found.texts)
        if strange:
            said.append(tr("The model may not understand: {}.").format(_quoted(strange)))
        strange = self._strange(sorted(found.beyond))
        if strange:
            outside = tr("Just outside the extent, where the model looks too, it may not understand: {}.")
            said.append(outside.format(_quoted(strange)))
        if meeting is not None and meeting.most > 1 and meeting.mean > _CROWDED:
            said.append(_meeting(meeting, self.only.isChecked()))
        if found.is_part:
            said.append(_looked(found.looked))
        return "\n".join(said)

    def _strange(self, texts: Iterable[str]) -> List[str]:
        """Texts that name no word of a model with a closed list."""
        words = self._card.vocabulary
        return [text for text in texts if words and not names_any(text, words)]

    def _follow_layer(self, *_: object) -> None:
        layer = self.layer.currentLayer()
        if layer is not None:
            self._unmet = {}
        if self._followed is not None:
            self._followed.willBeDeleted.disconnect(self._forget_layer)
            for signal in _edits(self._followed):
                signal.disconnect(self._rest.start)
        self._followed = layer
        self._surveyor.stop()
        if layer is not None:
            layer.willBeDeleted.connect(self._forget_layer)
            for signal in _edits(layer):
                signal.connect(self._rest.start)
        self.text.blockSignals(True)
        self.text.setLayer(layer)
        if layer is not None:
            self.text.setField(usual_field(layer.fields()))
        self.text.blockSignals(False)
        for field in (self.text, self._ticks):
            self._fields.set_shown(field, layer is not None)
        if layer is not None:
            self.setCollapsed(False)
        self._announce()

    def _forget_layer(self) -> None:
        """The layer that was followed ends, and its connections with it."""
        self._followed = None

    def _announce(self, *_: object) -> None:
        self._rest.stop()
        self._edition += 1
        self.changed.emit()


def _reading(layer: str) -> Failure:
    message = tr("The polygons of the layer '{}' are being read.").format(layer)
    return Failure(ErrorCode.MASK_UNREADABLE, message, tr("You can go on when that is done."))


def _counted(polygons: int, texts: Dict[str, int]) -> str:
    """How many polygons lie in the extent, and what they say."""
    parts = [
        f"\u201c{_clipped(text)}\u201d" + (f" ({count(many)})" if many > 1 else "") for text, many in texts.items()
    ]
    listed = ", ".join(parts[:_NAMED])
    if len(parts) > _NAMED:
        listed = tr("{texts} and {count} more texts").format(texts=listed, count=count(len(parts) - _NAMED))
    if polygons == 1:
        return tr("1 polygon lies in the extent: {texts}.").format(texts=listed)
    return tr("{count} polygons lie in the extent: {texts}.").format(count=count(polygons), texts=listed)


def _meeting(found: Crowd, only: bool) -> str:
    """How many texts meet, that of the prompt too, unless nothing is drawn from it."""
    said = tr("Up to {most} texts meet in a window of the model, about {mean} on average: each adds work.")
    if not only:
        said = tr("Up to {most} texts meet in a window, with the prompt, about {mean} on average: each adds work.")
    return said.format(most=count(found.most), mean=decimal(found.mean, 2))


def _looked(polygons: int) -> str:
    """That not all was looked at."""
    if polygons == 0:
        return tr("This layer takes long to search, and no polygon was found in time; the job looks at all.")
    if polygons == 1:
        return tr("Only one polygon was looked at here; the job looks at all.")
    return tr("Only the first {} polygons were looked at here; the job looks at all.").format(count(polygons))


def _quoted(texts: List[str]) -> str:
    listed = ", ".join(f"\u201c{_clipped(text)}\u201d" for text in texts[:_NAMED])
    more = len(texts) - _NAMED
    return tr("{texts} and {count} more").format(texts=listed, count=count(more)) if more > 0 else listed


def _clipped(text: str, length: int = _SHOWN) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "\u2026"


def _edits(layer: QgsVectorLayer) -> tuple:
    """The signals after which polygons or their texts may be others."""
    features = (layer.selectionChanged, layer.geometryChanged, layer.featureAdded, layer.featureDeleted)
    stored = (layer.subsetStringChanged, layer.dataChanged, layer.afterCommitChanges, layer.dataSourceChanged)
    return (*features, *stored, layer.attributeValueChanged, layer.updatedFields, layer.crsChanged, layer.nameChanged)
