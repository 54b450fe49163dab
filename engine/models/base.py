"""What a loaded model offers to the tasks: one small protocol for each kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..contract import ModelCard
from ..diffusion.guidance import Predict
from ..diffusion.rows import Branch


@dataclass(frozen=True)
class Scene:
    """What a model is told of a picture, in words and in units of the world; None is unknown.

    Attributes:
        prompt: what to draw.
        negative_prompt: what to stay away from.
        gsd: metres on the ground of one pixel of the picture.
        longitude: of its centre, degrees east.
        latitude: of its centre, degrees north.
        date: ISO 8601.
        cloud_cover: percent, 0 to 100.
        image_guidance_scale: how much a model that is shown a picture keeps of it.
        control_strengths: kind of control -> how much it counts.
        content: (3, H, W) uint8, rows downwards: a picture of any place that says as a whole what is drawn.
        hints: of the pictures that the model is shown with metadata of their own, each as this; only what is known of
            the world counts.
    """

    prompt: str = ""
    negative_prompt: str = ""
    gsd: float | None = None
    longitude: float | None = None
    latitude: float | None = None
    date: str | None = None
    cloud_cover: float | None = None
    image_guidance_scale: float = 1.0
    control_strengths: Mapping[str, float] = field(default_factory=dict)
    content: Tensor | None = None
    hints: tuple[Scene, ...] = ()


@dataclass(frozen=True)
class Given:
    """The pixels that a batch of windows is drawn from, in 0..1, rows downwards; None where a task has none.

    Attributes:
        controls: kind of control -> (B, 3, H, W).
        picture: (B, bands, H, W): what is there before.
        repaint: (B, 1, H, W): 1 where that is drawn anew, 0 where it stays.
        frames: (B, bands, T, H, W): the same place on other dates.
    """

    controls: Mapping[str, Tensor] = field(default_factory=dict)
    picture: Tensor | None = None
    repaint: Tensor | None = None
    frames: Tensor | None = None


class GenerateModel(Protocol):
    """Draws imagery from text and metadata, in latents of ``scale`` output pixels a side.

    Attributes:
        card: what it can do.
        device: where its networks live; tensors are given and returned there.
        dtype: of its networks; latents are float32 outside.
        scale: output pixels per latent, along one axis.
        channels: of a latent.
        window: side of the network's window, in latents.
        stride: distance between windows, in latents.
        decode_halo: latents around a block that its decoding depends on; the decoder has no other memory, so that
            decoding block by block with this halo equals decoding the whole. None where each pixel depends on the whole
            window, as with norms and attention over it: then windows are decoded and blended.
        batch: windows in each network call; fixed, because other batch sizes round differently.
    """

    card: ModelCard
    device: torch.device
    dtype: torch.dtype
    scale: int
    channels: int
    window: int
    stride: int
    decode_halo: int | None
    batch: int

    def scheduler(self, name: str) -> Any:
        """A fresh diffusers scheduler of this name. Raises UnknownScheduler."""

    def told(self, scene: Scene) -> Any:
        """What the network is told of a scene, the null condition of guidance included; worked out once for a job.

        Raises:
            PromptNotUnderstood: for a text that names nothing that the model knows, with the list of what it does.
            InvalidRequest: for what the model is not told, or cannot be.
        """

    def remarks(self, scene: Scene) -> tuple[str, ...]:
        """What the person should know of a scene: sentences, none in most cases."""

    def predictor(self, told: Any, guidance_scale: float, given: Given) -> Predict:
        """The guided prediction for one batch of windows.

        Args:
            told: of ``told``.
            guidance_scale: of classifier-free guidance; 1 turns it off.
            given: what the windows are drawn from.

        Returns:
            Of x (B, channels, window, window), or of the windows of ``card.phases``, float32, scaled by
            ``scheduler.scale_model_input``, and a scalar timestep: the network's raw output in the prediction type of
            the scheduler.
        """

    def branches(self, told: Any, guidance_scale: float, given: Given) -> Sequence[Branch]:
        """What ``predictor`` asks the network of one window, what it is guided away from first.

        Args:
            told: of ``told``.
            guidance_scale: of classifier-free guidance.
            given: what the window is drawn from.

        Returns:
            Branches whose tensors have one item.
        """

    def guides(self, t: Tensor) -> bool:
        """Whether guidance counts at a timestep; where it does not, its scale is 1."""

    def rows(self, branches: int) -> int:
        """Windows, each under one condition, in the calls of ``predictor`` and of ``answer``; fixed likewise.

        Args:
            branches: that guidance has.
        """

    def answer(self, x: Tensor, t: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        """One call of the network: its raw output for ``rows`` windows, float32, like x.

        Args:
            x: (rows, channels, window, window); see ``predictor``.
            t: scalar timestep.
            told: what ``branches`` say, with one item for each row.
        """

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, channels, h, w) -> pixels (B, bands, h * scale, w * scale), float32 in 0..1, clipped."""


