"""How much texture a picture has where, and how far that is from what is expected there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Side of the fields whose gradient energies are compared, in pixels.
FIELD = 15
#: Energies that differ by more of their unit count by their difference instead of its square.
OUTLYING = 4.0


def energy_distance(ours: Tensor, truth: Tensor, contrast: Tensor) -> Tensor:
    """How far the gradient energy of pictures is from what is expected of it, at full and half resolution.

    Of what is not known, the energy that comes closest in squares is the mean of all that may be: pictures that
    minimise this have the truth's on average. Absolute values lead to the one that is most often met, which is less.
    That mean hangs on few: rows of a field that a coarse image cannot show have twenty times the energy that their
    contrast lets expect. So squares reach to ``OUTLYING`` units; beyond, outliers count by their size alone.

    Args:
        ours: (B, C, H, W) in about 0..1.
        truth: like it.
        contrast: how steep gradients are expected to be around each pixel, from what is known and not from ``truth``,
            (B, C or 1, H, W). The unit is half of the way, by factors, from it to that of its image: a field counts
            like a city, and a lawn less than the roof beside it.
    """
    distance = torch.zeros((), device=ours.device)
    overall = contrast.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    for scale in (1, 2):
        a, b, unit = (nn.functional.avg_pool2d(x, scale) for x in (ours, truth, (contrast * overall).sqrt()))
        for axis in (-1, -2):
            near = unit.narrow(axis, 1, unit.shape[axis] - 1)
            drawn, real = (
                nn.functional.avg_pool2d((x.diff(dim=axis) / near).square(), FIELD // scale, FIELD // (2 * scale))
                for x in (a, b)
            )
            distance = distance + nn.functional.huber_loss(drawn, real, delta=OUTLYING)
    return distance


def steepness(pixels: Tensor, reach: int) -> Tensor:
    """The root of the mean square difference of neighbouring pixels in the square around each.

    Args:
        pixels: (B, C, H, W) in about 0..1.
        reach: of the square, in pixels each way.

    Returns:
        (B, 1, H, W), never 0.
    """
    along = pixels.diff(dim=-1, append=pixels[..., -1:])
    down = pixels.diff(dim=-2, append=pixels[..., -1:, :])
    squares = (along.square() + down.square()).mean(dim=1, keepdim=True) / 2
    around = nn.functional.pad(squares, (reach,) * 4, mode="reflect")
    return (nn.functional.avg_pool2d(around, 2 * reach + 1, 1) + 1e-5).sqrt()
