"""What pip is told about the world: where to install, and how to reach the network."""

from qgis.PyQt.QtCore import QProcessEnvironment

from .channel import clean_environment
from .network import add_network


def pip_environment() -> QProcessEnvironment:
    """The environment for pip: into the environment only, through QGIS's proxy."""
    environment = add_network(clean_environment())
    environment.insert("PIP_USER", "0")
    environment.insert("PIP_NO_INPUT", "1")
    environment.insert("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    environment.remove("PIP_TARGET")
    environment.remove("PIP_PREFIX")
    environment.remove("PIP_REQUIRE_VIRTUALENV")
    if not environment.contains("PIP_DEFAULT_TIMEOUT"):
        environment.insert("PIP_DEFAULT_TIMEOUT", "60")
    return environment
