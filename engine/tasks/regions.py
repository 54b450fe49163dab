"""Regions: polygons with texts of their own, and how a window is drawn from several texts at once.

The predictions for the texts of a window are added up by their shares of each latent, step by step, so the network sees
what lies beside a region while it draws it, and neighbours join.

Source: Jiménez 2023, "Mixture of Diffusers for scene composition and high resolution image generation", arXiv
2302.02412, section 3; here the shares are those of polygons.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contract import PROMPT_LIMIT, TEXTS_LIMIT, Generate, GeoBox, ModelCard, Window, clean_prompt
from ..diffusion.guidance import Predict
from ..diffusion.rows import Branch, Row, in_rows, rows_of
from ..diffusion.windows import Index, Lattice
from ..errors import InvalidRequest, MaskEmpty, PromptNotUnderstood, PromptTooLong
from ..models.base import GenerateModel, Given, Scene
from ..raster.mask import NumberedPolygons

#: Latents on each side of a border over which a text gives way to the other, in the first third of the noise levels
#: that a model knows, counted from none, the second and the last: where nearly all is noise the network finds a course
#: for the border, later it keeps to it. In a third, and so in a phase of three, calls stay as full as they are.
WIDTHS = (3, 5, 8)
NARROWEST, WIDEST = min(WIDTHS), max(WIDTHS)
#: Least of these latents in regions that are narrower: a border is never harder than the latents.
LEAST = 1
#: Latents around a place that its shares depend on.
REACH = 3 * WIDEST
#: Side in latents of the squares in which borders are looked for, and how many of them are remembered.
SIDE, REMEMBERED = 64, 64
#: Characters of a text that a sentence quotes.
_QUOTED = 40
#: Latents over which the nearness of a region fades.
_FADE = 2.0
#: (rows, columns, distance) from a latent to each that a border may be in.
_NEAR = [
    (row, col, math.hypot(row, col))
    for row in range(-WIDEST, WIDEST + 1)
    for col in range(-WIDEST, WIDEST + 1)
    if math.hypot(row, col) <= WIDEST
]


class RegionTexts:
    """The regions of a request on the grid that is drawn: which text counts where.

    Args:
        folder: the job folder.
        request: with ``regions``.
        grid: that is drawn.
        card: of the model.

    Attributes:
        texts: what is drawn anywhere, each once; first that of ``elsewhere``, where there is one.
        only: whether nothing is drawn outside the polygons.
        sha256: hash of the file.

    Raises:
        MaskUnreadable: where the file is not a collection of polygons.
        MaskEmpty: where no pixel of the grid lies in one of them.
        PromptTooLong: for a text of more than ``PROMPT_LIMIT`` characters.
        InvalidRequest: for a region without a text, too many texts, or a model that is told none.
    """

    def __init__(self, folder: Path, request: Generate, grid: GeoBox, card: ModelCard) -> None:
        regions = request.regions
        if regions is None:
            raise ValueError("the request has no regions")
        if "prompt" not in card.uses and not regions.only:
            raise InvalidRequest(
                f"The model {card.name} is not told what to draw, so regions change nothing.",
                "Choose another model, or draw inside the regions only.",
            )
        self._polygons = NumberedPolygons(folder, regions.path, grid, "regions file")
        self.only, self.sha256 = regions.only, self._polygons.sha256
        own = [_text(number, properties) for number, properties in enumerate(self._polygons.properties, 1)]
        if "prompt" not in card.uses:
            own = [request.prompt] * len(own)
        #: Whether there is a text for what lies outside the polygons.
        self._has_elsewhere = bool(request.prompt) or not self.only
        self.texts = tuple(dict.fromkeys([*([request.prompt] if self._has_elsewhere else []), *own]))
        if len(set(own)) > TEXTS_LIMIT:
            raise InvalidRequest(
                f"The regions have {len(set(own))} different texts; at most {TEXTS_LIMIT} are read.",
                "Give regions of one kind the same text.",
            )
        self._anchor = grid.anchor()
        self._remembered = lru_cache(REMEMBERED)(self._square)
        self._values = [self.texts.index(text) + 1 for text in own]
        if not self._holds(grid.window):
            raise MaskEmpty(
                "No pixel of the extent lies inside a region.",
                "Choose an extent that the regions lie in, or draw some.",
            )

    def labels(self, window: Window) -> NDArray[np.uint8]:
        """(height, width) of a window of the grid, which may reach beyond it: 0 outside, n for ``texts[n - 1]``."""
        return self._polygons.burned(window, self._values)

    def is_drawn(self, window: Window) -> bool:
        """Whether anything of a window of the grid is drawn."""
        return not self.only or bool(self.labels(window).any())

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """(height, width): where pixels are drawn."""
        if self.only:
            inside: NDArray[np.bool_] = self.labels(window) > 0
            return inside
        return np.ones((window.height, window.width), np.bool_)

    def shares(self, window: Window, scale: int, width: float = NARROWEST) -> dict[int, Tensor]:
        """The share of each text in the latents of a window: place in ``texts`` -> (h, w) float32, adding up to 1.

        A text that has no share anywhere in the window is left out; where one has all, its share is 1 exactly.

        Args:
            window: of the grid, sides multiples of ``scale``; may reach beyond it.
            scale: pixels of a latent along each axis.
            width: latents on each side of a border over which texts give way to each other, up to ``WIDEST``; less in
                and around regions that are narrower than that.
        """
        inner = window.height // scale, window.width // scale
        if len(self.texts) == 1:
            return {0: torch.ones(inner)}
        depths, room = self._depths(window, scale)
        room = np.minimum(room, width)
        ramps = {value - 1: (1 + np.sin(np.pi / 2 * np.clip(depth / room, -1, 1))) / 2 for value, depth in depths}
        present = {place: ramp for place, ramp in ramps.items() if ramp.any()}
        if len(present) == 1:
            return {place: torch.ones(inner) for place in present}
        total = sum(present.values())
        return {place: torch.from_numpy((ramp / total).astype(np.float32)) for place, ramp in present.items()}

    def _depths(self, window: Window, scale: int) -> tuple[list[tuple[int, NDArray[np.float64]]], NDArray[np.float64]]:
        """([(n, how deep latents lie in the region of ``texts[n - 1]``)], how wide a border may be), in latents.

        Depths are below 0 outside of a region, and all are ``WIDEST`` at most, to both sides.
        """
        row, col = (start + first for start, first in zip((window.row, window.col), self._anchor))
        latents = Window(row // scale, col // scale, window.height // scale, window.width // scale)
        lattice, shape = Lattice(SIDE, SIDE), (latents.height, latents.width)
        depths: dict[int, NDArray[np.float64]] = {}
        room = np.empty(shape)
        for index in lattice.touching(latents):
            square = lattice.window(index)
            shared = square.intersection(latents)
            to, of = shared.relative_to(latents).slices(), shared.relative_to(square).slices()
            found, wide = self._remembered(index, (row % scale, col % scale), scale)
            room[to] = wide[of]
            for value, depth in found.items():
                depths.setdefault(value, np.full(shape, -float(WIDEST)))[to] = depth[of]
        return sorted(depths.items()), room

    def _square(
        self, index: Index, phase: tuple[int, int], scale: int
    ) -> tuple[dict[int, NDArray[np.float64]], NDArray[np.float64]]:
        """The same for a square of ``SIDE`` latents, whose first lies ``phase`` pixels beyond a multiple of ``scale``.

        Squares lie where they are whatever the extent, and windows and phases share them.
        """
        row, col = (place * SIDE * scale + beyond - first for place, beyond, first in zip(index, phase, self._anchor))
        labels = self.labels(Window(row, col, SIDE * scale, SIDE * scale).pad(REACH * scale))
        side = SIDE + 2 * REACH
        blocks = labels.reshape(side, scale, side, scale)
        shares = {
            int(value): (blocks == value).mean(axis=(1, 3), dtype=np.float64) for value in np.unique(labels)
        }  # 64-bit sums of a few hundred ones are exact
        self._settle(shares)
        room = np.full((SIDE, SIDE), float(WIDEST))
        if len(shares) == 1:
            return {value: room for value in shares}, room
        depths = {value: _depth(share) for value, share in shares.items()}
        for depth in depths.values():
            # what a region holds in its middle is how far its borders may reach, in it and as far around it
            thickness = _deepest(_deepest(depth))
            room = np.minimum(room, _cropped(np.maximum(thickness, -depth), REACH))
        return {value: _cropped(depth, REACH).copy() for value, depth in depths.items()}, np.maximum(room, LEAST)

    def _settle(self, found: dict[int, NDArray[np.float64]]) -> None:
        """Give what lies outside the polygons, if anything does, to the text for that, or to the nearest region."""
        outside = found.pop(0, None)
        if outside is None:
            return
        if self._has_elsewhere:
            found[1] = found[1] + outside if 1 in found else outside
            return
        if not found:  # nothing of it will be seen
            found[1] = outside
            return
        values = list(found)
        nearest = np.argmax([_spread(found[value]) for value in values], axis=0)
        for place, value in enumerate(values):
            found[value] = found[value] + outside * (nearest == place)

    def _holds(self, window: Window) -> bool:
        """Whether a pixel of a window lies in a polygon; looked for in parts, so that no extent is too large."""
        side = 2048
        return any(
            self.labels(Window(row, col, min(side, window.row_end - row), min(side, window.col_end - col))).any()
            for row in range(window.row, window.row_end, side)
            for col in range(window.col, window.col_end, side)
        )


class RegionTold:
    """What a model is told of each text, and its prediction for windows in which several count.

    Args:
        regions: which text counts where.
        model: that draws.
        scene: what the model is told besides.
        guidance_scale: of classifier-free guidance, of each text by itself.

    Raises:
        PromptNotUnderstood: see ``GenerateModel.told``; says which text it is.
        InvalidRequest: likewise.
    """

    def __init__(self, regions: RegionTexts, model: GenerateModel, scene: Scene, guidance_scale: float) -> None:
        self._model, self._scale = model, guidance_scale
        self._told: list[Any] = [_told(model, dataclasses.replace(scene, prompt=text)) for text in regions.texts]
        self._regions, self._levels = regions, _levels(model)
        #: Rows of each window beside those of its texts: what they are guided away from, together.
        self._beside = 1 if guidance_scale != 1 and "prompt" in model.card.uses else 0

    @property
    def size(self) -> int:
        """Rows in each call of the network."""
        return self._model.rows(1 + self._beside)

    def rows(self, window: Window, t: Tensor) -> int:
        """Rows of the network that a window of the grid takes at a timestep, and no more than that at later ones."""
        return len(self.shares(window, t)) + self._beside

    def predictor(self, windows: Sequence[Window], given: Given, check: Callable[[], None]) -> Predict:
        """The guided prediction for windows of the grid, any number of them.

        Args:
            windows: that are denoised together.
            given: what each is drawn from.
            check: called before each call of the network; may raise to end the work.
        """
        model = self._model
        asked: dict[tuple[int, int, float], Sequence[Branch]] = {}
        predictions: dict[tuple[int, float], Predict] = {}

        def branches(place: int, text: int, scale: float) -> Sequence[Branch]:
            key = place, text, scale
            if key not in asked:
                asked[key] = model.branches(self._told[text], scale, _picked(given, place))
            return asked[key]

        def prediction(t: Tensor, scale: float) -> Predict:
            rows: list[Row] = []
            for place, window in enumerate(windows):
                shares = sorted(self.shares(window, t).items())
                rows += rows_of(
                    place, [(share.to(model.device), branches(place, text, scale)) for text, share in shares]
                )
            return in_rows(rows, model.rows(len(branches(0, 0, scale))), model.answer, check)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            key = self.width(t), self._scale if model.guides(t) else 1.0
            if key not in predictions:
                predictions[key] = prediction(t, key[1])
            return predictions[key](x, t)

        return predict

    def shares(self, window: Window, t: Tensor) -> dict[int, Tensor]:
        """See ``RegionTexts``; as wide as borders are at a timestep."""
        return self._regions.shares(window, self._model.scale, self.width(t))

    def width(self, t: Tensor) -> int:
        """How wide borders are at a timestep, in whole latents: the less noise, the narrower."""
        return WIDTHS[min(len(WIDTHS) - 1, int(len(WIDTHS) * float(t) / self._levels))]


def remarks(regions: RegionTexts, model: GenerateModel, scene: Scene) -> tuple[str, ...]:
    """What the person should know of the texts, each sentence once."""
    said = (each for text in regions.texts for each in model.remarks(dataclasses.replace(scene, prompt=text)))
    return tuple(dict.fromkeys(said))


def _levels(model: GenerateModel) -> int:
    """Noise levels that a model was trained on, which its timesteps count."""
    return int(model.scheduler(model.card.schedulers[0]).config.num_train_timesteps)


def _text(number: int, properties: dict[str, Any]) -> str:
    """The text of a region as it is used. ``number`` is its place among the polygons, from 1."""
    text = properties.get("prompt")
    if not isinstance(text, str):
        raise InvalidRequest(
            f"Region {number} has no text.", "Give each polygon a text, or choose another field of the layer."
        )
    try:
        cleaned = clean_prompt(text)
    except ValueError as error:
        raise PromptTooLong(
            f"The text of region {number} has {len(text)} characters, at most {PROMPT_LIMIT} are read."
        ) from error
    if not cleaned:
        raise InvalidRequest(
            f"The text of region {number} is empty.", "Give each polygon a text, or choose another field of the layer."
        )
    return cleaned


def _told(model: GenerateModel, scene: Scene) -> Any:
    """``model.told``, whose refusals say which text they mean."""
    try:
        return model.told(scene)
    except (PromptNotUnderstood, InvalidRequest) as error:
        quoted = scene.prompt if len(scene.prompt) <= _QUOTED else scene.prompt[:_QUOTED] + "…"
        where = f'Region text "{quoted}"' if scene.prompt else "Outside the regions, without a prompt"
        raise type(error)(f"{where}: {error.message}", error.hint) from error


def _depth(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """How deep each latent lies in a region, in latents from its border; outside of it below 0.

    Args:
        share: (h, w) of each latent that lies in the region. Of a latent that does in part, the border is where that
            part ends if it fills the latent from one side.

    Returns:
        (h, w); right where ``WIDEST`` latents around are known, and no more than those deep.
    """
    inside = _nearest(np.where(share < 1, share - 0.5, np.inf))
    outside = _nearest(np.where(share > 0, 0.5 - share, np.inf))
    return np.where(share == 1, inside, np.where(share == 0, -outside, share - 0.5))


def _nearest(cost: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least cost of a latent near each, its distance included, ``WIDEST`` at most."""
    found, padded = np.full(cost.shape, float(WIDEST)), np.pad(cost, WIDEST, constant_values=np.inf)
    for row, col, distance in _NEAR:
        np.minimum(found, _shifted(padded, row, col) + distance, out=found)
    return found


