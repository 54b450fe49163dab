"""The last stage of super-resolution: samples that look like ground, and whose mean stays right."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import register_parametrization

from ..diffusion import stochastic
from ..diffusion.loop import set_timesteps
from ..models.enlargement import agree
from ..models.eo_residual import fold, predict_folded, unfold
from ..models.schedulers import SCHEDULE, make_scheduler
from .energies import energy_distance
from .metrics import gradient_energy
from .order import step_generator
from .precision import autocast
from .recipe import Recipe
from .residual import FACTORS, Crops, ResidualObjective, loud
from .sharpening import make_critic

#: Levels on each side of the sampler's last one where squared error is no longer asked for.
APART = 100
#: Validation images that samples are drawn of.
SHOWN = 16
#: Pixels around one, along a side, that the critic is shown its difference from.
NEAR = 17


class AdversarialObjective:
    """Samples as rich as ground, taught by what the sampler draws.

    Squared error at each level makes a good mean, and samples of a few steps that are too smooth: noise of its own in
    each pixel is all that such a sampler can add to what it does not know, and the network takes it for noise again.
    Here the sampler is run as people run it, ``steps`` ancestral steps, the last with gradients, and what comes out has
    to please a critic of patches that sees the enlargement too (Xiao et al. 2022, "Tackling the Generative Learning
    Trilemma with Denoising Diffusion GANs"; hinge loss: Lim & Ye 2017), and to have the gradient energy of the truth,
    field by field at two scales.

    Samples must differ as the truth may, and their mean be that of all truths: of each image two are drawn from noise
    of their own, and the product of their errors, whose expectation is the squared error of the mean of infinitely many
    samples, is kept low (that mean's penalty: Ohayon et al. 2021, "High Perceptual Quality Image Denoising with a
    Posterior Sampling CGAN"). One picture drawn again and again pays for its invented detail in full; samples that
    differ do not.

    The residual objective goes on beside it for all levels but those around the sampler's last, so the mean and what
    the network tells of its error stay what they are.

    Args:
        recipe: options as of ``ResidualObjective``, and ``steps`` of the sampler, ``pairs`` (images a step of which two
            samples are drawn), the weights ``mean``, ``texture`` and ``critic``, and ``critic_from`` (step).
        data: folder with the archives.
        start: model that it starts from, in the layout of an export.
        device: where the networks live.
    """

    def __init__(self, recipe: Recipe, data: Path, start: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.residual = ResidualObjective(recipe, data, device, start)
        network = self.residual.trained
        self.trained: nn.Module = nn.ModuleDict({"network": network, "critic": bounded(make_critic(6)).to(device)})
        self.scheduler = make_scheduler("DDPM", ("DDPM",), SCHEDULE)
        set_timesteps(self.scheduler, recipe.options["steps"], device)
        last = int(self.scheduler.timesteps[-1])
        self.apart = (last - APART, last + APART)

    def loss(self, step: int) -> Tensor:
        """See the class."""
        generator = step_generator(self.recipe.seed, step)
        crops = self.residual.crops(step, generator)
        loss = self.residual.velocity_loss(self.trained["network"], crops, generator, self.apart)
        few = crops.first(self.recipe.options["pairs"])
        return loss + self._drawn_loss(few, generator, step >= self.recipe.options["critic_from"])

    def _drawn_loss(self, crops: Crops, generator: torch.Generator, criticised: bool) -> Tensor:
        options, critic = self.recipe.options, self.trained["critic"]
        truth, seen = crops.residual(), _seen(crops)
        network = self.trained["network"]
        samples = self.draw(network, crops, generator), self.draw(network, crops, generator)
        loss = options["mean"] * error_of_mean(*samples, truth, loud(crops.around))
        for sample in samples:
            energies = energy_distance(crops.pixels_of(sample), crops.hr, crops.around)
            loss = loss + options["texture"] / 2 * energies
        with autocast(self.device, self.recipe.bf16):
            shown = [torch.cat([sample, seen], dim=1) for sample in samples]
            disliked = torch.cat([critic(one.detach()) for one in shown])
            liked = critic(torch.cat([truth, seen], dim=1))
            loss = loss + ((1 - liked).relu().mean() + (1 + disliked).relu().mean()).float()
            if criticised:
                still = {name: parameter.detach() for name, parameter in critic.named_parameters()}
                for one in shown:
                    loss = loss - options["critic"] / 2 * functional_call(critic, still, (one,)).float().mean()
        return loss

    def draw(self, network: nn.Module, crops: Crops, generator: torch.Generator) -> Tensor:
        """A sample of each image's residual, in agreement with the coarse image; gradients are those of the last step.

        Args:
            network: predicts velocities.
            crops: on the device.
            generator: draws the noise.

        Returns:
            Like ``crops.residual()``.
        """
        shape = fold(crops.enlarged).shape
        x = torch.randn(shape, generator=generator).to(self.device)
        learning = torch.is_grad_enabled()
        for t in self.scheduler.timesteps:
            is_last = bool(t == self.scheduler.timesteps[-1])
            with torch.set_grad_enabled(learning and is_last):
                at = t.expand(len(x))
                with autocast(self.device, self.recipe.bf16):
                    parts = predict_folded(network, x, at, crops.enlarged, crops.around, crops.labels)
                z = None if is_last else torch.randn(shape, generator=generator).to(self.device)
                x, _ = stochastic.step(self.scheduler, torch.cat(parts, dim=1).float(), t, x, z)
        return crops.residual_of(agree(crops.pixels_of(unfold(x)), crops.lr, crops.factor))

    @torch.no_grad()
    def validate(self, averaged: nn.Module) -> dict[str, float]:
        """As of ``ResidualObjective``, and on some of its validation images what samples are like.

        Their gradient energy over the truth's, and how far two of them are apart over how far one is from the truth:
        the same for samples of the posterior.
        """
        figures = self.residual.validate(averaged["network"])
        for factor in FACTORS:
            generator = torch.Generator().manual_seed(0)
            crops = self.residual.averaged_down(self.residual.held_out[0][:SHOWN], factor)
            one, other = (self.draw(averaged["network"], crops, generator) for _ in range(2))
            energy = gradient_energy(crops.pixels_of(one))
            figures[f"gradient_energy_{factor}x"] = energy / gradient_energy(crops.hr)
            apart, off = (one - other).square().mean(), (one - crops.residual()).square().mean()
            figures[f"samples_apart_{factor}x"] = float((apart / off).sqrt())
        return figures

    @torch.no_grad()
    def export(self, averaged: nn.Module, folder: Path) -> None:
        """As of ``ResidualObjective``; the critic is not kept."""
        self.residual.export(averaged["network"], folder)


class _Normed(nn.Module):
    """A weight over its spectral norm."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / torch.linalg.matrix_norm(weight.flatten(1), 2)


def bounded(critic: nn.Module) -> nn.Module:
    """A critic whose layers' matrices have norm 1, so that it cannot shout the mean down.

    The norm is computed anew each time instead of being followed by power iteration: the matrices are small, and a
    resumed run needs no more than the weights.

    Source: Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", eq. 8.
    """
    for layer in critic.modules():
        if isinstance(layer, nn.Conv2d):
            register_parametrization(layer, "weight", _Normed())
    return critic


def error_of_mean(one: Tensor, other: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """The weighted squared error of the mean of infinitely many samples, estimated without bias from two.

    Args:
        one: sample, (B, C, H, W).
        other: sample from noise of its own, like it.
        truth: like them.
        weights: like them.
    """
    return ((one - truth) * (other - truth) * weights).mean()


def _seen(crops: Crops) -> Tensor:
    """What the critic sees beside a residual: the enlargement less its mean around each pixel, over the contrast."""
    reach = NEAR // 2
    around = nn.functional.pad(crops.enlarged, (reach,) * 4, mode="replicate")
    return (crops.enlarged - nn.functional.avg_pool2d(around, NEAR, 1)) / crops.around
