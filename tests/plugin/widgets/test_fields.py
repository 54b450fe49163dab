from afterimage.plugin.widgets.fields import Fields
from qgis.PyQt.QtWidgets import QApplication, QLabel, QLineEdit, QSpinBox, QWidget


def test_labels_reach_their_inputs_and_name_them(qtbot):
    form = QWidget()
    qtbot.addWidget(form)
    fields = Fields(form)
    edit, number = QLineEdit(), QSpinBox()
    fields.add("&Name", edit, tip="Who")
    fields.add("N&umber", number)
    labels = {label.text(): label for label in form.findChildren(QLabel)}
    assert labels["&Name"].buddy() is edit
    assert (edit.accessibleName(), edit.accessibleDescription()) == ("Name", "Who")
    assert number.accessibleName() == "Number"


def test_notes_take_no_room_while_empty(qtbot):
    form = QWidget()
    qtbot.addWidget(form)
    fields = Fields(form)
    edit = fields.add("&Name", QLineEdit())
    form.show()
    height = form.sizeHint().height()
    fields.note(edit, "a remark")
    qtbot.waitUntil(lambda: form.sizeHint().height() > height)
    fields.note(edit, "")
    qtbot.waitUntil(lambda: form.sizeHint().height() == height)


def test_an_unused_input_is_off_and_says_so(qtbot):
    form = QWidget()
    qtbot.addWidget(form)
    fields = Fields(form)
    edit = fields.add("&Name", QLineEdit())
    fields.set_used(edit, False, "Not used.")
    assert not edit.isEnabled() and fields.note_text(edit) == "Not used."
    fields.set_used(edit, False, "Not used.", enabled=True)
    assert edit.isEnabled() and fields.note_text(edit) == "Not used."
    fields.set_used(edit, True, "Not used.")
    assert edit.isEnabled() and fields.note_text(edit) == ""


def test_notes_are_readable_on_light_and_dark(qtbot):
    from afterimage.plugin.widgets.quiet import QuietLabel
    from qgis.PyQt.QtGui import QColor, QPalette

    before = QApplication.palette()
    try:
        for ground, text in (("#ffffff", "#000000"), ("#2b2b2b", "#e0e0e0")):
            palette = QPalette(before)
            palette.setColor(QPalette.ColorRole.Window, QColor(ground))
            palette.setColor(QPalette.ColorRole.WindowText, QColor(text))
            QApplication.setPalette(palette)
            label = QuietLabel("a remark")
            qtbot.addWidget(label)
            assert contrast(label.palette().color(QPalette.ColorRole.WindowText), QColor(ground)) > 4.5
    finally:
        QApplication.setPalette(before)


def contrast(one, other):
    def luminance(colour):
        parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.getRgbF()[:3]]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
