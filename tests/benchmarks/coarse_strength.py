"""What a picture keeps of a coarser level that it starts from, and what it lacks: worked out, nothing is drawn.

The picture is a Gaussian field of latents with exponential correlation. The coarser level holds its block means,
enlarged bicubically; the picture starts from that under as much noise as the schedule of Stable Diffusion holds at a
strength, and follows the probability flow exactly, which multiplies each wave by a number.

    python tests/benchmarks/coarse_strength.py

Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", appendix B.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 512
#: Latents of a window: waves longer than that are what the coarser level is for.
WINDOW = 64
STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
Array = NDArray[np.float64]


def signal(strength: float) -> float:
    """Share of the signal in the variance, where the last ``strength`` of 1000 steps begin."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return float(np.cumprod(1 - betas)[round(strength * 1000) - 1])


def spectrum(length: float) -> Array:
    """Variance of each wave of a field (SIDE, SIDE) of variance 1 whose correlation falls to 1/e in so many latents."""
    place = np.arange(SIDE)
    near = np.minimum(place, SIDE - place)
    return np.fft.fft2(np.exp(-np.hypot(near[:, None], near) / length)).real.clip(1e-12)


def kept(factor: int) -> Array:
    """What block means and their bicubic enlargement leave of each wave, (SIDE, SIDE); aliases are left out."""
    waves = np.fft.fftfreq(SIDE)
    offsets = np.arange(-2 * factor, 2 * factor) + 0.5
    x = np.abs(offsets / factor)
    cubic = np.where(x <= 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2)
    enlarging = (cubic / cubic.sum() * np.cos(2 * np.pi * np.outer(waves, offsets))).sum(axis=1)
    means = np.cos(2 * np.pi * np.outer(waves, np.arange(factor) - (factor - 1) / 2)).mean(axis=1)
    along = enlarging * means
    return along[:, None] * along[None]


def figures(length: float, factor: int, strength: float) -> tuple[float, float, float]:
    """(gradient energy and variance as shares of the field's, coherence of long waves with the coarser level)."""
    waves = np.fft.fftfreq(SIDE)
    steep = np.sin(np.pi * waves) ** 2
    gradient = steep[:, None] + steep[None]
    long = np.hypot(waves[:, None], waves) < 1 / WINDOW
    long[0, 0] = False
    field, share = spectrum(length), signal(strength)
    coarse = kept(factor) ** 2 * field
    drawn = field * (share * coarse + 1 - share) / (share * field + 1 - share)
    coherence = np.sqrt(share * coarse / (share * coarse + 1 - share))
    return (
        float((drawn * gradient).sum() / (field * gradient).sum()),
        float(drawn.sum() / field.sum()),
        float(np.average(coherence[long], weights=field[long])),
    )


def main() -> None:
    print("| correlation length, factor | " + " | ".join(map(str, STRENGTHS)) + " |")
    for length in (4.0, 16.0):
        for factor in (2, 4, 8):
            found = (figures(length, factor, strength) for strength in STRENGTHS)
            cells = (f"{gradient:.2f} / {coherence:.2f} ({variance:.2f})" for gradient, variance, coherence in found)
            print(f"| {length:g}, {factor} times | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
