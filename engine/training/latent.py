"""The text-to-image objective: the diffusion of an image's latents, given its caption."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from ..models.autoencoder import TileableAutoencoder
from ..models.caption import FIELDS, CaptionTokens
from ..models.schedulers import KARRAS, SCHEDULE
from ..models.weights import digest
from .datasets import ARCHIVES, Chips, read_chips
from .dihedral import turn
from .export import WEIGHTS, load_component, save_component, save_index
from .mark import FILE, archive_mark, keep, make_mark, read_kept
from .order import Order, step_generator
from .precision import autocast
from .recipe import Recipe
from .velocity import add_noise, alphas_cumprod, draw_timesteps, velocity


class LatentObjective:
    """v-prediction of latents, given the tokens of a caption.

    A caption is the image's class and its metadata, each of which is sometimes withheld: the text so that guidance has
    a null condition (Ho & Salimans 2021, Algorithm 1), the metadata so that it may stay unknown. The data sets give the
    ground resolution and nothing else.

    Args:
        recipe: ``network`` names a diffusers class under ``_class_name``; options ``data`` (name of a data set),
            ``drop_text`` and ``drop_gsd`` (probabilities) and ``every`` (1 takes all chips, 2 every second). How the
            model is sampled, too: ``steps_between`` (see ``schedulers.KARRAS``) and ``guidance_interval`` (see
            ``guidance.noise_levels``).
        data: folder with the archives.
        decoder: folder of the decoder's run: its fitted transform makes the latents, its latest decoder is exported.
        cache: file that keeps the encoded data set; made anew where data, ``every`` or transform are others.
        device: where the networks and the latents live; on a GPU the denoiser is compiled.
        start: model whose weights it begins with, in the layout of an export. Its autoencoder makes the latents and is
            exported again, and no run of the decoder is needed. Without it weights are fresh.
    """

    def __init__(
        self, recipe: Recipe, data: Path, decoder: Path, cache: Path, device: torch.device, start: Path | None = None
    ) -> None:
        self.recipe, self.device = recipe, device
        self.fitted = decoder / "fitted" if start is None else start / "vae"
        self.latest = decoder / "export" / "vae" if start is None else start / "vae"
        self.autoencoder = read_component(TileableAutoencoder, self.fitted)
        every, name = recipe.options.get("every", 1), recipe.options["data"]
        train, val = read_chips(name, data, "train").every(every), read_chips(name, data, "val").every(every)
        mark = make_mark(data=archive_mark(data / ARCHIVES[name]), every=every, fitted=component_mark(self.fitted))
        encoded = read_kept(cache, mark)
        if encoded is None:
            encoded = {"train": self._encode(train, range(8)), "val": self._encode(val, range(1))}
            keep(cache, encoded, mark)
        self.latents, self.held_out = encoded["train"].to(device), encoded["val"][0].to(device)
        self.labels, self.held_labels = torch.from_numpy(train.labels), torch.from_numpy(val.labels)
        self.log_gsd = math.log2(train.gsd)
        torch.manual_seed(recipe.seed)
        self.trained: nn.Module = nn.ModuleDict(make_networks(recipe.network, train.classes, self.latents.shape[2]))
        if start is not None:
            load_component(self.trained["denoiser"], start / "unet")
            load_component(self.trained["caption"], start / "caption")
        self.trained.to(device)
        if device.type == "cpu":
            # Flash attention's backward pass takes 40 % of a step on a CPU at this size (torch 2.13): written out, it
            # is twice as fast.
            self.trained["denoiser"].set_attn_processor(AttnProcessor())
        else:
            self.trained["denoiser"].compile()
        self.alphas = alphas_cumprod().to(device)
        self.order = Order(len(self.labels), recipe.batch, recipe.seed)

    @torch.no_grad()
    def _encode(self, chips: Chips, turns: range) -> Tensor:
        """Latents (turns, N, channels, h, w) float16 of every chip, turned."""
        pixels = torch.from_numpy(chips.pixels).permute(0, 3, 1, 2)
        encode = self.autoencoder.encode
        rows = [torch.cat([encode(turn(p.float().div(255), k)).half() for p in pixels.split(128)]) for k in turns]
        return torch.stack(rows)

    def loss(self, step: int) -> Tensor:
        """See the class."""
        generator = step_generator(self.recipe.seed, step)
        chosen = torch.from_numpy(self.order.indices(step))
        turns = torch.randint(8, chosen.shape, generator=generator)
        x0, labels = self.latents[turns.to(self.device), chosen.to(self.device)].float(), self.labels[chosen]
        options = self.recipe.options
        told = torch.rand(chosen.shape, generator=generator) >= options["drop_text"]
        metadata = torch.full((len(chosen), len(FIELDS)), math.nan)
        known = torch.rand(chosen.shape, generator=generator) >= options["drop_gsd"]
        metadata[known, list(FIELDS).index("gsd")] = self.log_gsd
        noise = torch.randn(x0.shape, generator=generator)
        t = draw_timesteps(len(x0), generator)
        return self._error(self.trained, x0, noise, t, labels, told, metadata)

    def _error(
        self, networks: nn.Module, x0: Tensor, noise: Tensor, t: Tensor, labels: Tensor, told: Tensor, metadata: Tensor
    ) -> Tensor:
        classes = len(networks["caption"].config.classes)
        weights = nn.functional.one_hot(labels, classes).float() * told[:, None]
        noise, t, weights, metadata = (x.to(self.device) for x in (noise, t, weights, metadata))
        with autocast(self.device, self.recipe.bf16):
            tokens = networks["caption"](weights, metadata)
            v = predict(networks["denoiser"], add_noise(x0, noise, t, self.alphas), t, tokens)
        return (v.float() - velocity(x0, noise, t, self.alphas)).square().mean()

    @torch.no_grad()
    def validate(self, averaged: nn.Module) -> dict[str, float]:
        """The loss on the validation split, with captions, at fixed noise; and without captions, for comparison."""
        x0 = self.held_out.float()
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(x0.shape, generator=generator)
        t = draw_timesteps(len(x0), generator)
        metadata = torch.full((len(x0), len(FIELDS)), math.nan)
        figures = {}
        for name, value in (("val_loss", True), ("val_loss_untold", False)):
            told = torch.full((len(x0),), value)
            figures[name] = float(self._error(averaged, x0, noise, t, self.held_labels, told, metadata))
        return figures

    @torch.no_grad()
    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the network, the caption tokens, the autoencoder and the scheduler."""
        save_component(averaged["denoiser"], folder / "unet")
        save_component(averaged["caption"], folder / "caption")
        source = self.latest if self.latest.is_dir() else self.fitted
        shutil.copytree(source, folder / "vae", ignore=shutil.ignore_patterns(FILE))
        scheduler = DDPMScheduler(**SCHEDULE, clip_sample=False)
        scheduler.register_to_config(**dict(zip(KARRAS, (True, *self.recipe.options["steps_between"]))))
        scheduler.save_config(folder / "scheduler")
        components = {
            "unet": ("diffusers", type(averaged["denoiser"]).__name__),
            "caption": ("afterimage.engine.models.caption", "CaptionTokens"),
            "vae": ("afterimage.engine.models.autoencoder", "TileableAutoencoder"),
            "scheduler": ("diffusers", "DDPMScheduler"),
        }
        save_index(folder, components, {"guidance_interval": self.recipe.options["guidance_interval"]})


def make_networks(network: dict[str, Any], classes: tuple[str, ...], channels: int) -> dict[str, nn.Module]:
    """The denoiser of a recipe and the caption tokens that it listens to, with fresh weights."""
    settings = dict(network)
    kind = getattr(diffusers, settings.pop("_class_name"))
    denoiser = kind(in_channels=channels, out_channels=channels, **settings)
    return {"denoiser": denoiser, "caption": CaptionTokens(classes=classes, width=settings["cross_attention_dim"])}


def predict(network: nn.Module, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    """The velocity of noisy latents (B, channels, h, w) at timesteps (B,), given tokens (B, count, width)."""
    return network(x, t, encoder_hidden_states=tokens, return_dict=False)[0]


def read_component(kind: type[TileableAutoencoder], folder: Path) -> TileableAutoencoder:
    """A network of ours, as exported, in float32."""
    network = kind.from_config(kind.load_config(folder))
    load_component(network, folder)
    return network.eval().requires_grad_(False)


def component_mark(component: Path) -> str:
    """Short hash of an exported network: its configuration and its weights."""
    return make_mark(
        config=(component / "config.json").read_text("utf-8"), weights=digest((component / WEIGHTS).read_bytes())
    )
