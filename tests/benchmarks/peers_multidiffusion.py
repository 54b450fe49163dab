"""Our tiled generation beside diffusers' MultiDiffusion (StableDiffusionPanoramaPipeline), the same network and steps.

    python tests/benchmarks/peers_multidiffusion.py --sides 1024 2048 --rounds 7
    python tests/benchmarks/peers_multidiffusion.py --count 4096

Ours is a whole job: planned, drawn, decoded, written, checked, published. Theirs is one call with the embedded prompt
given, no guidance and latents out, so nothing is decoded or written. It is run as it comes (windows 8 latents apart)
and with ``get_views`` told our distance. Ours runs its networks as any job does: by the backend that was measured to be
the fastest, where the job is worth a measurement (``--backend eager``: as theirs). Network rows (windows times steps,
filled-up places of our batches included) are counted where the networks are called. ``--count`` measures no time: our
network gives back what it is given, our decoder zeros, and theirs are counted from their list of windows. ``--once``
leaves out the run of each that is not measured, which takes long where pictures are large.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any

from protocol import SETTINGS, in_turns, report

import torch  # isort: skip
from afterimage.engine.backends.cache import Cache
from afterimage.engine.models import catalog
from afterimage.engine.models.caption import CaptionTokens
from afterimage.engine.models.eo_latent import LatentModel, make_tiny
from afterimage.engine.models.schedulers import SCHEDULE
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPanoramaPipeline, UNet2DConditionModel
from jobs import Loaded, generate, grid, run
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

WINDOW, SCALE, WIDTH = 64, 8, 8
#: Latents between two windows of theirs, as they come.
THEIR_STRIDE = 8
#: Channels of the two networks: about 0.2 GFLOP and 1.4 GFLOP for a window.
SIZES = {"small": (8, 16), "large": (24, 48)}


class Rows:
    """Counts the pictures that the networks of both are called with."""

    def __init__(self, ours: LatentModel, theirs: torch.nn.Module) -> None:
        self.ours = self.theirs = 0
        self._predict = ours.predict
        ours.predict = self._predicted
        theirs.register_forward_pre_hook(self._note, with_kwargs=True)

    def _predicted(self, x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        self.ours += len(x)
        return self._predict(x, *more)

    def _note(self, network: torch.nn.Module, given: tuple, named: dict) -> None:
        self.theirs += len(given[0] if given else named["sample"])


def make_network(size: str) -> UNet2DConditionModel:
    """A seeded network of the usual kind."""
    torch.manual_seed(0)
    network = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        sample_size=WINDOW,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=SIZES[size],
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=WIDTH,
    )
    return network.eval().requires_grad_(False)


def make_ours(network: UNet2DConditionModel, stride: int, phases: int) -> LatentModel:
    """A model of the family that ships, around that network."""
    tiny = next(card for card in catalog.cards(SETTINGS) if card.id == "tiny-generate")
    like = make_tiny(tiny, torch.device("cpu"))
    windows = (WINDOW * SCALE, stride * SCALE)
    changes = {"window": windows[0], "stride": windows[1], "phases": (windows,) * phases}
    card = dataclasses.replace(tiny, **changes, gflop_per_window_step=gflop(network))
    torch.manual_seed(0)
    caption = CaptionTokens(classes=like.vocabulary.classes, width=WIDTH).eval().requires_grad_(False)
    return LatentModel(card, network, caption, like._autoencoder, SCHEDULE, torch.device("cpu"))


def make_theirs(network: UNet2DConditionModel) -> StableDiffusionPanoramaPipeline:
    """Their pipeline, with a small encoder of texts and a small decoder that it does not use."""
    text = CLIPTextConfig(hidden_size=WIDTH, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4, **blocks)
    pipeline = StableDiffusionPanoramaPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=None,
        unet=network,
        scheduler=DDIMScheduler.from_config({**SCHEDULE, "timestep_spacing": "trailing", "clip_sample": False}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline: StableDiffusionPanoramaPipeline, side: int, steps: int, stride: int) -> None:
    """One picture of theirs."""
    pipeline.get_views = functools.partial(type(pipeline).get_views, pipeline, stride=stride)
    pipeline(
        prompt_embeds=torch.zeros(1, 4, WIDTH),
        height=side,
        width=side,
        num_inference_steps=steps,
        guidance_scale=1.0,
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
    )


def gflop(network: UNet2DConditionModel) -> float:
    """Of one window at one step."""
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 4, WINDOW, WINDOW), 0, encoder_hidden_states=torch.zeros(1, 4, WIDTH))
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Print one line of JSON for each side and stride."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sides", type=int, nargs="*", default=[1024, 2048], help="pixels, measured")
    arguments.add_argument("--count", type=int, nargs="*", default=[], help="pixels, only counted")
    arguments.add_argument("--size", choices=SIZES, default="small")
    arguments.add_argument("--stride", type=int, default=WINDOW // 2, help="of ours, in latents")
    arguments.add_argument("--phases", type=int, default=2)
    arguments.add_argument("--steps", type=int, default=8)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--backend", default="auto", help="of ours")
    arguments.add_argument("--once", action="store_true", help="no run of each before the first round")
    chosen = arguments.parse_args()
    network = make_network(chosen.size)
    cost = gflop(network)
    model, pipeline = make_ours(network, chosen.stride, chosen.phases), make_theirs(network)
    rows = Rows(model, network)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as scratch:
        settings = dataclasses.replace(SETTINGS, cache=Path(scratch) / "cache", backend=chosen.backend)

        def draw_ours(side: int) -> None:
            rows.ours = 0
            request = generate(model.card, grid(side), "forest", steps=chosen.steps, scheduler="DDIM", guidance_scale=1)
            path = run(request, Loaded(model), Path(scratch) / f"{next(numbers)}", settings)
            path.unlink()

        def draw_theirs(side: int, stride: int) -> None:
            rows.theirs = 0
            call(pipeline, side, chosen.steps, stride)

        for side, stride in itertools.product(chosen.sides, (THEIR_STRIDE, chosen.stride)):
            ours, theirs = (lambda s=side: draw_ours(s)), (lambda s=side, d=stride: draw_theirs(s, d))
            turns = in_turns(ours, theirs, chosen.rounds, not chosen.once)
            tell(chosen, cost, side, stride, rows.ours, rows.theirs, backend=model.networks.backend, **turns)
        model.networks.take("eager", Cache(settings.cache))
        network.forward = lambda sample, *_, **__: (sample,)
        model.decode = lambda z: torch.zeros(len(z), 3, *(side * SCALE for side in z.shape[2:]))
        for side in chosen.count:
            draw_ours(side)
            for stride in (THEIR_STRIDE, chosen.stride):
                views = len(pipeline.get_views(side, side, WINDOW, stride))
                tell(chosen, cost, side, stride, rows.ours, views * chosen.steps)


def tell(chosen: argparse.Namespace, cost: float, side: int, stride: int, ours: int, theirs: int, **turns: Any) -> None:
    """Print one line of JSON."""
    report(
        figure="peers_multidiffusion",
        side=side,
        steps=chosen.steps,
        gflop_per_window_step=round(cost, 3),
        our_stride=chosen.stride,
        our_phases=chosen.phases,
        their_stride=stride,
        our_rows=ours,
        their_rows=theirs,
        rows_ratio=round(theirs / ours, 3),
        is_timed="rounds" in turns,
        **turns,
    )


if __name__ == "__main__":
    main()
