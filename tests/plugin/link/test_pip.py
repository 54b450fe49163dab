from afterimage.plugin.link import pip
from qgis.core import QgsSettings


def test_pip_installs_into_the_environment_only(qgis_app, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/of/qgis")
    made = pip.pip_environment()
    assert made.value("PIP_USER") == "0"
    assert not made.contains("PIP_TARGET") and not made.contains("PYTHONPATH")


def test_pip_goes_through_the_proxy_of_qgis(qgis_app):
    stored = QgsSettings()
    values = {"proxyEnabled": True, "proxyType": "HttpProxy", "proxyHost": "proxy.example", "proxyPort": "8080"}
    for key, value in values.items():
        stored.setValue(f"proxy/{key}", value)
    try:
        assert pip.pip_environment().value("https_proxy") == "http://proxy.example:8080"
    finally:
        for key in values:
            stored.remove(f"proxy/{key}")