class EditModel(GenerateModel, Protocol):
    """A ``GenerateModel`` that can also start from pixels, in blocks of ``scale``.

    Attributes:
        holds: whether the latents of known pixels are set on the way (``holder``), because the network itself is not
            shown what stays.
    """

    holds: bool

    def colors(self) -> tuple[Tensor, Tensor] | None:
        """Mean (bands,) and covariance (bands, bands) of the pixels that it was trained on, in 0..1.

        None where they are not known: then a layer's own colours are taken as they are.
        """

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, bands, H, W) in about 0..1, sides multiples of ``scale`` -> latents (B, channels, h, w)."""

    def holder(self, pixels: Tensor, known: Tensor) -> Callable[[Tensor], Tensor]:
        """What sets the known part of latents (B, channels, h, w); blocks without known pixels stay what they are.

        Args:
            pixels: (B, bands, h * scale, w * scale) in about 0..1.
            known: (B, 1, h * scale, w * scale) bool.

        Returns:
            Of latents: the code of ``pixels`` in blocks that are known wholly, and as near to it as the code allows in
            the known part of others.
        """


class MultispectralModel(GenerateModel, Protocol):
    """A ``GenerateModel`` that draws from the bands of ``card.source_bands`` of the same ground."""

    @property
    def shown_side(self) -> int:
        """Side in pixels of the picture of those bands that goes with one window."""


class SuperResolveModel(Protocol):
    """Draws the detail that is missing between an enlarged raster and the real one, in output pixels.

    One whose card ``gives_mean`` has a scheduler "DDPM" whose noisiest level holds no signal: what the network
    estimates there is the mean of all that it would draw. Beside the velocities it predicts the logarithm of the
    variance of their errors: ``predict`` has twice the channels then.

    Attributes:
        card: what it can do.
        device: where its network lives.
        dtype: of its network; pixels are float32 outside.
        bands: bands in each call (3); rasters with others are taken in groups.
        window: side of the network's window, in output pixels.
        stride: distance between windows, in output pixels.
        multiple: windows must start on multiples of this many output pixels.
        batch: windows in each network call; fixed.
    """

    card: ModelCard
    device: torch.device
    dtype: torch.dtype
    bands: int
    window: int
    stride: int
    multiple: int
    batch: int

    def scheduler(self, name: str) -> Any:
        """A fresh diffusers scheduler of this name. Raises UnknownScheduler."""

    def enlarge(self, lr: Tensor, factor: int) -> Tensor:
        """(B, bands, h, w) in 0..1 -> (B, bands, h * factor, w * factor), the enlargement that training used."""

    def scale(self, enlarged: Tensor, factor: int) -> Tensor:
        """What a diffused residual is multiplied by, pixel by pixel: (pixels - enlarged) / scale is diffused.

        Args:
            enlarged: (B, bands, window, window) float32 in 0..1.
            factor: 2 or 4.

        Returns:
            Like ``enlarged``, above 0.
        """

    def predict(self, x: Tensor, t: Tensor, enlarged: Tensor, factor: int) -> Tensor:
        """The network's raw output in the scheduler's prediction type.

        Args:
            x: (B, bands, window, window) float32, the noisy residual, scaled by ``scheduler.scale_model_input``.
            t: scalar timestep of the scheduler.
            enlarged: (B, bands, window, window) float32 in 0..1.
            factor: 2 or 4.
        """
