"""One layer that guides a picture: which, how it is taken, and what the model will see of it."""

from typing import Dict, Optional, Tuple

from qgis.core import QgsMapLayer, QgsMapLayerProxyModel, QgsProject, QgsRasterLayer, QgsVectorLayer, QgsWkbTypes
from qgis.gui import QgsDoubleSpinBox, QgsFieldComboBox
from qgis.PyQt.QtCore import QTimer, pyqtSignal
from qgis.PyQt.QtGui import QImage, QPixmap
from qgis.PyQt.QtWidgets import QComboBox, QFrame, QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from ...engine.contract import ModelCard
from ..maps.guide import (
    DERIVED,
    FIRST,
    ROAD_WIDTH,
    Guide,
    classes,
    has_classes,
    kind_name,
    likely_field,
    usual_derive,
)
from ..maps.palette import BACKGROUND, Match
from ..report import Problem, tr
from .raster import RasterInput

_FILTER = QgsMapLayerProxyModel.Filter
#: What may show each kind.
_LAYERS = {
    "land_use": _FILTER.PolygonLayer | _FILTER.RasterLayer,
    "depth": _FILTER.RasterLayer,
    "content": _FILTER.RasterLayer,
    "map": _FILTER.HasGeometry | _FILTER.RasterLayer,
}
_SHAPES = _FILTER.LineLayer | _FILTER.PolygonLayer | _FILTER.RasterLayer
#: Milliseconds for which a layer has to rest before it is looked at again.
_REST = 300
#: Pixels that the arrows, the clear button and the frame of a number take.
_BUTTONS = 28
#: Values of a field that are named; of more, how many.
_NAMED = 6


class LayerInput(RasterInput):
    """QGIS's list of the layers that may show a kind of control; the first entry is none of them."""

    def __init__(self, kind: str, parent: Optional[QWidget] = None) -> None:
        """Show no layer.

        Args:
            kind: of control.
            parent: as usual.
        """
        super().__init__(parent)
        self.setObjectName(f"control_{kind}")
        self.setFilters(_LAYERS.get(kind, _SHAPES))
        self.setAllowEmptyLayer(True, tr("none"))
        self.choose(None)

    def choose(self, layer: Optional[QgsMapLayer]) -> None:
        """Show a layer; none, where it is none of the list."""
        self.setLayer(layer)
        if self.currentLayer() is None:
            self.setCurrentIndex(0)  # QGIS shows an empty line; it has announced it


class Picture(QLabel):
    """What a model will see, small."""

    def __init__(self, kind: str, parent: Optional[QWidget] = None) -> None:
        """Show nothing."""
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setToolTip(tr("What the model will see"))
        self.setAccessibleName(tr("What the model will see of: {}").format(kind_name(kind)))
        self.setVisible(False)

    def show_image(self, image: Optional[QImage]) -> None:
        """Show an image, None for nothing."""
        self.setPixmap(QPixmap() if image is None else QPixmap.fromImage(image))
        self.setVisible(image is not None)


