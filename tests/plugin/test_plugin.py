import configparser
from pathlib import Path

import pytest
from afterimage import classFactory
from afterimage.plugin import settings
from qgis.core import QgsApplication, QgsSettings
from qgis.PyQt.QtCore import QCoreApplication, QEvent
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QDockWidget


@pytest.fixture
def plugin(qgis_iface, qgis_new_project, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "profile_folder", lambda: str(tmp_path))
    for name in ("addPluginToRasterMenu", "removePluginRasterMenu", "addToolBarIcon", "removeToolBarIcon"):
        monkeypatch.setattr(qgis_iface, name, lambda *_, name=name: CALLS.append(name), raising=False)
    CALLS.clear()
    plugin = classFactory(qgis_iface)
    yield plugin
    plugin.unload()
    QgsSettings().remove("afterimage")


CALLS = []


def provider():
    return QgsApplication.processingRegistry().providerById("afterimage")


def docks(plugin):
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    return plugin.iface.mainWindow().findChildren(QDockWidget, "AfterimageDock")


def test_nothing_opens_and_nothing_is_made_by_itself(plugin):
    plugin.initGui()
    assert CALLS == ["addPluginToRasterMenu", "addToolBarIcon"]
    assert (plugin.dock, plugin.session) == (None, None)
    assert docks(plugin) == [] and provider() is not None
    assert not plugin.action.icon().isNull()


def test_qgis_process_gets_the_algorithms_without_a_window(plugin):
    plugin.iface = None
    plugin.initProcessing()
    assert {algorithm.id() for algorithm in provider().algorithms()} == {
        "afterimage:edit",
        "afterimage:forecast",
        "afterimage:generate",
        "afterimage:superresolve",
    }
    assert plugin.action is None


def test_the_action_opens_and_closes_the_dock(plugin):
    plugin.iface.mainWindow().show()
    plugin.initGui()
    plugin.action.trigger()
    assert plugin.dock.isVisible() and plugin.action.isChecked()
    assert plugin.session.engine_state in ("stopped", "missing")
    first = plugin.dock
    plugin.action.trigger()
    assert not first.isVisible() and not plugin.action.isChecked()
    plugin.action.trigger()
    assert plugin.dock is first and first.isVisible()
    first.close()
    assert not plugin.action.isChecked()


def test_reloading_leaves_nothing_behind(plugin):
    for _ in range(3):
        plugin.initGui()
        plugin.open_dock()
        assert len(docks(plugin)) == 1
        plugin.unload()
        assert docks(plugin) == [] and provider() is None
        assert (plugin.dock, plugin.session, plugin.action) == (None, None, None)
    assert CALLS.count("addPluginToRasterMenu") == CALLS.count("removePluginRasterMenu") == 3
    assert CALLS.count("addToolBarIcon") == CALLS.count("removeToolBarIcon") == 3


def test_the_metadata_says_what_the_repository_asks_for(root: Path):
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(root / "metadata.txt", encoding="utf-8")
    general = metadata["general"]
    for key in ("name", "description", "version", "author", "email", "about", "tracker", "repository", "homepage"):
        assert general[key].strip()
    assert "plugin" not in general["name"].lower() and "/" not in general["author"]
    assert (general["qgisMinimumVersion"], general["qgisMaximumVersion"]) == ("3.22", "4.99")
    assert general.getboolean("hasProcessingProvider") and general.getboolean("experimental")
    assert "GB to download" in general["about"] and "AI-GENERATED" in general["about"]
    assert not QIcon(str(root / general["icon"])).pixmap(16, 16).isNull()
