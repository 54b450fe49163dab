"""How another process reaches the network: through QGIS's proxy, trusting whom QGIS trusts."""

import os
import re
from typing import List, Optional

from qgis.core import Qgis, QgsApplication, QgsSettings
from qgis.PyQt.QtCore import QProcessEnvironment, QUrl
from qgis.PyQt.QtNetwork import QNetworkProxy

from ...engine.contract import ErrorCode
from .. import settings
from ..report import Problem, log, tr

_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_NO_PROXY = ("NO_PROXY", "no_proxy")
#: Each library reads another of these: OpenSSL, requests, pip.
_BUNDLE = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
_HTTP = ("HttpProxy", "HttpCachingProxy")
_SOCKS = "Socks5Proxy"
_HOST = re.compile(r"\[?[A-Za-z0-9._:*-]+\]?", re.ASCII)


def add_network(environment: QProcessEnvironment) -> QProcessEnvironment:
    """The same environment, with QGIS's proxy, the hosts that go without it, and QGIS's certificate authorities.

    What QGIS leaves to the system stays as the system has it.
    """
    proxy = proxy_address()
    if proxy:
        for name in _PROXY:
            environment.insert(name, proxy)
        before = next((environment.value(name) for name in _NO_PROXY if environment.contains(name)), "")
        direct = list(dict.fromkeys([*filter(None, before.split(",")), *direct_hosts()]))
        for name in _NO_PROXY if direct else ():
            environment.insert(name, ",".join(direct))
    bundle = certificate_bundle(environment.value("SSL_CERT_FILE"))
    if bundle is not None:
        for name in _BUNDLE:
            environment.insert(name, bundle)
    return environment


def require_passable_proxy(code: ErrorCode) -> None:
    """Refuse to reach the network past QGIS's SOCKS proxy, which neither pip nor the engine can go through.

    Args:
        code: of what would reach it.

    Raises:
        Problem: with this code.
    """
    if _proxy_kind() == _SOCKS:
        raise Problem(
            code,
            tr("QGIS goes through a SOCKS proxy, and downloads of the engine only go through HTTP proxies."),
            tr("Set an HTTP proxy, or none, in Settings > Options > Network, then try again."),
        )


def _proxy_kind() -> str:
    """Of the proxy that QGIS's options set, "" where they set none."""
    stored = QgsSettings()
    is_on = stored.value("proxy/proxyEnabled", False, type=bool)
    return str(stored.value("proxy/proxyType", "") or "") if is_on else ""


def proxy_address() -> str:
    """QGIS's HTTP proxy as an address with its user, "" where none is set.

    QGIS's "system" proxy needs no words here: Python asks the system for it, too.
    """
    stored = QgsSettings()
    if _proxy_kind() not in _HTTP:
        return ""
    proxy = QNetworkProxy(QNetworkProxy.ProxyType.HttpProxy, stored.value("proxy/proxyHost", ""))
    proxy.setUser(stored.value("proxy/proxyUser", "") or "")
    proxy.setPassword(stored.value("proxy/proxyPassword", "") or "")
    kept = stored.value("proxy/authcfg", "")
    if kept:  # user and password are in QGIS's authentication database
        is_known, known = QgsApplication.authManager().updateNetworkProxy(proxy, kept)
        proxy = known if is_known else proxy
    address = QUrl()
    address.setScheme("http")
    address.setHost(proxy.hostName())
    if str(stored.value("proxy/proxyPort", "")).isdigit():
        address.setPort(int(stored.value("proxy/proxyPort")))
    if proxy.user():
        address.setUserName(proxy.user())
        address.setPassword(proxy.password())
    return bytes(address.toEncoded()).decode("ascii") if address.host() else ""


def direct_hosts() -> List[str]:
    """Hosts that QGIS's options exclude from the proxy. QGIS excludes addresses; other programs know hosts only."""
    stored = QgsSettings()
    hosts = []
    for key in ("proxy/proxyExcludedUrls", "proxy/noProxyUrls"):
        listed = stored.value(key, []) or []
        for address in [listed] if isinstance(listed, str) else listed:
            text = address.strip()
            host = QUrl(text).host() if "//" in text else text.split("/")[0]
            if _HOST.fullmatch(host):
                hosts.append(host)
    return list(dict.fromkeys(hosts))


def certificate_bundle(more: str = "") -> Optional[str]:
    """A file with every certificate authority that QGIS trusts; None where the person added none to QGIS.

    Args:
        more: a file whose certificates are trusted already, "" for none.
    """
    manager = QgsApplication.authManager()
    if manager.isDisabled() or not (manager.databaseCAs() or manager.extraFileCAs()):
        return None
    text = bytes(manager.trustedCaCertsPemText())
    path = os.path.join(settings.profile_folder(), "certificates.pem")
    try:
        if more and os.path.abspath(more) != path:
            with open(more, "rb") as file:
                text += b"\n" + file.read()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "wb") as file:
            file.write(text)
        os.replace(path + ".part", path)
    except OSError as error:
        log(tr("QGIS's certificates cannot be passed on: {}").format(error), Qgis.MessageLevel.Warning)
        return None
    return path
