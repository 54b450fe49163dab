"""What a network is shown of the layers that guide it: three bands in 0..1 for each, on the grid that is drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..contract import CONTENT, Control, GeoBox, Input, ModelCard, Source, Window
from ..errors import ExtentTooLarge, InvalidRequest, RequestError, SourceEmpty
from ..radiometry import HIGH_PERCENT, LOW_PERCENT, Radiometry, measure, rgb8
from ..raster import AlignedRaster, Raster, SourceRaster
from .bytefile import write

#: Most pixels of the extent, with its margin, that lines and edges are looked for in: all at once, because a line that
#: is cut is another one. LSD takes about 30 bytes and 0.25 us a pixel.
DERIVED_LIMIT = 2**25
#: Longest side of the read of an extent that heights are measured in, in pixels.
SAMPLE_SIDE = 1024
#: Longest side that a picture of content is read with, in pixels: towers look at some hundred.
CONTENT_SIDE = 2048
#: Folder in the job folder for derived maps; what is in it may be deleted at any time.
FOLDER = "scratch/controls"
#: How many of a raster's bands make a picture.
_BANDS = (1, 3)
_MADE_OF = {"lines": "straight lines", "edges": "edges", "depth": "heights"}


class ControlMaps:
    """The controls of a request. Nothing is kept open between reads.

    A raster of 8 bits is taken as it is, 0 to 255 becoming 0 to 1; of others, each band is stretched from its 0.5 to
    its 99.5 percentile over the whole raster. One band is repeated three times. Pixels without data are black, and so
    is what lies beyond the raster. Content is no map of the place: the whole raster counts, wherever it lies.

    Args:
        folder: the job folder.
        controls: at most one of a kind.
        grid: that is drawn.
        card: of the model that draws.
        check: called between parts of the work; may raise to stop.

    Attributes:
        inputs: the rasters, for the provenance.

    Raises:
        InvalidRequest: for a control that the model does not take, one that is missing, a strength that it cannot give,
            or a raster that is no picture, or no heights.
        SourceEmpty: for a raster without data in the extent.
        ExtentTooLarge: for an extent in which lines or edges cannot be looked for.
        RequestError: what ``AlignedRaster`` raises, besides.
    """

    def __init__(
        self,
        folder: Path,
        controls: tuple[Control, ...],
        grid: GeoBox,
        card: ModelCard,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        _check_card(controls, card)
        self._maps: dict[str, _Map] = {}
        inputs = []
        for control in controls:
            check()
            try:
                place = _whole(folder, control.source) if control.kind == CONTENT else grid
                making = _Making(folder, control, place, card, check)
                self._maps[control.kind] = making.map()
                inputs.append(making.input())
            except RequestError as error:
                # of several layers: which
                raise type(error)(f"{_layer(control)}: {error.message}", error.hint) from error
        self.inputs: tuple[Input, ...] = tuple(inputs)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of controls there are."""
        return tuple(self._maps)

    def pixels(self, window: Window) -> dict[str, NDArray[np.float32]]:
        """Kind of control -> its pixels (3, h, w) float32 in 0..1; content, which has no place, is not among them.

        Args:
            window: counted from the first pixel of the grid; may reach beyond it.
        """
        return {kind: self.of(kind, window) for kind in self._maps if kind != CONTENT}

    def of(self, kind: str, window: Window) -> NDArray[np.float32]:
        """One control's pixels, as above; a window of content counts from the first pixel of ``content_grid``."""
        return self._maps[kind].pixels(window)

    @property
    def content_grid(self) -> GeoBox | None:
        """The grid that content is read on: the raster's own, coarser where that is very large; None without any."""
        return self._maps[CONTENT].raster.grid if CONTENT in self._maps else None

    def content(self) -> NDArray[np.uint8] | None:
        """The picture whose content is told (3, h, w), black where it holds no data; None without any."""
        if self.content_grid is None:
            return None
        return np.rint(self.of(CONTENT, self.content_grid.window) * 255).astype(np.uint8)


def named(kind: str) -> str:
    """A kind of control as a person reads it."""
    return kind.replace("_", " ")


