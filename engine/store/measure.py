"""What a published model costs: counted on tensors without memory, so that it takes no time whatever the size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..models.latent_diffusion import LatentDiffusion
from ..models.memory import RUNGS, need

#: Resident memory in MB of an engine without a model. Measured on Linux x86-64 with torch 2.13 (CPU): 408 with every
#: library imported, and 71 more from the first forward pass on.
ENGINE_MB = 500


@dataclass(frozen=True)
class Cost:
    """What one window costs.

    Attributes:
        parameters: number of weights.
        memory_mb: resident memory of the engine with this model on a CPU, in float32.
        gpu_mb: memory on a GPU in each way that there is to run it there, the best way first.
        gflop_per_window_step: work of one network call on one window, without guidance.
        gflop_decode_per_megapixel: work to decode a million pixels.
    """

    parameters: int
    memory_mb: int
    gpu_mb: tuple[int, ...]
    gflop_per_window_step: float
    gflop_decode_per_megapixel: float


def measure(model: LatentDiffusion, family: str, window: int, frames: int = 1) -> Cost:
    """What a model costs. Its weights are gone afterwards.

    Args:
        model: of any family.
        family: its name.
        window: side in output pixels.
        frames: dated pictures that it is shown, where it takes a series.
    """
    parameters = sum(p.numel() for network in model.networks for p in network.parameters())
    tower = int(getattr(getattr(model, "tower", None), "parameters", 0))
    model.to("meta")
    side = window // model.codec.scale
    size = model.size(side, 3 if family == "rsedit" else 2, frames)
    sample, told = inputs(model, family, side, frames)
    text = torch.zeros(1, model.text.length, model.text.width, device="meta")
    timestep = torch.zeros((), device="meta")
    with _written_out():
        step = _gflop(lambda: model.forward(sample, timestep, text, **told))
        decode = _gflop(lambda: model.decode(sample))
    return Cost(
        parameters=parameters + tower,
        memory_mb=ENGINE_MB + round((4 * parameters + max(size.decoding, 4 * tower)) / 1e6),
        gpu_mb=tuple(round(need(rung, size) / 1e6) for rung in RUNGS if not rung.on_host),
        gflop_per_window_step=round(step, 4),
        gflop_decode_per_megapixel=round(decode * 1e6 / window**2, 1),
    )


def inputs(model: Any, family: str, side: int, frames: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
    """(sample, what else ``forward`` is told) for one window of ``side`` latents, without memory."""

    def blank(*shape: int) -> Tensor:
        return torch.zeros(1, *shape, device="meta")

    pixels = side * model.codec.scale
    told: dict[str, Tensor] = {}
    if family.startswith("diffusionsat"):
        told["metadata"] = blank(7)
    if family == "diffusionsat_control":
        hint = side * model.hint_scale
        told |= {"hint_metadata": blank(7), "hint": blank(model.hint_channels, hint, hint)}
    elif family == "diffusionsat_temporal":
        hint = side * model.hint_scale
        told |= {"hint_metadata": blank(7, frames), "hint": blank(model.hint_channels, frames, hint, hint)}
    elif family == "text2earth":
        told["level"] = blank()
    elif family == "rsedit":
        told["context"] = blank(4, side, side)
    elif family == "crs_diff":
        told |= {"metadata": blank(7), "maps": blank(18, pixels, pixels)}
        told |= {"content": blank(model.tokens.width), "content_strength": blank()}
    elif family.startswith("stable_diffusion_xl"):
        told["pooled"] = blank(model.text.pooled_width)
    if family in ("stable_diffusion_control", "stable_diffusion_xl_control"):
        told |= {"hint": blank(3, pixels, pixels), "hint_scale": blank()}
    if getattr(model, "is_inpainting", False):
        told["context"] = blank(5, side, side)
    return blank(4, side, side), told


def _gflop(call: Callable[[], Any]) -> float:
    """Work of a call in GFLOP, two for each multiplication and addition."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    return float(counter.get_total_flops()) / 1e9


@contextlib.contextmanager
def _written_out() -> Iterator[None]:
    """Attention as its two products of matrices, which are counted; the counter passes over the CPU's fused kernel."""
    with sdpa_kernel(SDPBackend.MATH):
        yield
