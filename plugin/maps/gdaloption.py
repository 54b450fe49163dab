"""One GDAL setting, for a while."""

from contextlib import contextmanager
from typing import Iterator

from osgeo import gdal


@contextmanager
def gdal_option(name: str, value: str) -> Iterator[None]:
    """Set a GDAL option for this thread, and put back what was there."""
    before = gdal.GetThreadLocalConfigOption(name)
    gdal.SetThreadLocalConfigOption(name, value)
    try:
        yield
    finally:
        gdal.SetThreadLocalConfigOption(name, before)
