import pytest
from afterimage.plugin.widgets.bands import BandsInput
from afterimage.plugin.widgets.dates import DateInput
from afterimage.plugin.widgets.elided import ElidedLabel
from afterimage.plugin.widgets.extent import ExtentInput
from afterimage.plugin.widgets.output import OutputInput
from afterimage.plugin.widgets.seed import LARGEST, SeedInput
from qgis.core import QgsCoordinateReferenceSystem, QgsRectangle
from qgis.gui import QgsMapCanvas


@pytest.mark.parametrize("text", ["2026-07-14", "1999-12-31"])
def test_a_date_goes_in_and_out(qtbot, text):
    date = DateInput()
    qtbot.addWidget(date)
    with qtbot.waitSignal(date.changed):
        date.set_value(text)
    assert date.value() == text
    with qtbot.waitSignal(date.changed):
        date.edit.clear()
    assert date.value() is None


@pytest.mark.parametrize("text", [None, "", "soon", "2026-13-01"])
def test_what_is_no_date_is_unknown(qtbot, text):
    date = DateInput()
    qtbot.addWidget(date)
    date.set_value("2026-07-14")
    date.set_value(text)
    assert date.value() is None


def test_an_extent_keeps_its_own_crs(qtbot):
    extent = ExtentInput()
    qtbot.addWidget(extent)
    assert extent.extent().isNull() and extent.problems()
    with qtbot.waitSignal(extent.changed):
        extent.set_extent(QgsRectangle(10, 50, 11, 51), QgsCoordinateReferenceSystem("EPSG:4326"))
    assert extent.extent() == QgsRectangle(10, 50, 11, 51)
    assert extent.crs().authid() == "EPSG:4326"
    assert not extent.problems()


def test_the_view_of_a_map_that_never_showed_anything_is_no_extent(qtbot):
    canvas = QgsMapCanvas()
    qtbot.addWidget(canvas)
    extent = ExtentInput(canvas)
    qtbot.addWidget(extent)
    extent.take_view()
    assert extent.extent().isNull() and extent.problems()
    assert len(extent.edit.text()) < 30


def test_an_extent_across_the_antimeridian_is_kept(qtbot):
    extent = ExtentInput()
    qtbot.addWidget(extent)
    extent.set_extent(QgsRectangle(179.5, -17, 180.5, -16), QgsCoordinateReferenceSystem("EPSG:4326"))
    assert extent.extent().xMaximum() == pytest.approx(180.5)


def test_bands_are_numbers_under_their_names(qtbot):
    bands = BandsInput()
    qtbot.addWidget(bands)
    assert bands.value() == () and not bands.problems()
    bands.set_bands((2, 3, 5), ("blue", "green", ""))
    assert bands.value() == (2, 3, 5) and bands.is_all
    assert bands.itemText(2) == "Band 5"
    bands.toggleItemCheckState(1)  # what a click does
    assert bands.value() == (2, 5) and not bands.is_all
    assert bands.toolTip() == "blue, Band 5"


def test_seeds_are_in_range(qtbot):
    seed = SeedInput()
    qtbot.addWidget(seed)
    seen = {seed.next() for _ in range(20)}
    assert len(seen) > 15 and all(0 <= value <= LARGEST for value in seen)


def test_an_output_gets_its_extension(qtbot, tmp_path):
    output = OutputInput()
    qtbot.addWidget(output)
    assert output.value() == "" and not output.problems()
    for name, path in (("a", "a.tif"), ("b.TIF", "b.TIF"), ("c.tiff", "c.tiff"), ("d.png", "d.png.tif")):
        output.file.setFilePath(str(tmp_path / name))
        assert output.value() == str(tmp_path / path) and not output.problems()
    (tmp_path / "folder.tif").mkdir()
    output.file.setFilePath(str(tmp_path / "folder.tif"))
    assert output.problems()


def test_a_long_line_is_one_line_and_its_tool_tip_is_whole(qtbot):
    label = ElidedLabel("a forest\nby a river " * 40)
    qtbot.addWidget(label)
    label.resize(80, 20)
    label.show()
    assert "\n" not in label.text() and label.toolTip() == label.text()
    assert label.minimumSizeHint().width() < 80
    assert not label.grab().isNull()
