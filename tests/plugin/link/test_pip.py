from afterimage.plugin.link import pip
from qgis.core import QgsSettings


def test_pip_installs_into_the_environment_only(qgis_app, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/of/qgis")
    made = pip.pip_environment()
    assert made.value("PIP_USER") == "0"
    assert not made.contains("PIP_TARGET") and not made.contains("PYTHONPATH")


def test_the_proxy_of_qgis_is_used(qgis_app):
    stored = QgsSettings()
    values = {"proxyEnabled": True, "proxyType": "HttpProxy", "proxyHost": "proxy.example", "proxyPort": "8080"}
    values.update({"proxyUser": "a b", "proxyPassword": "p@ss/word"})  # pragma: allowlist secret
    for key, value in values.items():
        stored.setValue(f"proxy/{key}", value)
    try:
        assert pip.proxy_address() == "http://a%20b:p%40ss%2Fword@proxy.example:8080"
        stored.setValue("proxy/proxyType", "Socks5Proxy")
        assert pip.proxy_address() == ""
        stored.setValue("proxy/proxyType", "HttpProxy")
        stored.setValue("proxy/proxyEnabled", False)
        assert pip.proxy_address() == ""
    finally:
        for key in values:
            stored.remove(f"proxy/{key}")
