from pathlib import Path

import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin import settings
from afterimage.plugin.link import network
from afterimage.plugin.report import Problem
from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QProcessEnvironment

KEYS = "proxyEnabled proxyType proxyHost proxyPort proxyUser proxyPassword proxyExcludedUrls noProxyUrls".split()


@pytest.fixture
def options(qgis_app):
    """Sets QGIS's network options: ``options(proxyHost=...)``."""
    stored = QgsSettings()

    def write(**values):
        for key, value in values.items():
            stored.setValue(f"proxy/{key}", value)

    write(proxyEnabled=True, proxyType="HttpProxy", proxyHost="proxy.example", proxyPort="8080")
    yield write
    for key in KEYS:
        stored.remove(f"proxy/{key}")


def test_the_proxy_is_an_address_with_its_user(options):
    options(proxyUser="a b", proxyPassword="p@ss/word")  # pragma: allowlist secret
    assert network.proxy_address() == "http://a%20b:p%40ss%2Fword@proxy.example:8080"
    options(proxyType="Socks5Proxy")
    assert network.proxy_address() == ""
    options(proxyType="HttpProxy", proxyEnabled=False)
    assert network.proxy_address() == ""


def test_a_socks_proxy_is_refused_and_never_bypassed(options):
    network.require_passable_proxy(ErrorCode.DOWNLOAD_FAILED)
    options(proxyType="Socks5Proxy")
    with pytest.raises(Problem) as refused:
        network.require_passable_proxy(ErrorCode.DOWNLOAD_FAILED)
    failure = refused.value.failure
    assert failure.code is ErrorCode.DOWNLOAD_FAILED and "SOCKS" in failure.message and "HTTP proxy" in failure.hint
    options(proxyEnabled=False)
    network.require_passable_proxy(ErrorCode.DOWNLOAD_FAILED)


def test_excluded_addresses_go_without_the_proxy(options):
    options(
        proxyExcludedUrls=[
            "https://intranet.example/maps",
            "http://10.0.0.1:8080/",
            "files.example/x",
            "",
            "not a host",
        ],
        noProxyUrls="https://intranet.example/other",
    )
    assert network.direct_hosts() == ["intranet.example", "10.0.0.1", "files.example"]
    environment = QProcessEnvironment()
    environment.insert("NO_PROXY", "localhost")
    network.add_network(environment)
    assert environment.value("HTTPS_PROXY") == environment.value("http_proxy") == "http://proxy.example:8080"
    assert environment.value("no_proxy") == "localhost,intranet.example,10.0.0.1,files.example"


def test_without_a_proxy_nothing_is_said_of_one(options):
    options(proxyEnabled=False, proxyExcludedUrls=["https://intranet.example"])
    environment = network.add_network(QProcessEnvironment())
    assert environment.isEmpty()


class Manager:
    """Certificates of QGIS, one of them the person's own."""

    own = ("one",)

    def isDisabled(self):  # noqa: N802
        return False

    def databaseCAs(self):  # noqa: N802
        return self.own

    def extraFileCAs(self):  # noqa: N802
        return ()

    def trustedCaCertsPemText(self):  # noqa: N802
        return b"QGIS's\n"


def test_certificates_that_were_added_to_qgis_are_passed_on(options, monkeypatch, tmp_path):
    options(proxyEnabled=False)
    monkeypatch.setattr(settings, "profile_folder", lambda: str(tmp_path / "profile"))
    monkeypatch.setattr(network.QgsApplication, "authManager", Manager)
    given = tmp_path / "given.pem"
    given.write_bytes(b"the system's\n")
    environment = QProcessEnvironment()
    environment.insert("SSL_CERT_FILE", str(given))
    network.add_network(environment)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"):
        assert Path(environment.value(name)).read_bytes().split() == [b"QGIS's", b"the", b"system's"]


def test_without_certificates_of_its_own_qgis_says_nothing(options, monkeypatch):
    options(proxyEnabled=False)
    monkeypatch.setattr(Manager, "own", ())
    monkeypatch.setattr(network.QgsApplication, "authManager", Manager)
    assert network.add_network(QProcessEnvironment()).isEmpty()
