"""A coarser level that is drawn first, and that the windows of a picture start from, enlarged and under noise.

A window of a model covers so many times more ground there, so what is drawn agrees over as much more. The coarser level
is a picture like any other: on a lattice without end, of noise that is a function of seed and place. So is what is
drawn from it.

Source: Ho et al. 2022, "Cascaded Diffusion Models for High Fidelity Image Generation", for pictures from pictures of
lower resolution; Meng et al. 2022, "SDEdit", for a picture that starts from another one under noise. The cascade needs
a second model, which is shown the first one's picture; what is taken here needs only one that is told its resolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import COARSE_MEMORY, GeoBox, Sampling, Window
from ..diffusion.cache import TileCache
from ..diffusion.loop import batches
from ..diffusion.windows import squares
from ..errors import InvalidRequest
from ..models.base import EditModel, Scene
from .canvas import Canvas
from .chunks import absolute, relative
from .decoding import BLOCK
from .picture import Picture, Place, to_bytes
from .regions import NARROWEST, RegionTexts

#: The streams of noise begin here: each step of the picture has its own below.
STREAM = 2**32
#: Coarse pixels around a part that its enlargement looks at.
_REACH = 2
#: Samples and squares of the coarse lattice.
_Key = tuple[int, tuple[int, int]]


class CoarseLevel:
    """The coarser level of a picture. It is drawn where the windows of the picture ask for it, and remembered a while.

    Args:
        grid: of the picture.
        model: that draws both; its card takes ``factor``.
        sampling: how.
        scene: what the model is told of the picture.
        factor: pixels of the picture along each side of a coarse one.
        strength: how far the picture leaves this level: the share of the steps that it takes.
        canvas: of the picture, where this level is shown until the picture is.
        regions: texts that count in parts of the picture; the same count here.

    Raises:
        InvalidRequest: where the model would be told the same of both levels.
        PromptNotUnderstood: see ``GenerateModel.told``.
    """

    def __init__(
        self,
        grid: GeoBox,
        model: EditModel,
        sampling: Sampling,
        scene: Scene,
        factor: int,
        strength: float,
        canvas: Canvas,
        regions: RegionTexts | None = None,
    ) -> None:
        self.strength = strength
        self._model, self._factor, self._canvas = model, factor, canvas
        self._origin = grid.anchor()
        whole = coarse_window(absolute(grid.window, self._origin), factor)
        #: where the first coarse pixel lies in pixels of the grid
        self._first = whole.row * factor - self._origin[0], whole.col * factor - self._origin[1]
        told = dataclasses.replace(scene, gsd=None if scene.gsd is None else scene.gsd * factor)
        prompts = (scene.prompt,) if regions is None else regions.texts
        for prompt in prompts:
            both = (model.told(dataclasses.replace(each, prompt=prompt)) for each in (scene, told))
            if _is_same(*both):
                raise InvalidRequest(
                    f"The model {model.card.name} would be told the same of the picture and of its coarser level, as "
                    "where the prompt names a resolution.",
                    "Take the resolution out of the prompt, or choose no coarser level.",
                )
        self._picture = Picture(
            _coarser(grid, whole, self._first, factor),
            model,
            sampling,
            told,
            regions=None if regions is None else CoarseTexts(regions, factor, self._first),
            canvas=_Under(canvas, factor, self._first),
            is_endless=True,
            stream=STREAM,
            limit=COARSE_MEMORY // 4,
        )
        self._squares = TileCache(COARSE_MEMORY // 4)

    def draw(self, places: Sequence[Place], ctx: JobContext) -> None:
        """Draw all that windows of the picture, in absolute pixels, will start from, in as few batches as there are."""
        self._found(places, ctx)

    def latents(self, places: Sequence[Place], ctx: JobContext) -> Tensor:
        """What windows of the picture start from (B, channels, h, w), without noise, on the model's device."""
        found = self._found(places, ctx)
        pictures = []
        for sample, window in places:
            area = _reach(window, self._factor)
            pixels = torch.zeros(len(self._model.card.bands), area.height, area.width)
            for part in squares(area, BLOCK):
                index = (part.row // BLOCK, part.col // BLOCK)
                rows, cols = part.relative_to(area).slices()
                inner_rows, inner_cols = part.relative_to(_square(index)).slices()
                pixels[:, rows, cols] = found[(sample, index)][:, inner_rows, inner_cols]
            pictures.append(enlarged(pixels, area, window, self._factor).clamp(0, 1))
        codes = []
        with torch.inference_mode():
            for batch, count in batches(pictures, self._model.batch):
                codes.append(self._model.encode(torch.stack(batch).to(self._model.device)).float()[:count])
        return torch.cat(codes)

    def _found(self, places: Sequence[Place], ctx: JobContext) -> dict[_Key, Tensor]:
        """Pixels (bands, BLOCK, BLOCK) of the squares that the windows look at."""
        keys = sorted(
            {
                (sample, (part.row // BLOCK, part.col // BLOCK))
                for sample, window in places
                for part in squares(_reach(window, self._factor), BLOCK)
            }
        )
        return self._squares.get(keys, lambda missing: self._drawn(missing, ctx))

    def _drawn(self, keys: list[_Key], ctx: JobContext) -> list[Tensor]:
        found: dict[_Key, Tensor] = {}
        for sample in sorted({number for number, _ in keys}):
            own = [key for key in keys if key[0] == sample]
            drawn = self._picture.pixels([_square(index) for _, index in own], sample, ctx)
            found.update(zip(own, drawn))
        if ctx.shows:
            self._show(found, ctx)
        return [found[key] for key in keys]

    def _show(self, found: dict[_Key, Tensor], ctx: JobContext) -> None:
        every = np.ones((BLOCK, BLOCK), np.bool_)
        for (_, index), pixels in found.items():
            place = relative(_times(_square(index), self._factor), self._origin)
            self._canvas.paint(to_bytes(pixels), every, place, self._factor)
        self._canvas.show(ctx)


class CoarseTexts(RegionTexts):
    """The regions of a picture as its coarser level sees them: the same shares, of as much larger latents.

    That level is drawn wherever it is asked for, since windows at the border of a region look beyond it.

    Args:
        regions: on the grid of the picture.
        factor: pixels of it along each side of a coarse one.
        first: (row, col) of the first coarse pixel on that grid.
    """

    def __init__(self, regions: RegionTexts, factor: int, first: tuple[int, int]) -> None:
        self._regions, self._factor, self._first = regions, factor, first
        self.texts, self.only, self.sha256 = regions.texts, False, regions.sha256

    def labels(self, window: Window) -> NDArray[np.uint8]:
        """Those of the pixels in the middle of each coarse one."""
        middles = slice(self._factor // 2, None, self._factor)
        return self._regions.labels(self._of_picture(window))[middles, middles]

    def shares(self, window: Window, scale: int, width: float = NARROWEST) -> dict[int, Tensor]:
        """See ``RegionTexts``; a coarse latent covers ``factor`` times as many pixels of the picture."""
        return self._regions.shares(self._of_picture(window), scale * self._factor, width)

    def _of_picture(self, window: Window) -> Window:
        larger = _times(window, self._factor)
        return Window(larger.row + self._first[0], larger.col + self._first[1], larger.height, larger.width)


class _Under(Canvas):
    """The canvas of a picture, to be painted on where the picture itself has not been yet.

    Args:
        canvas: of the picture.
        factor: pixels of it along each side of one that is painted.
        first: (row, col) on its grid of the first pixel that windows count.
    """

    def __init__(self, canvas: Canvas, factor: int, first: tuple[int, int]) -> None:
        self._canvas, self._factor, self._first = canvas, factor, first

    def is_due(self) -> bool:
        return self._canvas.is_due()

    def paint(self, pixels: NDArray[np.generic], valid: NDArray[np.bool_], window: Window, zoom: int = 1) -> None:
        larger = _times(window, self._factor)
        place = Window(larger.row + self._first[0], larger.col + self._first[1], larger.height, larger.width)
        self._canvas.paint(pixels, valid, place, zoom * self._factor)

    def show(self, ctx: JobContext) -> None:
        self._canvas.show(ctx)


def coarse_window(window: Window, factor: int) -> Window:
    """The coarse pixels that hold the pixels of a window, both absolute: pixel i lies in coarse pixel i // factor."""
    row, col = window.row // factor, window.col // factor
    return Window(row, col, -(-window.row_end // factor) - row, -(-window.col_end // factor) - col)


def enlarged(pixels: Tensor, area: Window, window: Window, factor: int) -> Tensor:
    """Bicubic enlargement (Keys 1981, a = -0.5), pixel edges aligned: a pixel has the same bits in any window.

    Args:
        pixels: (bands, h, w) of an area.
        area: in absolute coarse pixels, ``_REACH`` wider on each side than those that hold the window.
        window: in absolute pixels.
        factor: pixels along each side of a coarse one.

    Returns:
        (bands, height, width) of the window.
    """
    down = _along(window.row, window.height, area.row, factor)
    tall = sum((weight[:, None] * pixels[:, places] for weight, places in down), torch.tensor(0.0))
    right = _along(window.col, window.width, area.col, factor)
    return sum((weight * tall[:, :, places] for weight, places in right), torch.tensor(0.0))


def _along(first: int, count: int, area: int, factor: int) -> list[tuple[Tensor, Tensor]]:
    """(weights, places in an area) of the four coarse pixels that each of some pixels in a row is made of."""
    # pixel i lies (2 i + 1 - factor) / (2 factor) pixels behind the centre of coarse pixel 0
    twice = 2 * torch.arange(first, first + count) + 1 - factor
    before = torch.div(twice, 2 * factor, rounding_mode="floor")
    beyond = (twice - 2 * factor * before).double() / (2 * factor)
    found = []
    for tap in range(-1, 3):
        x = (beyond - tap).abs()
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        found.append((torch.where(x <= 1, near, far).float(), before + tap - area))
    return found


def _reach(window: Window, factor: int) -> Window:
    """The coarse pixels that the enlargement of a window looks at."""
    return coarse_window(window, factor).pad(_REACH)


def _times(window: Window, factor: int) -> Window:
    return Window(window.row * factor, window.col * factor, window.height * factor, window.width * factor)


def _square(index: tuple[int, int]) -> Window:
    return Window(index[0] * BLOCK, index[1] * BLOCK, BLOCK, BLOCK)


def _coarser(grid: GeoBox, whole: Window, first: tuple[int, int], factor: int) -> GeoBox:
    """The grid of some absolute coarse pixels, the first of which begins at a (row, col) of the grid."""
    a, b, _, d, e, _ = grid.transform
    x, y = grid.to_map(first[1], first[0])
    transform = (a * factor, b * factor, x, d * factor, e * factor, y)
    return GeoBox(grid.crs, transform, (whole.height, whole.width))


def _is_same(one: Any, other: Any) -> bool:
    """Whether a model is told the same, in whatever its family spells it."""
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    return bool(one == other)
