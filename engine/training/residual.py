"""The super-resolution objective: the diffusion of what bicubic enlargement leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from ..models.enlargement import agree, contrast, enlarge
from ..models.eo_residual import FOLD, fold, predict_folded, unfold
from ..models.schedulers import SCHEDULE
from .datasets import read_eurosat, read_naip, read_ucmerced
from .degradation import degrade, vary_bands
from .dihedral import turn
from .export import load_component, save_component, save_index
from .metrics import psnr
from .order import step_generator
from .precision import autocast
from .recipe import Recipe
from .velocity import add_noise, alphas_cumprod, denoised, draw_timesteps, velocity

FACTORS = (2, 4)


@dataclass(frozen=True)
class Crops:
    """What one step learns from.

    Attributes:
        hr: fine images that agree with the coarse ones, (B, 3, crop, crop), about 0..1.
        enlarged: bicubic enlargements of the coarse ones, like them.
        lr: the coarse ones, (B, 3, crop / factor, crop / factor) in 0..1.
        around: the contrast of the enlargements around each pixel, like them.
        scale: what residuals are divided by, over that.
        factor: of the enlargement.
        labels: (B,) position of the factor.
    """

    hr: Tensor
    enlarged: Tensor
    lr: Tensor
    around: Tensor
    scale: float
    factor: int
    labels: Tensor

    def first(self, count: int) -> Crops:
        """The first so many."""
        parts = ("hr", "enlarged", "lr", "around", "labels")
        return replace(self, **{name: getattr(self, name)[:count] for name in parts})

    def residual(self) -> Tensor:
        """What is diffused: (B, 3, crop, crop), about as large as standard normal noise."""
        return self.residual_of(self.hr)

    def residual_of(self, pixels: Tensor) -> Tensor:
        """The same of other pixels, like ``hr``."""
        return (pixels - self.enlarged) / (self.around * self.scale)

    def pixels_of(self, residual: Tensor) -> Tensor:
        """The inverse of ``residual_of``."""
        return self.enlarged + residual * self.around * self.scale


class ResidualObjective:
    """v-prediction of (fine - enlarged) / scale, given the enlarged image, for both factors in turn.

    The scale is the contrast of the enlarged image around each pixel times a number for each factor, so that residuals
    are about as large as the noise wherever they are: a few steps suffice for a field and for a city. A prior made from
    the condition: Lee et al. 2022, "PriorGrad".

    The network works on pixels folded by 4 (``PixelUnshuffle``), so that a convolution costs a sixteenth. The target
    is the fine image after ``agree``: what a task makes of a sample is what the network was trained to draw. The last
    noise level holds no signal, so one call there is the mean of all fine images that fit.

    Beside the velocity the network tells the logarithm of the variance of its error, at each pixel: the likelihood of a
    normal error, as it turned out, teaches it (Bao et al. 2022, "Estimating the Optimal Covariance with Imperfect Mean
    in Diffusion Probabilistic Models", section 3.2, whose squared error this replaces, for variances of all sizes).

    Args:
        recipe: options ``crop`` (fine pixels), ``residual_scales`` (one a factor), ``variance`` (weight of that
            likelihood), ``lean`` (of timesteps, see ``velocity``), ``noisiest`` (share of images that are shown at the
            noisiest level, where the mean is drawn; 0 where it is left out) and ``every`` (thins out validation).
        data: folder with the archives.
        device: where the network lives.
        start: model whose weights it begins with, in the layout of an export; without it they are fresh.
    """

    def __init__(self, recipe: Recipe, data: Path, device: torch.device, start: Path | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        self.trained: nn.Module = UNet2DModel(
            sample_size=recipe.options["crop"] // FOLD,
            in_channels=96,
            out_channels=96,
            num_class_embeds=len(FACTORS),
            **recipe.network,
        ).to(device)
        if start is not None:
            load_component(self.trained, start / "unet")
        self.sources = [
            read_ucmerced(data, "train").pixels,
            read_naip(data),
            read_eurosat(data, "train").pixels,
        ]
        self.shares = np.array([0.55, 0.25, 0.2])
        self.scales = dict(zip(FACTORS, recipe.options["residual_scales"]))
        every = recipe.options.get("every", 1)
        held_out = (read_ucmerced(data, "val").every(3 * every), read_eurosat(data, "val").every(20 * every))
        self.held_out = [torch.from_numpy(chips.pixels).permute(0, 3, 1, 2).float().div(255) for chips in held_out]
        self.alphas = alphas_cumprod().to(device)

    def loss(self, step: int) -> Tensor:
        """See the class."""
        generator = step_generator(self.recipe.seed, step)
        return self.velocity_loss(self.trained, self.crops(step, generator), generator)

    def velocity_loss(
        self, network: nn.Module, crops: Crops, generator: torch.Generator, apart: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """The error of velocities at random levels, and how unlikely it is by what the network tells of it.

        Args:
            network: that predicts both.
            crops: on the device.
            generator: draws noise and levels.
            apart: images whose level falls into this range, without its end, do not count.
        """
        x0 = fold(crops.residual())
        noise = torch.randn(x0.shape, generator=generator).to(self.device)
        t = draw_timesteps(len(x0), generator, lean=self.recipe.options["lean"]).to(self.device)
        first = round(self.recipe.options.get("noisiest", 0) * len(x0))
        t[:first] = len(self.alphas) - 1
        counts = ((t < apart[0]) | (t >= apart[1])).float().view(-1, 1, 1, 1)
        x = add_noise(x0, noise, t, self.alphas)
        target, weights = velocity(x0, noise, t, self.alphas), fold(loud(crops.around)) * counts
        with autocast(self.device, self.recipe.bf16):
            predicted = predict_folded(network, x, t, crops.enlarged, crops.around, crops.labels)
        v, log_variance = (part.float() for part in predicted)
        squared = (v - target).square()
        unlikely = log_variance + squared.detach() * (-log_variance).exp()
        return ((squared + self.recipe.options["variance"] / 2 * unlikely) * weights).mean()

    def crops(self, step: int, generator: torch.Generator) -> Crops:
        """Random squares, degraded, of the factor whose turn it is, on the device."""
        factor = FACTORS[step % 2]
        hr = vary_bands(self._squares(step, generator), generator)
        return self._paired(hr, degrade(hr, factor, generator), factor)

    def averaged_down(self, hr: Tensor, factor: int) -> Crops:
        """Whole images, averaged down and rounded, on the device."""
        return self._paired(hr, (nn.functional.avg_pool2d(hr, factor) * 255).round() / 255, factor)

    def _paired(self, hr: Tensor, lr: Tensor, factor: int) -> Crops:
        hr, lr = hr.to(self.device), lr.to(self.device)
        enlarged = enlarge(lr, factor)
        around = contrast(enlarged, factor)
        labels = _labels(lr, factor).to(self.device)
        return Crops(agree(hr, lr, factor), enlarged, lr, around, self.scales[factor], factor, labels)

    def _squares(self, step: int, generator: torch.Generator) -> Tensor:
        """Three bands of random squares of random images, (B, 3, crop, crop) in 0..1, turned one of eight ways."""
        rng = np.random.default_rng([self.recipe.seed, step])
        crop = self.recipe.options["crop"]
        squares = []
        for which in rng.choice(len(self.sources), self.recipe.batch, p=self.shares):
            source = self.sources[which]
            image = source[rng.integers(len(source))]
            top, left = (int(rng.integers(side - crop + 1)) for side in image.shape[:2])
            bottom, right = top + crop, left + crop
            bands = rng.choice(image.shape[2], 3, replace=False)
            squares.append(image[top:bottom, left:right][..., bands])
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float().div(255)
        return turn(pixels, int(torch.randint(8, (), generator=generator))).contiguous()

    @torch.no_grad()
    def validate(self, averaged: nn.Module) -> dict[str, float]:
        """Gain of the posterior mean (one call) over bicubic enlargement, in dB PSNR, on the validation splits."""
        figures = {}
        for name, images in zip(("ucmerced", "eurosat"), self.held_out):
            hr = images.to(self.device)
            for factor in FACTORS:
                crops = self.averaged_down(images, factor)
                t = torch.full((len(hr),), 999, device=self.device)
                x = torch.randn(fold(hr).shape, generator=torch.Generator().manual_seed(0)).to(self.device)
                given, parts = (x, t, crops.enlarged, crops.around, crops.labels), []
                for noisy, at, *told in zip(*(part.split(8) for part in given)):
                    v, _ = predict_folded(averaged, noisy, at, *told)
                    parts.append(denoised(noisy, v, at, self.alphas))
                sharp = agree(crops.pixels_of(unfold(torch.cat(parts))), crops.lr, factor).clamp(0, 1)
                figures[f"{name}_{factor}x_gain"] = psnr(sharp, hr) - psnr(crops.enlarged.clamp(0, 1), hr)
        return figures

    @torch.no_grad()
    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the network, the scheduler and the settings of the family."""
        save_component(averaged, folder / "unet")
        DDPMScheduler(**SCHEDULE, clip_sample=False).save_config(folder / "scheduler")
        save_index(
            folder,
            {"unet": ("diffusers", "UNet2DModel"), "scheduler": ("diffusers", "DDPMScheduler")},
            {
                "residual_scales": list(self.scales.values()),
                "factors": list(FACTORS),
                "fold": FOLD,
            },
        )


def loud(around: Tensor) -> Tensor:
    """Weights of errors, of mean 1 in each image, larger where there is contrast.

    Errors are those of the residual over the contrast: a weight of the contrast goes half of the way back to errors of
    pixels. It depends on what the network is given alone, so what it learns to draw is not biased by it.

    Args:
        around: (B, C, H, W) of ``contrast``.
    """
    return around / around.mean(dim=(1, 2, 3), keepdim=True)


def _labels(x: Tensor, factor: int) -> Tensor:
    return torch.full((len(x),), FACTORS.index(factor))
