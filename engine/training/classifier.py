"""Small classifiers of real images: the judges of generated ones."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .datasets import ARCHIVES, Chips, read_chips
from .dihedral import turn
from .mark import archive_mark, keep, make_mark, read_kept
from .order import Order, step_generator
from .precision import autocast

log = logging.getLogger(__name__)


class ChipClassifier(nn.Module):
    """A convolutional network from images (B, 3, H, W) in 0..1 to classes.

    Args:
        classes: how many.
        pooling: pixels in each direction that are averaged first; above 1 the network has a stage more.
    """

    def __init__(self, classes: int, pooling: int = 1) -> None:
        super().__init__()
        deeper = [*_layer(48, 48, 2), *_layer(48, 48, 1)] if pooling > 1 else []
        self.body = nn.Sequential(
            nn.AvgPool2d(pooling),
            nn.PixelUnshuffle(2),
            *_layer(12, 48, 1),
            *deeper,
            *_layer(48, 96, 2),
            *_layer(96, 96, 1),
            *_layer(96, 128, 2),
            *_layer(128, 128, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(128, classes)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 128): what the classes are told from."""
        return self.body(_spread(pixels))

    def stages(self, pixels: Tensor) -> list[Tensor]:
        """What each layer makes of images, (B, channels, h, w) each, the first layer's first."""
        found, x = [], _spread(pixels)
        for part in self.body:
            x = part(x)
            if isinstance(part, nn.SiLU):
                found.append(x)
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.head(self.features(pixels))


def _spread(pixels: Tensor) -> Tensor:
    """From 0..1 to about -1..1 in imagery, which is dark."""
    return (pixels - 0.4) * 4


def _layer(inner: int, outer: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.SiLU()]


@dataclass(frozen=True)
class Course:
    """How a classifier is taught: the same for whatever images it is taught with.

    Attributes:
        steps: of the optimizer.
        batch: images in each step.
        pooling: of the network.
        crop: side of the random squares that it sees of an image; all of it where that is smaller.
        jitter: deviation of the random gain and offset of each band.
        mixup: parameter of the Beta distribution that pairs of images are mixed with (Zhang et al. 2018); 0 for none.
    """

    steps: int
    batch: int = 64
    pooling: int = 1
    crop: int = 64
    jitter: float = 0.0
    mixup: float = 0.0


#: Data set -> course. A few hundred images of 256 pixels need all the variety that can be made of them.
COURSES = {
    "eurosat": Course(steps=1900),
    "ucmerced": Course(steps=2200, batch=32, pooling=2, crop=208, jitter=0.1, mixup=0.2),
}


def to_unit(chips: Chips) -> Tensor:
    """Pixels (N, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(chips.pixels).permute(0, 3, 1, 2).float().div(255)


def read_judge(name: str, data: Path, work: Path, seed: int = 8) -> ChipClassifier:
    """The classifier of a data set's train split; read from the folder that keeps it when it is there.

    It is taught anew where the one there had another course or other data.

    Args:
        name: of the data set, one of ``COURSES``.
        data: folder with the archives.
        work: keeps it as safetensors.
        seed: of weights, order and turns. What is chosen by one judge should be reported by another.
    """
    cache = work / f"judge-{name}-{seed}.safetensors"
    mark = judge_mark(name, data, seed)
    weights = read_kept(cache, mark)
    if weights is not None:
        network = ChipClassifier(len(weights["head.bias"]), COURSES[name].pooling)
        network.load_state_dict(weights)
        return network.eval()
    chips = read_chips(name, data, "train")
    pixels = torch.from_numpy(chips.pixels).permute(0, 3, 1, 2)
    network = train_classifier(pixels, torch.from_numpy(chips.labels), len(chips.classes), COURSES[name], seed)
    keep(cache, network.state_dict(), mark)
    return network


def judge_mark(name: str, data: Path, seed: int) -> str:
    """What decides the weights of a judge: its course, the archive that it is taught from, its seed."""
    return make_mark(course=asdict(COURSES[name]), data=archive_mark(data / ARCHIVES[name]), seed=seed)


def train_classifier(pixels: Tensor, labels: Tensor, classes: int, course: Course, seed: int) -> ChipClassifier:
    """A classifier taught with labelled images, in evaluation mode.

    Args:
        pixels: (N, 3, H, W) uint8.
        labels: (N,) int64.
        classes: how many there are.
        course: how.
        seed: of weights, order and augmentation.
    """
    torch.manual_seed(seed)
    network = ChipClassifier(classes, course.pooling)
    order = Order(len(labels), course.batch, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=course.steps)
    targets = nn.functional.one_hot(labels, classes).float()
    for step in range(course.steps):
        chosen = torch.from_numpy(order.indices(step))
        seen, wanted = _augment(pixels[chosen].float().div(255), targets[chosen], course, step_generator(seed, step))
        with autocast(torch.device("cpu"), wanted=True):
            logits = network(seen)
        loss = nn.functional.cross_entropy(logits.float(), wanted, label_smoothing=0.05)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 500 == 0:
            log.info("classifier: step %d of %d, loss %.3f", step, course.steps, loss.detach())
    return network.eval()


def _augment(pixels: Tensor, targets: Tensor, course: Course, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and targets of a step: cut, turned, tinted and mixed."""

    def below(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    side = min(course.crop, pixels.shape[-1])
    top, left = below(pixels.shape[-2] - side + 1), below(pixels.shape[-1] - side + 1)
    bottom, right = top + side, left + side
    pixels = turn(pixels[..., top:bottom, left:right], below(8))
    if course.jitter:
        gain, offset = course.jitter * torch.randn(2, len(pixels), 3, 1, 1, generator=generator)
        pixels = pixels * (1 + gain) + offset / 4
    if course.mixup:
        rng = np.random.default_rng(below(2**31))
        share = float(rng.beta(course.mixup, course.mixup))
        pixels = share * pixels + (1 - share) * pixels.flip(0)
        targets = share * targets + (1 - share) * targets.flip(0)
    return pixels, targets


@torch.inference_mode()
def judge(network: ChipClassifier, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Classes (N,) and features (N, 128) of images (N, 3, H, W) in 0..1."""
    features = torch.cat([network.features(part) for part in pixels.split(128)])
    return network.head(features).argmax(dim=1), features
