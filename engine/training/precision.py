"""The number format of the forward passes: bfloat16 where the processor multiplies it natively, else float32."""

from __future__ import annotations

import torch


def autocast(device: torch.device, wanted: bool) -> torch.autocast:
    """A context in which matrix products and convolutions take bfloat16.

    Without instructions for it a CPU converts each number back and forth, which is 3 to 80 times slower than float32:
    there nothing is cast.

    Args:
        device: where the network lives.
        wanted: what the recipe says; False keeps float32.
    """
    native = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and native)
