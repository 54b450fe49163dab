"""The autoencoder's objective: pixels back from noisy latents."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.autoencoder import TileableAutoencoder
from .datasets import read_eurosat
from .dihedral import turn
from .export import save_component
from .metrics import blockiness, psnr
from .order import Order, step_generator
from .recipe import Recipe


class AutoencoderObjective:
    """Squared error of pixels and of their gradients, a light pull of the latents to unit size, noise on the latents.

    Noise on the latents while the decoder learns makes neighbouring latents decode alike, so that the small errors of
    a denoiser stay small in the picture.

    Args:
        recipe: options ``latent_noise`` (standard deviations), ``latent_pull`` (weight), ``gradients`` (weight) and
            ``every`` (1 takes all chips, 2 every second).
        data: folder with the archives.
    """

    def __init__(self, recipe: Recipe, data: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.trained: nn.Module = TileableAutoencoder(**recipe.network)
        every = recipe.options.get("every", 1)
        train, val = read_eurosat(data, "train").every(every), read_eurosat(data, "val").every(4 * every)
        self.pixels = torch.from_numpy(train.pixels).permute(0, 3, 1, 2).contiguous()
        self.held_out = torch.from_numpy(val.pixels).permute(0, 3, 1, 2).float().div(255)
        self.order = Order(len(self.pixels), recipe.batch, recipe.seed)

    def loss(self, step: int) -> Tensor:
        """See the class."""
        generator = step_generator(self.recipe.seed, step)
        pixels = self.pixels[torch.from_numpy(self.order.indices(step))].float().div(255)
        pixels = turn(pixels, int(torch.randint(8, (), generator=generator)))
        options = self.recipe.options
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            z = self.trained.encode_raw(pixels)
            noise = torch.randn(z.shape, generator=generator) * options["latent_noise"]
            rebuilt = self.trained.decode_raw(z + noise)
        error = rebuilt.float() - pixels
        gradients = error.diff(dim=-1).square().mean() + error.diff(dim=-2).square().mean()
        pull = z.float().square().mean()
        return 100 * (error.square().mean() + options["gradients"] * gradients) + options["latent_pull"] * pull

    @torch.no_grad()
    def validate(self, averaged: nn.Module) -> dict[str, float]:
        """PSNR on the validation split, in dB, and how strongly the latent grid shows in the reconstruction."""
        rebuilt = averaged.decode_raw(averaged.encode_raw(self.held_out)).clamp(0, 1)
        return {
            "psnr": psnr(rebuilt, self.held_out),
            "blockiness": blockiness(rebuilt) / blockiness(self.held_out),
        }

    @torch.no_grad()
    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the autoencoder with the mean and deviation of its latents in its configuration."""
        some = self.pixels[:: max(1, len(self.pixels) // 512)]
        z = torch.cat([averaged.encode_raw(part.float().div(255)) for part in some.split(64)])
        shift, spread = z.mean(dim=(0, 2, 3)), z.std(dim=(0, 2, 3))
        network = self.recipe.network | {
            "latent_shift": [round(float(v), 6) for v in shift],
            "latent_scale": [round(float(v), 6) for v in spread],
        }
        finished = TileableAutoencoder(**network)
        finished.load_state_dict(averaged.state_dict())
        save_component(finished, folder / "vae")
