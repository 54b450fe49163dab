"""A regular grid on the earth, and rectangles of its pixels: pure arithmetic, no projections."""

import math
from dataclasses import dataclass
from typing import Tuple

#: (a, b, c, d, e, f): x = a * col + b * row + c, y = d * col + e * row + f. Affine order, never GDAL's.
Affine = Tuple[float, float, float, float, float, float]
Bounds = Tuple[float, float, float, float]


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: first row, first column, height, width. May reach outside a grid."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        """Refuse rectangles without pixels."""
        if self.height <= 0 or self.width <= 0:
            raise ValueError("window must be at least one pixel high and wide")

    @property
    def row_end(self) -> int:
        """One past the last row."""
        return self.row + self.height

    @property
    def col_end(self) -> int:
        """One past the last column."""
        return self.col + self.width

    def pad(self, pixels: int) -> "Window":
        """The window grown by so many pixels on each side (shrunk, when negative)."""
        return Window(self.row - pixels, self.col - pixels, self.height + 2 * pixels, self.width + 2 * pixels)

    def intersects(self, other: "Window") -> bool:
        """Whether the two share a pixel."""
        return (
            self.row < other.row_end
            and other.row < self.row_end
            and self.col < other.col_end
            and other.col < self.col_end
        )

    def intersection(self, other: "Window") -> "Window":
        """The pixels that both hold. Raises ValueError where there are none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        return Window(row, col, min(self.row_end, other.row_end) - row, min(self.col_end, other.col_end) - col)

    def relative_to(self, other: "Window") -> "Window":
        """The same pixels, counted from the corner of another window."""
        return Window(self.row - other.row, self.col - other.col, self.height, self.width)

    def slices(self) -> Tuple[slice, slice]:
        """(rows, columns), to index the last two axes of an array that starts at pixel (0, 0)."""
        return slice(self.row, self.row_end), slice(self.col, self.col_end)


@dataclass(frozen=True)
class GeoBox:
    """Which pixels, where.

    Attributes:
        crs: authority code where it is exact ("EPSG:32633"), else WKT2. Not interpreted here.
        transform: pixel corner (col, row) -> map (x, y) in CRS units, affine order.
        shape: (height, width) in pixels, each at least 1.

    Raises:
        ValueError: for a shape without pixels, or a transform that is not finite or not invertible.
    """

    crs: str
    transform: Affine
    shape: Tuple[int, int]

    def __post_init__(self) -> None:
        """Check that the grid is one."""
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError("shape must be (height, width), each at least 1")
        if len(self.transform) != 6 or not all(math.isfinite(value) for value in self.transform):
            raise ValueError("transform must be six finite numbers")
        a, b, _, d, e, _ = self.transform
        if a * e - b * d == 0.0:
            raise ValueError("transform must be invertible")

    @classmethod
    def from_bounds(cls, crs: str, bounds: Bounds, resolution: float, anchored: bool = True) -> "GeoBox":
        """The north-up grid with square pixels that covers bounds.

        Args:
            crs: as in the class.
            bounds: (left, bottom, right, top) in CRS units.
            resolution: pixel size in CRS units.
            anchored: pixel edges on multiples of ``resolution`` from the CRS origin, so that two extents share pixels;
                else the first pixel begins in the corner (left, top).

        Raises:
            ValueError: for bounds that are empty, inverted or not finite, or a resolution that is not positive.
        """
        left, bottom, right, top = bounds
        if not all(math.isfinite(value) for value in bounds):
            raise ValueError("bounds must be finite")
        if not (right > left and top > bottom):
            raise ValueError("bounds must have left < right and bottom < top")
        if not (math.isfinite(resolution) and resolution > 0):
            raise ValueError("resolution must be positive")
        # An edge that lies on the lattice up to rounding must not gain a row of pixels: 1e-6 of a pixel is no pixel.
        slack = 1e-6
        if anchored:
            col, row = math.floor(left / resolution + slack), math.ceil(top / resolution - slack)
            width = math.ceil(right / resolution - slack) - col
            height = row - math.floor(bottom / resolution + slack)
            left, top = col * resolution, row * resolution
        else:
            width = math.ceil((right - left) / resolution - slack)
            height = math.ceil((top - bottom) / resolution - slack)
        return cls(crs, (resolution, 0.0, left, 0.0, -resolution, top), (max(height, 1), max(width, 1)))

    @property
    def height(self) -> int:
        """Rows."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.shape[1]

    @property
    def pixels(self) -> int:
        """Rows times columns."""
        return self.shape[0] * self.shape[1]

    @property
    def window(self) -> Window:
        """All of its pixels."""
        return Window(0, 0, *self.shape)

    @property
    def resolution(self) -> Tuple[float, float]:
        """Pixel width and height in CRS units, both positive, along the grid's own axes."""
        a, b, _, d, e, _ = self.transform
        return math.hypot(a, d), math.hypot(b, e)

    @property
    def is_axis_aligned(self) -> bool:
        """Whether rows run along x and columns along y."""
        return self.transform[1] == 0.0 and self.transform[3] == 0.0

    @property
    def corners(self) -> Tuple[Tuple[float, float], ...]:
        """The four outer corners (x, y): first row left, right, last row right, left."""
        height, width = self.shape
        return (self.to_map(0, 0), self.to_map(width, 0), self.to_map(width, height), self.to_map(0, height))

    @property
    def bounds(self) -> Bounds:
        """(left, bottom, right, top) of the smallest upright rectangle around it, in CRS units."""
        xs, ys = zip(*self.corners)
        return min(xs), min(ys), max(xs), max(ys)

    def to_map(self, col: float, row: float) -> Tuple[float, float]:
        """Pixel corner coordinates -> map (x, y)."""
        a, b, c, d, e, f = self.transform
        return a * col + b * row + c, d * col + e * row + f

    def to_pixel(self, x: float, y: float) -> Tuple[float, float]:
        """Map (x, y) -> pixel corner coordinates (col, row)."""
        a, b, c, d, e, f = self.transform
        det = a * e - b * d
        return (e * (x - c) - b * (y - f)) / det, (a * (y - f) - d * (x - c)) / det

    def crop(self, window: Window) -> "GeoBox":
        """The grid of one window; the window may reach outside."""
        a, b, _, d, e, _ = self.transform
        x, y = self.to_map(window.col, window.row)
        return GeoBox(self.crs, (a, b, x, d, e, y), (window.height, window.width))

    def pad(self, pixels: int) -> "GeoBox":
        """Grown by so many pixels on each side."""
        return self.crop(self.window.pad(pixels))

    def zoom(self, factor: int) -> "GeoBox":
        """The same ground in pixels ``factor`` times finer: pixel-is-area, no half-pixel shift."""
        if factor < 1:
            raise ValueError("factor must be at least 1")
        a, b, c, d, e, f = self.transform
        transform = (a / factor, b / factor, c, d / factor, e / factor, f)
        return GeoBox(self.crs, transform, (self.shape[0] * factor, self.shape[1] * factor))

    def anchor(self) -> Tuple[int, int]:
        """(row, col) of the first pixel on the absolute lattice of this CRS and pixel size.

        Two anchored grids of one CRS and pixel size give one ground pixel the same absolute place; for others the
        place is rounded to the nearest pixel.
        """
        col, row = self.to_pixel(0.0, 0.0)
        return round(-row), round(-col)
