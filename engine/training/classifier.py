"""A small classifier of real chips: the judge of generated ones."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .datasets import Chips, read_eurosat
from .dihedral import turn
from .order import Order, step_generator


class ChipClassifier(nn.Module):
    """A convolutional network from chips (B, 3, 64, 64) in 0..1 to classes.

    Args:
        classes: how many.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            *_layer(12, 48, 1),
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
        return self.body((pixels - 0.4) * 4)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.head(self.features(pixels))


def _layer(inner: int, outer: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.SiLU()]


def to_unit(chips: Chips) -> Tensor:
    """Pixels (N, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(chips.pixels).permute(0, 3, 1, 2).float().div(255)


def train_classifier(data: Path, cache: Path, epochs: int = 5, batch: int = 64, seed: int = 7) -> ChipClassifier:
    """The classifier of EuroSAT's train split; read from the cache when it is there.

    Args:
        data: folder with the archives.
        cache: safetensors file that keeps it.
        epochs: passes over the train split.
        batch: chips in each step.
        seed: of weights, order and turns.
    """
    torch.manual_seed(seed)
    network = ChipClassifier(10)
    if cache.exists():
        network.load_state_dict(load_file(cache))
        return network.eval()
    chips = read_eurosat(data, "train")
    pixels, labels = torch.from_numpy(chips.pixels).permute(0, 3, 1, 2), torch.from_numpy(chips.labels)
    order = Order(len(labels), batch, seed)
    steps = epochs * len(labels) // batch
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        chosen = torch.from_numpy(order.indices(step))
        turned = turn(pixels[chosen].float().div(255), int(torch.randint(8, (), generator=step_generator(seed, step))))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(turned)
        nn.functional.cross_entropy(logits.float(), labels[chosen], label_smoothing=0.05).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), cache)
    return network.eval()


@torch.inference_mode()
def judge(network: ChipClassifier, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Classes (N,) and features (N, 128) of chips (N, 3, 64, 64) in 0..1."""
    features = torch.cat([network.features(part) for part in pixels.split(128)])
    return network.head(features).argmax(dim=1), features
