"""What pip is told about the world: where to install, and how to reach the network."""

from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QProcessEnvironment, QUrl

from .channel import clean_environment


def pip_environment() -> QProcessEnvironment:
    """The environment for pip: into the environment only, through QGIS's proxy."""
    environment = clean_environment()
    environment.insert("PIP_USER", "0")
    environment.insert("PIP_NO_INPUT", "1")
    environment.insert("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    environment.remove("PIP_TARGET")
    environment.remove("PIP_PREFIX")
    environment.remove("PIP_REQUIRE_VIRTUALENV")
    if not environment.contains("PIP_DEFAULT_TIMEOUT"):
        environment.insert("PIP_DEFAULT_TIMEOUT", "60")
    proxy = proxy_address()
    if proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            environment.insert(name, proxy)
    return environment


def proxy_address() -> str:
    """QGIS's HTTP proxy as an address with its user, "" where none is set."""
    stored = QgsSettings()
    kind = stored.value("proxy/proxyType", "")
    if not stored.value("proxy/proxyEnabled", False, type=bool) or kind not in ("HttpProxy", "HttpCachingProxy"):
        return ""
    address = QUrl()
    address.setScheme("http")
    address.setHost(stored.value("proxy/proxyHost", ""))
    if str(stored.value("proxy/proxyPort", "")).isdigit():
        address.setPort(int(stored.value("proxy/proxyPort")))
    if stored.value("proxy/proxyUser", ""):
        address.setUserName(stored.value("proxy/proxyUser"))
        address.setPassword(stored.value("proxy/proxyPassword", ""))
    return bytes(address.toEncoded()).decode("ascii") if address.host() else ""