def _whole(folder: Path, source: Source) -> GeoBox:
    """The grid of a whole raster, coarser where it has more than ``CONTENT_SIDE`` pixels along a side."""
    with SourceRaster(folder, source) as file:
        grid = file.grid
    step = -(-max(grid.shape) // CONTENT_SIDE)
    a, b, c, d, e, f = grid.transform
    shape = (max(1, grid.height // step), max(1, grid.width // step))
    return GeoBox(grid.crs, (a * step, b * step, c, d * step, e * step, f), shape)


def _layer(control: Control) -> str:
    given = control.source.name or control.source.path
    return f"The layer {given} for {named(control.kind)}"


def _check_card(controls: tuple[Control, ...], card: ModelCard) -> None:
    takes = ", ".join(named(kind) for kind in card.controls)
    given = {control.kind for control in controls}
    for control in controls:
        kind = named(control.kind)
        if control.kind not in card.controls:
            raise InvalidRequest(
                f"The model {card.name} is not guided by {kind}.",
                f"It takes {takes}." if takes else "Take the layer away, or choose a model that takes it.",
            )
        if control.derive and control.derive != control.kind:
            raise InvalidRequest(
                f"{_MADE_OF[control.derive].capitalize()} do not make {kind}.", f"Choose a layer that shows {kind}."
            )
        if control.strength != 1 and not card.knows_strength(control.kind):
            raise InvalidRequest(
                f"The model {card.name} knows no strength of {kind}.", "Set the strength of the layer to 1."
            )
    missing = [named(kind) for kind in card.required if kind not in given]
    if missing:
        raise InvalidRequest(
            f"The model {card.name} needs a layer of {' and '.join(missing)}.", "Choose one, or another model."
        )


@dataclass(frozen=True)
class _Map:
    """One control that can be read.

    Attributes:
        raster: one or three bands, on the grid that is drawn.
        radiometry: their numbers -> 0..1.
    """

    raster: AlignedRaster
    radiometry: Radiometry

    def pixels(self, window: Window) -> NDArray[np.float32]:
        """(3, h, w) in 0..1."""
        part = self.raster.read(window)
        unit = np.clip(self.radiometry.to_unit(part.pixels), 0, 1)
        unit[:, ~part.valid] = 0
        return np.repeat(unit, 3, axis=0) if len(unit) == 1 else unit


class _Making:
    """One control, from its raster to what can be read."""

    def __init__(
        self, folder: Path, control: Control, grid: GeoBox, card: ModelCard, check: Callable[[], None]
    ) -> None:
        self._folder, self._control, self._grid, self._check = folder, control, grid, check
        # windows of the model reach beyond the extent, and see lines there too
        self._area = grid.pad(card.window)
        if control.derive in ("lines", "edges") and self._area.pixels > DERIVED_LIMIT:
            raise ExtentTooLarge(
                f"The extent has {self._area.pixels:,} pixels with its margin, and {_MADE_OF[control.derive]} are "
                f"looked for in at most {DERIVED_LIMIT:,}.",
                "Draw a smaller extent, or choose a layer that shows them already.",
            )
        how = "classes" if control.kind == "land_use" else "picture"
        self._raster = AlignedRaster(folder, control.source, grid, how)
        self._check_bands()
        self._sampled = self._sample()

    def input(self) -> Input:
        """For the provenance."""
        source = self._control.source
        return Input(source.name or source.path, self._sha256, self._raster.original)

    @cached_property
    def _sha256(self) -> str:
        return self._raster.sha256(self._check)

    def map(self) -> _Map:
        """The control as it is read."""
        if self._control.derive == "depth":
            return _Map(self._raster, self._nearness())
        radiometry = self._radiometry()
        if not self._control.derive:
            return _Map(self._raster, radiometry)
        return _Map(AlignedRaster(self._folder, self._derived(radiometry), self._grid), rgb8(1))

    def _check_bands(self) -> None:
        count, wanted = len(self._raster.bands), (1,) if self._control.derive == "depth" else _BANDS
        if count not in wanted:
            words = "heights are one band" if wanted == (1,) else "one band or three make a picture"
            raise InvalidRequest(f"It has {count} bands, and {words}.", "Choose the bands that are meant.")

    def _sample(self) -> Raster:
        """The extent, coarsely. Raises SourceEmpty where the raster holds no data in it."""
        step = -(-max(self._grid.shape) // SAMPLE_SIDE)
        a, b, c, d, e, f = self._grid.transform
        shape = (-(-self._grid.height // step), -(-self._grid.width // step))
        coarse = GeoBox(self._grid.crs, (a * step, b * step, c, d * step, e * step, f), shape)
        sampled = AlignedRaster(self._folder, self._control.source, coarse).read(coarse.window, self._check)
        if not sampled.valid.any():
            if self._control.kind == CONTENT:
                raise SourceEmpty("It holds no data.", "Choose a picture that shows something.")
            raise SourceEmpty("It holds no data in the extent.", "Choose a layer that covers the extent.")
        return sampled

    def _radiometry(self) -> Radiometry:
        """Numbers of the whole raster -> 0..1."""
        profile, whole = self._raster.profile, self._raster.sample(self._check)
        if profile.dtype != "uint8":
            return measure(whole, profile)
        if whole.valid.any() and whole.pixels[:, whole.valid].max() == 1 and not self._control.derive:
            raise InvalidRequest(
                "Its numbers are 0 and 1 only, out of 0 to 255, which is black to the model.",
                "Give it colours: 0 and 255, or those that the model was trained on.",
            )
        return rgb8(len(profile.bands))

    def _nearness(self) -> Radiometry:
        """Heights of the extent -> 0..1: high ground is near to a sensor above it. Even ground is black.

        As the depth maps that networks are trained on, which span their range in every picture, whatever the metres.
        """
        heights = self._sampled.pixels[0][self._sampled.valid].astype(np.float64)
        low, high = (float(each) for each in np.percentile(heights, (LOW_PERCENT, HIGH_PERCENT)))
        if high - low <= 1e-6 * max(abs(low), abs(high), 1e-6):
            low, high = float(heights.max()), float(heights.max()) + max(1.0, abs(float(heights.max())))
        return Radiometry(self._raster.profile.dtype, (low,), (high,))

    def _derived(self, radiometry: Radiometry) -> Source:
        """Lines or edges in the whole extent and a margin, as a raster in the job folder; made once."""
        from . import linework  # only who asks for it needs OpenCV

        derive, area = self._control.derive, self._area
        made_of = {
            "version": linework.VERSION,
            "derive": derive,
            "raster": self._sha256,
            "lies": [self._raster.original.crs, *self._raster.original.transform],
            "numbers": [radiometry.low, radiometry.high],
            "area": [area.crs, *area.transform, *area.shape],
        }
        mark = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        name = f"{FOLDER}/{derive}-{mark}.tif"
        path = self._folder / name
        if not path.is_file():
            margin = (area.height - self._grid.height) // 2
            picture = self._raster.read(self._grid.window.pad(margin), self._check)
            unit = np.clip(radiometry.to_unit(picture.pixels), 0, 1)
            find = linework.straight_lines if derive == "lines" else linework.edges
            self._check()
            found = find(np.rint(unit * 255).astype(np.uint8), picture.valid)
            write(path, lambda window: found[(None, *window.slices())], 1, area, self._check)
        return Source(name, self._control.source.name, (1,))
