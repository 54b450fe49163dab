"""The super-resolution objective: the diffusion of what bicubic enlargement leaves out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from ..models.enlargement import agree, enlarge
from ..models.eo_residual import FOLD, fold, predict_folded, unfold
from ..models.schedulers import SCHEDULE
from .datasets import read_eurosat, read_naip, read_ucmerced
from .degradation import degrade, vary_bands
from .dihedral import turn
from .export import save_component, save_index
from .metrics import psnr
from .order import step_generator
from .recipe import Recipe
from .velocity import add_noise, alphas_cumprod, denoised, draw_timesteps, velocity

FACTORS = (2, 4)


class ResidualObjective:
    """v-prediction of (fine - enlarged) / residual_scale, given the enlarged image, for both factors in turn.

    The network works on pixels folded by 4 (``PixelUnshuffle``), so that a convolution costs a sixteenth. The target
    is the fine image after ``agree``: what a task makes of a sample is what the network was trained to draw. The last
    noise level holds no signal, so one call there is the mean of all fine images that fit.

    Args:
        recipe: options ``crop`` (fine pixels), ``residual_scale``, ``lean`` (of timesteps, see ``velocity``) and
            ``every`` (thins out validation).
        data: folder with the archives.
    """

    def __init__(self, recipe: Recipe, data: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.trained: nn.Module = UNet2DModel(
            sample_size=recipe.options["crop"] // FOLD,
            in_channels=96,
            out_channels=48,
            num_class_embeds=len(FACTORS),
            **recipe.network,
        )
        self.sources = [
            read_ucmerced(data, "train").pixels,
            read_naip(data),
            read_eurosat(data, "train").pixels,
        ]
        self.shares = np.array([0.5, 0.15, 0.35])
        every = recipe.options.get("every", 1)
        held_out = (read_ucmerced(data, "val").every(3 * every), read_eurosat(data, "val").every(20 * every))
        self.held_out = [chips.pixels for chips in held_out]
        self.alphas = alphas_cumprod()

    def loss(self, step: int) -> Tensor:
        """See the class."""
        generator = step_generator(self.recipe.seed, step)
        factor = FACTORS[step % 2]
        hr = vary_bands(self._crops(step, generator), generator)
        lr = degrade(hr, factor, generator)
        enlarged = enlarge(lr, factor)
        x0 = fold((agree(hr, lr, factor) - enlarged) / self.recipe.options["residual_scale"])
        noise = torch.randn(x0.shape, generator=generator)
        t = draw_timesteps(len(x0), generator, lean=self.recipe.options["lean"])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            v = predict_folded(self.trained, add_noise(x0, noise, t, self.alphas), t, enlarged, _labels(x0, factor))
        errors = (v.float() - velocity(x0, noise, t, self.alphas)).square().mean(dim=(1, 2, 3))
        return (errors * quiet(enlarged)).mean()

    def _crops(self, step: int, generator: torch.Generator) -> Tensor:
        """Random squares of random images, (B, 3, crop, crop) in 0..1, turned one of eight ways."""
        rng = np.random.default_rng([self.recipe.seed, step])
        crop = self.recipe.options["crop"]
        squares = []
        for which in rng.choice(len(self.sources), self.recipe.batch, p=self.shares):
            source = self.sources[which]
            image = source[rng.integers(len(source))]
            top, left = (int(rng.integers(side - crop + 1)) for side in image.shape[:2])
            bottom, right = top + crop, left + crop
            squares.append(image[top:bottom, left:right])
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float().div(255)
        return turn(pixels, int(torch.randint(8, (), generator=generator))).contiguous()

    @torch.no_grad()
    def validate(self, averaged: nn.Module) -> dict[str, float]:
        """Gain of the posterior mean (one call) over bicubic enlargement, in dB PSNR, on the validation splits."""
        figures = {}
        scale = self.recipe.options["residual_scale"]
        for name, images in zip(("ucmerced", "eurosat"), self.held_out):
            hr = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)
            for factor in FACTORS:
                lr = (nn.functional.avg_pool2d(hr, factor) * 255).round() / 255
                enlarged = enlarge(lr, factor)
                t = torch.full((len(hr),), 999)
                x = torch.randn(fold(hr).shape, generator=torch.Generator().manual_seed(0))
                parts = [
                    denoised(noisy, predict_folded(averaged, noisy, at, told, _labels(noisy, factor)), at, self.alphas)
                    for noisy, at, told in zip(x.split(8), t.split(8), enlarged.split(8))
                ]
                sharp = agree(enlarged + unfold(torch.cat(parts)) * scale, lr, factor).clamp(0, 1)
                figures[f"{name}_{factor}x_gain"] = psnr(sharp, hr) - psnr(enlarged.clamp(0, 1), hr)
        return figures

    @torch.no_grad()
    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the network, the scheduler and the settings of the family."""
        save_component(averaged, folder / "unet")
        DDPMScheduler(**SCHEDULE, clip_sample=False).save_config(folder / "scheduler")
        save_index(
            folder,
            {"unet": ("diffusers", "UNet2DModel"), "scheduler": ("diffusers", "DDPMScheduler")},
            {"residual_scale": self.recipe.options["residual_scale"], "factors": list(FACTORS), "fold": FOLD},
        )


def quiet(enlarged: Tensor) -> Tensor:
    """Weights (B,) with mean 1, larger for images with little contrast.

    The residual of a smooth image is small, so its errors would hardly count beside those of a city: contrast and
    residual are about proportional, and dividing by the contrast goes half of the way to relative errors. The weight
    depends on what the network is given alone, so what it learns to draw is not biased by it.

    Args:
        enlarged: (B, C, H, W) in 0..1.
    """
    along, down = enlarged.diff(dim=-1).square(), enlarged.diff(dim=-2).square()
    contrast = (along.mean(dim=(1, 2, 3)) + down.mean(dim=(1, 2, 3))).sqrt()
    weights = 1 / (contrast + 0.004)
    return weights / weights.mean()


def _labels(x: Tensor, factor: int) -> Tensor:
    return torch.full((len(x),), FACTORS.index(factor))
