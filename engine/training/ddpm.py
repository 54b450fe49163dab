"""The objective of the paper: pixels, one of 1000 noise levels, and the error of the predicted noise."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from ..models.ddpm import SCHEDULE, make_network, predict_noise, to_signed
from .datasets import read_chips
from .dihedral import turn
from .export import load_component, save_component, save_index
from .order import Order, step_generator
from .precision import autocast
from .recipe import Recipe
from .velocity import add_noise, draw_timesteps


class NoiseObjective:
    """L_simple: the mean squared error of the noise that was added, over all levels alike.

    Source: Ho, Jain & Abbeel 2020, Algorithm 1 and eq. 14. Chips are turned one of eight ways each: the paper flips,
    and imagery from above has no upright either.

    Args:
        recipe: options ``data`` (name of a data set), ``fold`` (pixels along a cell of the network), ``betas``
            ("linear", the paper's, or "squaredcos_cap_v2", the cosine of Nichol & Dhariwal 2021, eq. 17) and ``every``
            (1 takes all chips, 2 every second).
        data: folder with the archives.
        device: where the network lives; on a GPU it is compiled.
        start: model whose weights it begins with, in the layout of an export; without it they are fresh.
    """

    def __init__(self, recipe: Recipe, data: Path, device: torch.device, start: Path | None = None) -> None:
        self.recipe, self.device, options = recipe, device, recipe.options
        every = options.get("every", 1)
        train = read_chips(options["data"], data, "train").every(every)
        held_out = read_chips(options["data"], data, "val").every(4 * every)
        self.pixels = torch.from_numpy(train.pixels).permute(0, 3, 1, 2)
        self.held_out = _signed(torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2))
        self.fold = int(options["fold"])
        self.schedule = {**SCHEDULE, "beta_schedule": options["betas"]}
        self.alphas = DDPMScheduler(**self.schedule).alphas_cumprod
        torch.manual_seed(recipe.seed)
        self.trained: nn.Module = make_network(self.fold, self.pixels.shape[-1], recipe.network).to(device)
        if start is not None:
            load_component(self.trained, start / "unet")
        if device.type != "cpu":
            self.trained.compile()
        self.order = Order(len(self.pixels), recipe.batch, recipe.seed)

    def loss(self, step: int) -> Tensor:
        """See the class."""
        generator = step_generator(self.recipe.seed, step)
        chosen = torch.from_numpy(self.order.indices(step))
        turns = torch.randint(8, chosen.shape, generator=generator).tolist()
        x0 = _signed(torch.stack([turn(chip, which) for chip, which in zip(self.pixels[chosen], turns)]))
        noise = torch.randn(x0.shape, generator=generator)
        t = draw_timesteps(len(x0), generator)
        x, t, noise = (value.to(self.device) for value in (add_noise(x0, noise, t, self.alphas), t, noise))
        with autocast(self.device, self.recipe.bf16):
            predicted = predict_noise(self.trained, x, t, self.fold)
        return (predicted.float() - noise).square().mean()

    @torch.no_grad()
    def validate(self, averaged: nn.Module) -> dict[str, float]:
        """L_simple on the validation split, the same noise and levels each time: over all levels, and the lowest 100.

        The lowest levels decide most of the bits, the others what a picture looks like.
        """
        generator = torch.Generator().manual_seed(0)
        figures = {}
        for name, levels in (("l_simple", 1000), ("l_simple_low", 100)):
            t = draw_timesteps(len(self.held_out), generator, levels)
            noise = torch.randn(self.held_out.shape, generator=generator)
            x = add_noise(self.held_out, noise, t, self.alphas)
            errors = [
                (predict_noise(averaged, part, at, self.fold) - told).square().mean(dim=(1, 2, 3))
                for part, at, told in zip(*(value.to(self.device).split(32) for value in (x, t, noise)))
            ]
            figures[name] = float(torch.cat(errors).mean())
        return figures

    @torch.no_grad()
    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the network, the scheduler and the settings of the family."""
        save_component(averaged, folder / "unet")
        DDPMScheduler(**self.schedule).save_config(folder / "scheduler")
        save_index(
            folder,
            {"unet": ("diffusers", "UNet2DModel"), "scheduler": ("diffusers", "DDPMScheduler")},
            {"fold": self.fold},
        )


def _signed(pixels: Tensor) -> Tensor:
    """uint8 -> -1..1 float32."""
    return to_signed(pixels.float() / 255)
