"""The engine's tests run in the engine's Python."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("rasterio") else ["*"]