def _deepest(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The greatest depth within ``WIDEST`` latents of each."""
    found, padded = depth.copy(), np.pad(depth, WIDEST, constant_values=-np.inf)
    for row, col, _ in _NEAR:
        np.maximum(found, _shifted(padded, row, col), out=found)
    return found


def _shifted(padded: NDArray[np.float64], row: int, col: int) -> NDArray[np.float64]:
    height, width = padded.shape[0] - 2 * WIDEST, padded.shape[1] - 2 * WIDEST
    return padded[slice(WIDEST + row, None), slice(WIDEST + col, None)][:height, :width]


def _cropped(plane: NDArray[np.float64], edge: int) -> NDArray[np.float64]:
    return plane[edge:-edge, edge:-edge]


def _spread(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same faded out over all of a window: near a region it outweighs those that lie further away."""
    rows, cols = (np.exp(-np.abs(np.subtract.outer(place, place)) / _FADE) for place in map(np.arange, share.shape))
    spread: NDArray[np.float64] = rows @ share @ cols
    return spread


def _picked(given: Given, place: int) -> Given:
    """What is given for one window of a batch."""

    def pick(pixels: Tensor | None) -> Tensor | None:
        return None if pixels is None else pixels[place, None]

    controls = {kind: pixels[place, None] for kind, pixels in given.controls.items()}
    return Given(controls, pick(given.picture), pick(given.repaint), pick(given.frames))
