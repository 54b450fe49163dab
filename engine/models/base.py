"""What a loaded model offers to the tasks: one small protocol for each kind of task."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ..contract import Generate, ModelCard


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
            decoding block by block with this halo equals decoding the whole.
        batch: windows in each network call; fixed, because other batch sizes round differently.
    """

    card: ModelCard
    device: torch.device
    dtype: torch.dtype
    scale: int
    channels: int
    window: int
    stride: int
    decode_halo: int
    batch: int

    def scheduler(self, name: str) -> Any:
        """A fresh diffusers scheduler of this name. Raises UnknownScheduler."""

    def condition(self, request: Generate) -> Any:
        """What the network is told. Raises PromptNotUnderstood, with the list of what the model knows."""

    def unconditioned(self, request: Generate) -> Any:
        """The null condition of classifier-free guidance, or the negative prompt's."""

    def predict(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The network's raw output in the scheduler's prediction type.

        Args:
            x: (B, channels, window, window) float32, already scaled by ``scheduler.scale_model_input``.
            t: scalar timestep of the scheduler.
            condition: of ``condition`` or ``unconditioned``, the same for the whole batch.
        """

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, channels, h, w) -> pixels (B, bands, h * scale, w * scale), float32 in 0..1, clipped."""


class EditModel(GenerateModel, Protocol):
    """A ``GenerateModel`` that can also start from pixels, in blocks of ``scale`` that do not overlap."""

    def colors(self) -> tuple[Tensor, Tensor]:
        """Mean (bands,) and covariance (bands, bands) of the pixels that it was trained on, in 0..1."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, bands, H, W) in about 0..1, sides multiples of ``scale`` -> latents (B, channels, h, w)."""

    def hold(self, z: Tensor, pixels: Tensor, known: Tensor) -> Tensor:
        """Latents whose known pixels are those given; blocks without any stay what they are.

        Args:
            z: (B, channels, h, w).
            pixels: (B, bands, h * scale, w * scale) in about 0..1.
            known: (B, 1, h * scale, w * scale) bool.

        Returns:
            Like ``z``: the code of ``pixels`` in blocks that are known wholly, and as near to it as the code allows in
            the known part of others.
        """


class SuperResolveModel(Protocol):
    """Draws the detail that is missing between an enlarged raster and the real one, in output pixels.

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
