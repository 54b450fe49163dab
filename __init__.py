"""Afterimage: generate and sharpen satellite imagery in QGIS with a local diffusion engine.

The repository root is the plugin package. QGIS calls ``classFactory``; the engine process imports the same
package under the same name, so nothing here may import Qt, QGIS or torch.
"""


def classFactory(iface):  # noqa: N802  (QGIS asks for this name)
    """Return the plugin for the given ``QgisInterface``."""
    from .plugin.plugin import AfterimagePlugin

    return AfterimagePlugin(iface)
