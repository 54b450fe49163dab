"""Family: text and metadata to imagery, by diffusion of an autoencoder's latents."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..backends.network import Network, Networks
from ..contract import ModelCard
from ..diffusion.guidance import Predict, classifier_free, in_interval, noise_levels
from ..diffusion.loop import sample
from ..diffusion.rows import Branch
from .autoencoder import TileableAutoencoder
from .base import Given, Scene
from .caption import FIELDS, CaptionTokens
from .schedulers import SCHEDULE, make_scheduler
from .vocabulary import Vocabulary
from .weights import load_network, read_json

#: Steps of the run that a backend is checked with.
CHECKED_STEPS = 3


class LatentModel:
    """A ``GenerateModel``: see ``base`` for what its attributes and methods are.

    Args:
        card: what it can do; window and stride are read from it.
        denoiser: predicts velocities of latents.
        caption: makes tokens of class names and metadata.
        autoencoder: decodes latents.
        schedule: configuration of the scheduler that training used.
        device: where the networks go.
        guidance_interval: see ``guidance.noise_levels``.
    """

    dtype = torch.float32
    batch = 8
    holds = True

    def __init__(
        self,
        card: ModelCard,
        denoiser: UNet2DConditionModel,
        caption: CaptionTokens,
        autoencoder: TileableAutoencoder,
        schedule: Mapping[str, Any],
        device: torch.device,
        guidance_interval: tuple[float, float] | None = None,
    ) -> None:
        self.card, self.device = card, device
        self.scale = autoencoder.scale
        self.channels = int(autoencoder.config.latent_channels)
        self.window, self.stride = card.window // self.scale, card.stride // self.scale
        self.decode_halo: int | None = autoencoder.decode_halo
        self._denoiser, self._caption = denoiser.to(device), caption.to(device)
        self._autoencoder = autoencoder.to(device)
        self.networks = Networks(
            {"denoiser": Network(_Told(self._denoiser)), "decoder": Network(_Decoder(self._autoencoder), varies=True)}
        )
        self._schedule = dict(schedule)
        self.guides = noise_levels(self.scheduler(card.schedulers[0]).alphas_cumprod, guidance_interval)
        self.vocabulary = Vocabulary(tuple(caption.config.classes))

    def scheduler(self, name: str) -> Any:
        """See ``GenerateModel``."""
        return make_scheduler(name, self.card.schedulers, self._schedule)

    def told(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Tokens (1, count, width) of the prompt, and of the negative prompt or no text; with the same metadata.

        Raises:
            PromptNotUnderstood: see ``GenerateModel``.
        """
        null = [0.0] * len(self.vocabulary.classes)
        if scene.negative_prompt:
            null = self.vocabulary.weights(scene.negative_prompt)
        return self._tokens(self.vocabulary.weights(scene.prompt), scene), self._tokens(null, scene)

    def remarks(self, scene: Scene) -> tuple[str, ...]:
        """Nothing: the vocabulary refuses what it does not know."""
        return ()

    def predictor(self, told: tuple[Tensor, Tensor], guidance_scale: float, given: Given) -> Predict:
        """See ``GenerateModel``; of what is given it uses nothing."""
        condition, null = told

        def cond(x: Tensor, t: Tensor) -> Tensor:
            return self.predict(x, t, condition)

        return in_interval(
            classifier_free(cond, lambda x, t: self.predict(x, t, null), guidance_scale), cond, self.guides
        )

    def branches(self, told: tuple[Tensor, Tensor], guidance_scale: float, given: Given) -> list[Branch]:
        """See ``GenerateModel``."""
        condition, null = told
        both = [(1 - guidance_scale, null), (guidance_scale, condition)]
        return [Branch(weight, {"tokens": tokens}) for weight, tokens in both if weight]

    def rows(self, branches: int) -> int:
        """See ``GenerateModel``."""
        return self.batch

    def answer(self, x: Tensor, t: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        """See ``GenerateModel``."""
        return self.predict(x, t, told["tokens"])

    def predict(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """One call of the network with the tokens of one condition, or of one for each window."""
        return self.networks.denoiser(x, t, condition.expand(len(x), -1, -1))

    def decode(self, z: Tensor) -> Tensor:
        """See ``GenerateModel``."""
        return self.networks.parts["decoder"](z).clamp(0, 1)

    def colors(self) -> tuple[Tensor, Tensor]:
        """See ``EditModel``: as the transform has them, whose latents have mean 0, deviation 1 and no correlation."""
        code = self._autoencoder
        parts = (code.synthesis.weight * code.spread.view(-1, 1, 1, 1)).flatten(2) * 0.5  # (channels, bands, pixels)
        covariance = torch.einsum("kbp,kcp->bc", parts, parts) / parts.shape[2]
        return code.synthesis.bias * 0.5 + 0.5, covariance

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, bands, H, W) in 0..1, sides multiples of ``scale`` -> latents (B, channels, h, w)."""
        return self._autoencoder.encode(pixels)

    def holder(self, pixels: Tensor, known: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``EditModel``."""
        return lambda z: self._hold(z, pixels, known)

    def _hold(self, z: Tensor, pixels: Tensor, known: Tensor) -> Tensor:
        """Whole blocks become the code of their pixels, and parts of blocks are changed by the linear transform.

        The transform's analysis is the transpose of its synthesis, so what is added to a block that is known in part
        is the nearest change of its latent to the known pixels.
        """
        code, scale = self._autoencoder, self.scale
        missing = torch.where(known, pixels - (code.synthesis(z * code.spread) * 0.5 + 0.5), 0.0)
        change = nn.functional.conv2d(2 * missing, code.analysis.weight, stride=scale) / code.spread
        share = nn.functional.avg_pool2d(known.to(z.dtype), scale)
        return torch.where(share == 1, self.encode(pixels), z + change)

    def example(self, side: int | None = None) -> tuple[Tensor, ...]:
        """See ``Backed``."""
        condition, _ = self._first_class()
        middle = torch.tensor(int(self._schedule["num_train_timesteps"]) // 2, device=self.device)
        return self._seeded(0, side), middle, condition.expand(self.batch, -1, -1)

    @torch.inference_mode()
    def picture(self, side: int | None = None) -> Tensor:
        """See ``Backed``."""
        predict = self.predictor(self._first_class(), self.card.guidance_scale, Given())
        z = sample(
            predict, self.scheduler(self.card.schedulers[0]), CHECKED_STEPS, lambda stream: self._seeded(stream, side)
        )
        return torch.cat([self.decode(each[None]) for each in z])  # one by one, as the tasks do

    def prepare(self) -> None:
        """See ``Backed``."""
        for side in sorted({side for side, _ in self.card.windows}):
            self.networks.denoiser.prepare(*self.example(side))
        self.networks.parts["decoder"].prepare(self._seeded(0)[:1])

    def _first_class(self) -> tuple[Tensor, Tensor]:
        """Like ``told``, of the first class that it knows."""
        null = [0.0] * len(self.vocabulary.classes)
        return self._tokens([1.0, *null[1:]], Scene()), self._tokens(null, Scene())

    def _seeded(self, stream: int, side: int | None = None) -> Tensor:
        """Noise for a batch of windows of so many output pixels a side; None for the card's ``window``."""
        latents = self.window if side is None else side // self.scale
        shape = (self.batch, self.channels, latents, latents)
        return torch.randn(shape, generator=torch.Generator().manual_seed(stream)).to(self.device)

    @torch.inference_mode()
    def _tokens(self, weights: list[float], scene: Scene) -> Tensor:
        metadata = metadata_of(scene, self.card)
        return self._caption(torch.tensor([weights], device=self.device), torch.tensor([metadata], device=self.device))


class _Told(nn.Module):
    """The denoiser, with tokens as its third input."""

    def __init__(self, denoiser: UNet2DConditionModel) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return self.denoiser(x, t, encoder_hidden_states=tokens, return_dict=False)[0]


class _Decoder(nn.Module):
    """The decoder alone."""

    def __init__(self, autoencoder: TileableAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, z: Tensor) -> Tensor:
        return self.autoencoder.decode(z)


def metadata_of(scene: Scene, card: ModelCard) -> list[float]:
    """The metadata of a scene in the order of ``FIELDS``, NaN where unknown or not used by the model."""
    finest, coarsest = card.gsd
    known = {} if scene.gsd is None else {"gsd": math.log2(min(max(scene.gsd, finest), coarsest))}
    if "place" in card.uses and scene.longitude is not None and scene.latitude is not None:
        known |= {"longitude": scene.longitude, "latitude": scene.latitude}
    if "date" in card.uses and scene.date is not None:
        date = datetime.date.fromisoformat(scene.date)
        known |= {"year": float(date.year), "month": date.month + (date.day - 1) / 31}
    return [known.get(name, math.nan) for name in FIELDS]


def load_model(card: ModelCard, folder: Path, device: torch.device) -> LatentModel:
    """The model in a folder, its weights checked.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: a file is not the one that the card names.
    """
    interval = read_json(folder / "model_index.json").get("guidance_interval")
    return LatentModel(
        card,
        load_network(UNet2DConditionModel, folder, "unet", card.weights),
        load_network(CaptionTokens, folder, "caption", card.weights),
        load_network(TileableAutoencoder, folder, "vae", card.weights),
        read_json(folder / "scheduler" / "scheduler_config.json"),
        device,
        None if interval is None else (float(interval[0]), float(interval[1])),
    )


def make_tiny(card: ModelCard, device: torch.device) -> LatentModel:
    """The same classes at a tiny size with seeded random weights, for tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = tiny_denoiser()
        caption = CaptionTokens(classes=("Forest", "River", "SeaLake"), width=8)
        autoencoder = TileableAutoencoder(latent_channels=4, width=16, blocks=1)
        blocks = torch.linalg.qr(torch.randn(3 * 8 * 8, 4))[0].T.reshape(4, 3, 8, 8)  # orthonormal, as fitted ones are
        with torch.no_grad():
            for transform in (autoencoder.analysis, autoencoder.synthesis):
                transform.weight.copy_(blocks)
                transform.bias.zero_()
            autoencoder.detail[-1].weight.normal_(std=0.1)  # as made, it adds nothing
    for network in (denoiser, caption, autoencoder):
        network.eval().requires_grad_(False)
    return LatentModel(card, denoiser, caption, autoencoder, SCHEDULE, device)


def tiny_denoiser() -> UNet2DConditionModel:
    """A network of the family's kind, small, with fresh random weights, for tests."""
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=8,
    )
