from afterimage.engine.contract import ONE_TEXTURE, OR_COARSER
from afterimage.plugin.maps.guide import Guide
from qgis.core import QgsCoordinateReferenceSystem, QgsRectangle

from .conftest import able, guided


def choose(placed, factor):
    choice = placed.coarse.choice
    choice.setCurrentIndex(choice.findData(factor))
    choice.activated.emit(choice.currentIndex())


def test_a_coarser_level_is_offered_where_the_model_can_take_it(placed):
    placed.advanced.setCollapsed(False)
    assert not placed.coarse.isVisible()
    placed.set_cards((able(),))
    placed.gsd.setValue(10.0)
    assert placed.coarse.isVisible() and placed.coarse.factors == (2, 4, 8)
    assert placed.draft().request.coarse == 1
    choose(placed, 8)
    assert placed.draft().request.coarse == 8 and "80" in placed.more.note_text(placed.coarse)
    placed.gsd.setValue(20.0)  # 160 m is beyond what it knows
    assert placed.coarse.factors == (2, 4) and placed.draft().request.coarse == 1
    placed.gsd.setValue(10.0)
    assert placed.draft().request.coarse == 8
    placed.told_gsd.set_value(0.0)
    assert not placed.coarse.isVisible() and placed.draft().request.coarse == 1
    placed.told_gsd.set_value(30.0)
    assert placed.coarse.factors == (2,)


def test_a_coarser_level_costs_work_and_gives_structure(placed):
    placed.set_cards((able(),))
    placed.gsd.setValue(10.0)
    said, windows = placed.fields.note_text(placed.extent), placed.estimate().windows
    assert ONE_TEXTURE in said and OR_COARSER in said  # 800 x 500 pixels, of a window of 64
    choose(placed, 8)
    assert ONE_TEXTURE not in placed.fields.note_text(placed.extent) and placed.estimate().windows > windows
    choose(placed, 2)
    assert OR_COARSER in placed.fields.note_text(placed.extent)


def test_a_coarser_level_waits_while_something_stands_in_its_way(placed, monkeypatch, road):
    placed.set_cards((able(),))
    choose(placed, 2)
    placed.trajectory.setValue(4)
    assert not placed.coarse.isEnabled() and "steps are kept" in placed.more.note_text(placed.coarse)
    assert (placed.draft().request.coarse, placed.draft().request.trajectory) == (1, 4)
    placed.trajectory.setValue(0)
    assert placed.draft().request.coarse == 2
    placed.sampling.steps.setValue(1)
    assert placed.draft().request.coarse == 1
    placed.sampling.steps.setValue(9)
    monkeypatch.setattr(placed.controls, "guides", lambda: [Guide("roads", road)])
    placed.samples.setValue(2)
    assert "layers guide" in placed.more.note_text(placed.coarse) and placed.coarse.value() == 1


def test_a_small_extent_that_is_one_window_has_no_coarser_level(placed):
    placed.advanced.setCollapsed(False)
    placed.set_cards((able(whole=True),))
    assert placed.coarse.factors and placed.coarse.isVisible()
    placed.extent.set_extent(QgsRectangle(300000, 5300000, 300060, 5300060), QgsCoordinateReferenceSystem("EPSG:32633"))
    assert placed.coarse.factors == () and not placed.coarse.isVisible()


def test_a_coarser_level_is_remembered(placed):
    placed.set_cards((able(),))
    choose(placed, 4)
    held = placed.held()
    choose(placed, 1)
    placed.hold(held)
    assert placed.coarse.value() == 4
    for odd in (None, "4", True, 3):
        placed.hold({**held, "coarse": odd})
        assert placed.coarse.value() in (1, 4)


def test_one_text_over_many_windows_is_said_to_be_one_texture(placed, zoning, road, monkeypatch):
    assert ONE_TEXTURE in placed.fields.note_text(placed.extent)  # 800 x 500 pixels, of a window of 64
    placed.regions.layer.setLayer(zoning())
    assert ONE_TEXTURE not in placed.fields.note_text(placed.extent)
    placed.regions.layer.setLayer(None)
    assert ONE_TEXTURE in placed.fields.note_text(placed.extent)
    placed.set_cards((guided(),))
    placed.controls.rows["roads"].layer.setLayer(road)
    assert ONE_TEXTURE not in placed.fields.note_text(placed.extent)
    placed.controls.rows["roads"].layer.choose(None)
    monkeypatch.setattr(placed.controls, "guides", lambda: [Guide("content", road)])
    placed.samples.setValue(2)
    assert ONE_TEXTURE in placed.fields.note_text(placed.extent)  # content says what, and not where
    monkeypatch.undo()
    placed.extent.set_extent(QgsRectangle(300000, 5300000, 302560, 5302560), QgsCoordinateReferenceSystem("EPSG:32633"))
    assert ONE_TEXTURE not in placed.fields.note_text(placed.extent)
