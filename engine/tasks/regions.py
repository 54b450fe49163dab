"""Regions: polygons with texts of their own, and how a window is drawn from several texts at once.

The predictions for the texts of a window are added up by their shares of each latent, step by step, so the network sees
what lies beside a region while it draws it, and neighbours join.

Source: Jiménez 2023, "Mixture of Diffusers for scene composition and high resolution image generation", arXiv
2302.02412, section 3; here the shares are those of polygons.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contract import PROMPT_LIMIT, TEXTS_LIMIT, Generate, GeoBox, ModelCard, Window, clean_prompt
from ..diffusion.guidance import Predict
from ..errors import InvalidRequest, MaskEmpty, PromptNotUnderstood, PromptTooLong
from ..models.base import GenerateModel, Given, Scene
from ..raster.mask import NumberedPolygons

#: Shares of a latent and its neighbours, along each axis: a border is spread over about two latents.
SOFT = np.array([1, 4, 6, 4, 1]) / 16
#: Latents on each side that ``SOFT`` looks at.
REACH = len(SOFT) // 2
#: Characters of a text that a sentence quotes.
_QUOTED = 40
#: Latents over which a region's text fades where nothing is said, in favour of a nearer one.
_FADE = 2.0


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

    def shares(self, window: Window, scale: int) -> dict[int, Tensor]:
        """The share of each text in the latents of a window: place in ``texts`` -> (h, w) float32, adding up to 1.

        A text that has no share anywhere in the window is left out; where one has all, its share is 1 exactly.

        Args:
            window: of the grid, sides multiples of ``scale``; may reach beyond it.
            scale: pixels of a latent along each axis.
        """
        labels = self.labels(window.pad(REACH * scale))
        height, width = labels.shape[0] // scale, labels.shape[1] // scale
        blocks = labels.reshape(height, scale, width, scale)
        found = {
            int(value): (blocks == value).mean(axis=(1, 3), dtype=np.float64) for value in np.unique(labels)
        }  # 64-bit sums of a few hundred ones are exact
        self._settle(found)
        soft = {value - 1: _softened(share) for value, share in found.items()}
        present = {place: share for place, share in soft.items() if share.any()}
        if len(present) == 1:
            return {place: torch.ones(share.shape) for place, share in present.items()}
        total = sum(present.values())
        return {place: torch.from_numpy((share / total).astype(np.float32)) for place, share in present.items()}

    def _settle(self, found: dict[int, NDArray[np.float64]]) -> None:
        """Give what lies outside the polygons, if anything does, to the text for that, or to the nearest regions."""
        outside = found.pop(0, None)
        if outside is None:
            return
        if self._has_elsewhere:
            found[1] = found[1] + outside if 1 in found else outside
            return
        if not found:  # nothing of it will be seen
            found[1] = outside
            return
        near = {value: _spread(share) for value, share in found.items()}
        total = sum(near.values())
        for value, share in near.items():
            found[value] = found[value] + outside * share / total

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
        self._regions, self._model, self._scale = regions, model, guidance_scale
        self._told: list[Any] = [_told(model, dataclasses.replace(scene, prompt=text)) for text in regions.texts]

    def kinds(self, window: Window) -> tuple[int, ...]:
        """Places of the texts that count in a window: windows of one kind are drawn together at the least cost."""
        return tuple(sorted(self._regions.shares(window, self._model.scale)))

    def predictor(self, windows: Sequence[Window], given: Given) -> Predict:
        """The guided prediction for one batch of windows of the grid: one network call for each text in the batch."""
        shares = [self._regions.shares(window, self._model.scale) for window in windows]
        parts = []
        for text in sorted({text for share in shares for text in share}):
            places = [place for place, share in enumerate(shares) if text in share]
            weight = torch.stack([shares[place][text] for place in places])[:, None].to(self._model.device)
            # a network rounds differently for another batch size
            filled = places + places[-1:] * (len(windows) - len(places))
            told = self._model.predictor(self._told[text], self._scale, _picked(given, filled))
            parts.append((told, places, filled, weight))

        def predict(x: Tensor, t: Tensor) -> Tensor:
            total = torch.zeros_like(x)
            for told, places, filled, weight in parts:
                total[places] += weight * told(x[filled], t)[: len(places)]
            return total

        return predict


def remarks(regions: RegionTexts, model: GenerateModel, scene: Scene) -> tuple[str, ...]:
    """What the person should know of the texts, each sentence once."""
    said = (each for text in regions.texts for each in model.remarks(dataclasses.replace(scene, prompt=text)))
    return tuple(dict.fromkeys(said))


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


def _softened(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """(h + 2 REACH, w + 2 REACH) -> (h, w), spread along both axes."""
    height, width = share.shape[0] - 2 * REACH, share.shape[1] - 2 * REACH
    rows: NDArray[np.float64] = sum(part * share[slice(k, k + height)] for k, part in enumerate(SOFT))
    cols: NDArray[np.float64] = sum(part * rows[:, slice(k, k + width)] for k, part in enumerate(SOFT))
    return cols


def _spread(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same faded out over all of a window, nowhere 0: near a region it outweighs those that lie further away."""
    rows, cols = (np.exp(-np.abs(np.subtract.outer(place, place)) / _FADE) for place in map(np.arange, share.shape))
    spread: NDArray[np.float64] = rows @ share @ cols
    return np.maximum(spread, np.finfo(np.float64).tiny)


def _picked(given: Given, places: list[int]) -> Given:
    """What is given for some windows of a batch."""

    def pick(pixels: Tensor | None) -> Tensor | None:
        return None if pixels is None else pixels[places]

    controls = {kind: pixels[places] for kind, pixels in given.controls.items()}
    return Given(controls, pick(given.picture), pick(given.repaint), pick(given.frames))
