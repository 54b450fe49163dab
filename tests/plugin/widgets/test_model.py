from afterimage.plugin.widgets.about import AboutModel, describe, tooltip
from afterimage.plugin.widgets.model import ModelInput
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QDialogButtonBox

from ..panels.conftest import painter, sharpener


def test_only_models_of_the_task_that_may_be_picked_are_offered(qtbot):
    model = ModelInput("Generate")
    qtbot.addWidget(model)
    assert model.card is None and not model.about_button.isEnabled()
    with qtbot.waitSignal(model.changed):
        model.set_cards((painter(), sharpener(), painter(id="tiny", pickable=False)))
    assert [model.combo.itemData(index) for index in range(model.combo.count())] == ["painter"]
    assert model.card.id == "painter"
    assert not model.pick("tiny") and model.card.id == "painter"


def test_the_card_is_told_in_full_and_as_text(qtbot):
    card = painter(name="A <b>bold</b> name", summary="Draws & paints")
    text = describe(card)
    assert "&lt;b&gt;bold" in text and "Draws &amp; paints" in text
    for fact in (
        "CC BY 4.0",
        "EuroSAT RGB, train",
        "No clouds.",
        "81.2 %",
        "real: 96.1 %",
        "10 m to 20 m",
        "annual crop",
    ):
        assert fact in text
    assert "81.2 %" in tooltip(card)


def test_the_about_window_opens_and_closes(qtbot):
    model = ModelInput("Generate")
    qtbot.addWidget(model)
    model.set_cards((painter(),))
    model.show()
    qtbot.mouseClick(model.about_button, Qt.MouseButton.LeftButton)
    (window,) = model.window().findChildren(AboutModel)
    assert "Draws fields & woods." in window.text.toPlainText()
    assert not window.isModal()
    buttons = window.findChild(QDialogButtonBox)
    qtbot.mouseClick(buttons.button(QDialogButtonBox.StandardButton.Close), Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not model.window().findChildren(AboutModel))