class ControlRow(QWidget):
    """A layer and how it is taken.

    Signals:
        changed: another layer, or it is taken otherwise, or what it shows is another.

    Attributes:
        kind: of control.
        layer: which layer.
        how: whether a raster is ready, or made into the control.
        field: which field holds the classes.
        width: of roads, metres.
        strength: how much it counts.
        picture: what the model will see.
    """

    changed = pyqtSignal()

    def __init__(self, kind: str, parent: Optional[QWidget] = None) -> None:
        """Make a row without a layer.

        Args:
            kind: of control.
            parent: as usual.
        """
        super().__init__(parent)
        self.kind = kind
        self._card: Optional[ModelCard] = None
        self._followed: Optional[QgsMapLayer] = None
        self._matched: Tuple[object, Optional[Match]] = (None, None)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST)
        self._rest.timeout.connect(self._look_again)
        self.layer = LayerInput(kind, self)
        self.how = QComboBox(self)
        self.how.setObjectName(f"control_{kind}_how")
        self.how.setAccessibleName(tr("How the raster is taken"))
        self.field = QgsFieldComboBox(self)
        self.field.setObjectName(f"control_{kind}_field")
        self.field.setAccessibleName(tr("Field with the classes"))
        self.field.setToolTip(tr("Field that says which class of the model's palette a shape is"))
        for combo in (self.how, self.field):
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(5)
        self.width_label, self.width = _number(tr("Width"), 0.0, 500.0, ROAD_WIDTH, tr(" m"))
        self.width.setObjectName(f"control_{kind}_width")
        self.width.setToolTip(tr("Metres on the ground; roads are at least a pixel wide"))
        self.strength_label, self.strength = _number(tr("Strength"), 0.0, 2.0, 1.0, "")
        self.strength.setObjectName(f"control_{kind}_strength")
        self.strength.setSingleStep(0.1)
        self.strength.setToolTip(tr("How much the layer counts: 0 not at all, 1 as trained"))
        self.picture = Picture(kind, self)
        self._lay_out()
        self.layer.layerChanged.connect(self._follow_layer)
        self.how.currentIndexChanged.connect(self._announce)
        self.field.fieldChanged.connect(self._announce)
        self.width.valueChanged.connect(self._announce)
        self.strength.valueChanged.connect(self._announce)
        self.setFocusProxy(self.layer)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        for part in (self.layer, self.how, self.field):
            column.addWidget(part)
        numbers = QGridLayout()
        numbers.setSpacing(4)
        numbers.setColumnStretch(2, 1)
        parts = ((self.width_label, self.width), (self.strength_label, self.strength))
        for line, (label, number) in enumerate(parts):
            numbers.addWidget(label, line, 0)
            numbers.addWidget(number, line, 1)
        column.addLayout(numbers)
        row = QHBoxLayout()
        row.addWidget(self.picture)
        row.addStretch(1)
        column.addLayout(row)
        self._show_parts()

    def set_card(self, card: ModelCard) -> None:
        """Follow another model: what it knows of this control."""
        before, self._card = self._card, card
        if self.kind in card.required and self.layer.currentLayer() is None and self.layer.count() > 1:
            self.layer.choose(self.layer.layer(1))
        elif before is None or before.palettes.get(self.kind) != card.palettes.get(self.kind):
            self._find_field()
        self._show_parts()

    def guide(self) -> Optional[Guide]:
        """What was chosen, None where that is no layer."""
        layer = self.layer.currentLayer()
        if layer is None:
            return None
        return Guide(
            self.kind,
            layer,
            self.field.currentField() if self._has_classes() else "",
            self.width.value(),
            str(self.how.currentData() or "") if isinstance(layer, QgsRasterLayer) else "",
            self.strength.value() if self._has_strength() else 1.0,
            self._match(),
        )

    def _match(self) -> Optional[Match]:
        """How the field goes with the model's classes, read once for each state of the layer."""
        if not self._has_classes():
            return None
        layer, palette = self.layer.currentLayer(), self._card.palettes[self.kind]
        asked = (layer.id(), self.field.currentField(), tuple(palette.items()))
        if self._matched[0] != asked:
            try:
                found: Optional[Match] = classes(layer, self.field.currentField(), palette)
            except Problem:  # no such field: the form says so
                found = None
            self._matched = (asked, found)
        return self._matched[1]

    def remark(self) -> str:
        """What becomes of the layer, in words."""
        layer = self.layer.currentLayer()
        if layer is None:
            return tr("This model needs one.") if self._card is not None and self.kind in self._card.required else ""
        if not self._has_classes():
            return ""
        palette, found = self._card.palettes[self.kind], self._match()
        if found is None:
            return ""
        named = dict.fromkeys(name for name in palette if name in found.classes.values())
        text = tr("Classes: {}.").format(", ".join(named)) if named else ""
        if found.others:
            ground = tr("drawn as {}").format(BACKGROUND) if BACKGROUND in palette else tr("left out")
            text += " " + tr("No class of the model, {how}: {values}.").format(how=ground, values=_some(found.others))
        if found.is_part:
            text += " " + tr("Only the first {} shapes were looked at here; the job looks at all.").format(FIRST)
        return text.strip()

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        layer = self.layer.currentLayer()
        return {
            "layer": "" if layer is None else layer.id(),
            "how": str(self.how.currentData() or ""),
            "field": self.field.currentField(),
            "width": self.width.value(),
            "strength": self.strength.value(),
        }

    def hold(self, values: object) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        if not isinstance(values, dict):
            return
        layer = QgsProject.instance().mapLayer(str(values.get("layer", "")))
        self.layer.choose(layer)
        if layer is None or self.layer.currentLayer() is not layer:  # not one that may show this
            return
        if isinstance(layer, QgsVectorLayer) and layer.fields().lookupField(str(values.get("field", ""))) >= 0:
            self.field.setField(str(values["field"]))
        self.how.setCurrentIndex(max(0, self.how.findData(str(values.get("how", "")))))
        for number, name in ((self.width, "width"), (self.strength, "strength")):
            if isinstance(values.get(name), float):
                number.setValue(values[name])

    def _follow_layer(self, *_: object) -> None:
        layer = self.layer.currentLayer()
        if self._followed is not None:
            self._followed.willBeDeleted.disconnect(self._forget_layer)
            for signal in _edits(self._followed):
                signal.disconnect(self._wait)
        self._followed = layer
        if layer is not None:
            layer.willBeDeleted.connect(self._forget_layer)
            for signal in _edits(layer):
                signal.connect(self._wait)
        self.how.blockSignals(True)
        self.how.clear()
        for derive, text in _ways(self.kind):
            self.how.addItem(text, derive)
        if layer is not None:
            self.how.setCurrentIndex(max(0, self.how.findData(usual_derive(self.kind, layer))))
        self.how.blockSignals(False)
        self.field.blockSignals(True)
        self.field.setLayer(layer if isinstance(layer, QgsVectorLayer) else None)
        self.field.blockSignals(False)
        self._find_field()
        self._show_parts()
        self._announce()

    def _find_field(self) -> None:
        layer = self.layer.currentLayer()
        if self._has_classes():
            likely = likely_field(layer, self._card.palettes[self.kind])
            self.field.blockSignals(True)
            if likely:
                self.field.setField(likely)
            self.field.blockSignals(False)

    def _has_classes(self) -> bool:
        layer = self.layer.currentLayer()
        return layer is not None and self._card is not None and has_classes(self.kind, layer, self._card)

    def _has_strength(self) -> bool:
        return self._card is not None and self._card.knows_strength(self.kind)

    def _show_parts(self) -> None:
        """Show what the layer needs, and nothing else."""
        layer = self.layer.currentLayer()
        is_vector = isinstance(layer, QgsVectorLayer)
        self.how.setVisible(isinstance(layer, QgsRasterLayer) and self.how.count() > 1)
        self.field.setVisible(self._has_classes())
        line = QgsWkbTypes.GeometryType.LineGeometry
        has_width = self.kind == "roads" and is_vector and layer.geometryType() == line
        for part in (self.width_label, self.width):
            part.setVisible(has_width)
        for part in (self.strength_label, self.strength):
            part.setVisible(layer is not None and self._has_strength())
        if layer is None:
            self.picture.show_image(None)

    def _forget_layer(self) -> None:
        """The layer that was followed ends, and its connections with it."""
        self._followed = None

    def _wait(self, *_: object) -> None:
        """Announce once for all that happens to the layer until it rests."""
        self._rest.start()

    def _look_again(self) -> None:
        """The layer may show something else."""
        self._matched = (None, None)
        self._announce()

    def _announce(self, *_: object) -> None:
        self._rest.stop()
        self.changed.emit()


