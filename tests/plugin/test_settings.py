import os
from pathlib import Path

import pytest
from afterimage.engine.contract import DEFAULT_GFLOPS
from afterimage.plugin import settings
from qgis.core import QgsApplication, QgsSettings


def test_every_row_has_its_default_of_its_own_type(qgis_app):
    for row in settings.TABLE.values():
        assert type(row.default) is row.kind and row.meaning


def test_a_value_is_read_back_in_its_type(qgis_app):
    settings.write("engine/gflops", 12.5)
    assert settings.read("engine/gflops") == 12.5
    QgsSettings().setValue("afterimage/engine/gflops", "nonsense")
    assert settings.read("engine/gflops") == DEFAULT_GFLOPS
    QgsSettings().remove("afterimage/engine/gflops")


def test_a_key_outside_the_table_is_a_mistake(qgis_app):
    for use in (lambda: settings.read("colour"), lambda: settings.write("colour", 1)):
        with pytest.raises(KeyError):
            use()


def test_folders_are_in_the_profile(qgis_app):
    for folder in (settings.jobs_folder(), settings.engine_folder()):
        assert folder.startswith(QgsApplication.qgisSettingsDirPath())


def test_the_python_is_the_variable_s_then_the_setting_s_then_ours(qgis_app, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "engine_folder", lambda: str(tmp_path))
    monkeypatch.delenv(settings.PYTHON_VARIABLE, raising=False)
    assert settings.engine_python() is None
    python = settings.environment_python(str(tmp_path / "env-1"))
    os.makedirs(os.path.dirname(python))
    Path(python).touch()
    (tmp_path / settings.CURRENT).write_text('{"folder": "env-1"}')
    assert settings.engine_python() == python
    monkeypatch.setattr(settings, "read", lambda key: "/mine/python")
    assert settings.engine_python() == "/mine/python"
    monkeypatch.setenv(settings.PYTHON_VARIABLE, "~/python")
    assert settings.engine_python() == os.path.expanduser("~/python")
