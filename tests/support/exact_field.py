"""A test bed for tilers: a random field whose denoiser is known exactly, so that every defect is the tiler's.

The field is Gaussian with exponential covariance. The best estimate of the clean sample in a window is linear in the
noisy one, with the eigenvectors of the window's covariance, and so is the whole way from noise to the sample: each step
here is that of the converged ordinary differential equation, taken by diffusers' DDIM at any number of steps. The field
can be seen through block means under noise, as super-resolution sees it; then it is that of the posterior.

Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", appendix B, for a
Gaussian; Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", eq. 2.22-2.24, for the posterior.
"""

from __future__ import annotations

import diffusers
import torch
from torch import Tensor


class ExactField:
    """Windows of the field.

    Args:
        size: side of a window in pixels.
        length: distance over which the correlation falls to 1/e, in pixels.
        factor: side of the blocks whose means are seen; 0 for none.
        noise: standard deviation of what is added to those means.
    """

    def __init__(self, size: int, length: float, factor: int = 0, noise: float = 0.02) -> None:
        place = torch.arange(size, dtype=torch.float64)
        rows, cols = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
        covariance = torch.exp(-torch.hypot(rows[:, None] - rows, cols[:, None] - cols) / length)
        self.size, self.length, self.factor = size, length, factor
        #: mean squared difference of neighbours
        self.gradient = 2 - 2 * float(torch.exp(torch.tensor(-1 / length)))
        if factor:
            blocks = (rows // factor) * (size // factor) + cols // factor
            means = (blocks == torch.arange((size // factor) ** 2)[:, None]).double() / factor**2
            seen = means @ covariance @ means.T + noise**2 * torch.eye(len(means), dtype=torch.float64)
            gain = torch.linalg.solve(seen, means @ covariance).T
            covariance = covariance - gain @ means @ covariance
            self._gain = gain.float()
        values, vectors = torch.linalg.eigh(covariance)
        self._values, self._vectors = values.clamp_min(0), vectors
        self._operators: dict[tuple[float, float], Tensor] = {}

    def scheduler(self) -> diffusers.DDIMScheduler:
        return diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")

    def mean(self, low: Tensor) -> Tensor:
        """Block means (B, 1, h, w) of windows -> the best estimate of their pixels (B, 1, size, size)."""
        return (low.flatten(1) @ self._gain.T).view(-1, 1, self.size, self.size)

    def predictor(self, scheduler: diffusers.DDIMScheduler, mean: Tensor | float = 0.0):
        """The noise prediction with which each step of a scheduler ends where the exact way does.

        Args:
            scheduler: of ``scheduler``; its timesteps may be set later.
            mean: of the windows, of ``mean``.
        """

        def predict(x: Tensor, t: Tensor) -> Tensor:
            levels, times = scheduler.alphas_cumprod, scheduler.timesteps.tolist()
            now, place = float(levels[t]), times.index(int(t)) + 1
            then = float(levels[times[place]]) if place < len(times) else float(scheduler.final_alpha_cumprod)
            apart = x - now**0.5 * mean
            stepped = then**0.5 * mean + (apart.flatten(1) @ self._operator(now, then)).view_as(x)
            ratio = (then / now) ** 0.5
            return (stepped - ratio * x) / ((1 - then) ** 0.5 - ratio * (1 - now) ** 0.5)

        return predict

    def _operator(self, now: float, then: float) -> Tensor:
        """From the noisy sample at one level (share of the signal) to that at the next: symmetric."""
        if (now, then) not in self._operators:
            spread = [level * self._values + 1 - level for level in (now, then)]
            ratio = (spread[1] / spread[0]).sqrt()
            self._operators[(now, then)] = ((self._vectors * ratio) @ self._vectors.T).float()
        return self._operators[(now, then)]


class TwoTones(ExactField):
    """The field, lifted or lowered in a whole window by a tone, either as likely as the other.

    Half of the windows that are drawn alone are light and half are dark, so squares show where neighbours do not agree:
    as in water, of which a model has seen blue and green chips.

    Args:
        size: side of a window in pixels.
        length: distance over which the correlation falls to 1/e, in pixels.
        tone: by how much windows are lifted or lowered.
    """

    def __init__(self, size: int, length: float, tone: float) -> None:
        super().__init__(size, length)
        self._lifted = tone * self._vectors.sum(dim=0).float()

    def predictor(self, scheduler: diffusers.DDIMScheduler, mean: Tensor | float = 0.0):
        """The exact noise prediction: that of each tone, as likely as what is seen makes it (Bayes)."""

        def predict(x: Tensor, t: Tensor) -> Tensor:
            level = float(scheduler.alphas_cumprod[t])
            values = self._values.float()
            spread, turned = level * values + 1 - level, x.flatten(1) @ self._vectors.float()
            likely = (level**0.5 * (turned * self._lifted / spread).sum(dim=1, keepdim=True)).tanh()
            expected = likely * self._lifted
            clean = expected + (turned - level**0.5 * expected) * level**0.5 * values / spread
            noise = (turned - level**0.5 * clean) / (1 - level) ** 0.5
            return (noise @ self._vectors.T.float()).view_as(x)

        return predict


def torus(side: int, length: float, seed: int) -> Tensor:
    """A field (side, side) of the same covariance, as a torus: exact where ``length`` is far below ``side``."""
    place = torch.arange(side, dtype=torch.float64)
    near = torch.minimum(place, side - place)
    covariance = torch.exp(-torch.hypot(near[:, None], near) / length)
    spectrum = torch.fft.fft2(covariance).real.clamp_min(0).sqrt()
    white = torch.randn(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.fft.ifft2(torch.fft.fft2(white) * spectrum).real.float()


def profile(field: Tensor, stride: int) -> Tensor:
    """Mean squared first difference by position in the tile, over both axes: (stride,).

    Args:
        field: (h, w), whose first pixel is a window's.
        stride: distance between windows.
    """
    energy = [field.diff(dim=0).square().mean(dim=1), field.diff(dim=1).square().mean(dim=0)]
    return torch.stack([torch.stack([part[place::stride].mean() for part in energy]).mean() for place in range(stride)])


def tones(field: Tensor, stride: int, side: int = 4) -> float:
    """Steps of the means of squares: the largest over the median of their mean squares by position in the tile.

    1 where no squares are to be seen, give or take chance.

    Args:
        field: (h, w), whose first pixel is a window's.
        stride: distance between windows.
        side: of the squares.
    """
    means = torch.nn.functional.avg_pool2d(field[None, None], side, 1)[0, 0]
    steps = [means[side:] - means[:-side], (means[:, side:] - means[:, :-side]).T]
    energy = [part.square().mean(dim=1) for part in steps]
    found = torch.stack([torch.stack([part[at::stride].mean() for part in energy]).mean() for at in range(stride)])
    return float(found.max() / found.median())


def seam_ratio(found: Tensor) -> float:
    """The largest over the smallest of a profile; 1 where no seam is."""
    return float(found.max() / found.min())


def variance(field: Tensor, stride: int) -> Tensor:
    """Mean square by position in the tile, over both axes: (stride,)."""
    power = [field.square().mean(dim=1), field.square().mean(dim=0)]
    return torch.stack([torch.stack([part[place::stride].mean() for part in power]).mean() for place in range(stride)])