def _ways(kind: str) -> tuple:
    """How a raster may be taken for a kind of control: (derive, words)."""
    ready = ("", tr("Take it as it is"))
    words = {"lines": tr("Find lines in it"), "edges": tr("Find edges in it"), "depth": tr("It holds heights")}
    return (ready, (DERIVED[kind], words[kind])) if kind in DERIVED else (ready,)


def _number(label: str, least: float, most: float, value: float, suffix: str) -> tuple:
    number = QgsDoubleSpinBox()
    number.setRange(least, most)
    number.setDecimals(1)
    number.setSuffix(suffix)
    number.setClearValue(value)
    number.setValue(value)
    number.setAccessibleName(label)
    number.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
    metrics = number.fontMetrics()  # QGIS asks for more than it needs
    longest = max(metrics.horizontalAdvance(f"{most:.1f}{suffix}"), metrics.horizontalAdvance("88.88"))
    number.setMinimumWidth(longest + _BUTTONS)
    head = QLabel(label)
    head.setBuddy(number)
    return head, number


def _some(values: tuple) -> str:
    """The first values, and how many more there are."""
    text = ", ".join(str(value)[:24] for value in values[:_NAMED])
    more = len(values) - _NAMED
    return tr("{values} and {count} more").format(values=text, count=more) if more > 0 else text


def _edits(layer: QgsMapLayer) -> tuple:
    """The signals after which a layer may show something else."""
    both = (layer.crsChanged, layer.dataSourceChanged, layer.styleChanged)
    if isinstance(layer, QgsVectorLayer):
        return (*both, layer.geometryChanged, layer.featureAdded, layer.featureDeleted, layer.attributeValueChanged)
    return both
