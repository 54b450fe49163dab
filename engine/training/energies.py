"""How much texture a picture has where, and how far that is from what is expected there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Side of the fields whose energies are compared, in pixels.
FIELD = 15
#: Scales and orders of the differences whose energies are compared: gradients at full and at half resolution.
GRADIENTS = ((1, 1), (2, 1))
#: Second differences beside them: of a gradient's energy half lies in the finest octave, of theirs four fifths.
CURVATURES = (*GRADIENTS, (1, 2))
#: Energies that differ by more of their unit count by their difference instead of its square.
OUTLYING = 4.0


def energy_distance(
    ours: Tensor, truth: Tensor, contrast: Tensor, differences: Sequence[tuple[int, int]] = GRADIENTS
) -> Tensor:
    """How far the energy of pictures' differences is from what is expected of it.

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
        differences: scale (2 is half resolution) and order of each. Units of higher orders are larger, as white noise
            has them.
    """
    distance = torch.zeros((), device=ours.device)
    overall = contrast.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    for scale, order in differences:
        a, b, unit = (nn.functional.avg_pool2d(x, scale) for x in (ours, truth, (contrast * overall).sqrt()))
        for axis in (-1, -2):
            near = unit.narrow(axis, 1, unit.shape[axis] - order) * (math.comb(2 * order, order) / 2) ** 0.5
            drawn, real = (
                nn.functional.avg_pool2d((x.diff(order, axis) / near).square(), FIELD // scale, FIELD // (2 * scale))
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
