"""What the published families share: text to states, one loop over a stock scheduler, latents to a picture."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from torch import Tensor, nn

from ..diffusion import stochastic
from ..diffusion.guidance import Predict
from ..diffusion.loop import sample
from ..diffusion.rows import Branch, weighed
from ..errors import InvalidRequest, UnknownScheduler, WeightsDamaged, WeightsMissing
from .base import Given, Scene
from .layout import Layout
from .memory import DECODED, MAPS, TILE, Rung, Size
from .metadata import NumberEmbedding
from .placement import Placement
from .statedict import described
from .text import TextEncoder, load_text
from .vae import PictureCodec, load_codec
from .weights import read_json

#: What diffusers' pipelines set right in configurations of old, where a scheduler has it: latents have no bounds to be
#: clipped to, and the first timestep that was trained is 1.
MENDED = {"clip_sample": False, "steps_offset": 1}


@dataclass(frozen=True)
class Sampled:
    """A finished run.

    Attributes:
        latents: (B, C, h, w) float32.
        trace: latents after each call of the scheduler (calls, B, C, h, w).
        timesteps: of those calls.
    """

    latents: Tensor
    trace: Tensor
    timesteps: Tensor


@dataclass(frozen=True)
class Parts:
    """What every pipeline has beside its U-Net.

    Attributes:
        text: prompts to states.
        codec: pictures to latents and back.
        schedule: ``scheduler_config.json``.
    """

    text: TextEncoder
    codec: PictureCodec
    schedule: Mapping[str, Any]


class LatentDiffusion(ABC):
    """A text-conditioned latent diffusion model; families say what else their network is told.

    Args:
        parts: text side, autoencoder, schedule.
        networks: everything that ``to`` moves, beside the parts.
    """

    #: Name for people.
    title: ClassVar[str]
    #: What is set right in the scheduler's configuration, as the family's own pipeline does.
    mended: ClassVar[Mapping[str, Any]] = MENDED
    #: Inputs that change the picture, by the names of ``predictor``'s keywords.
    conditioning: tuple[str, ...] = ("prompt", "negative_prompt")

    def __init__(self, parts: Parts, *networks: nn.Module) -> None:
        self.text, self.codec, self.schedule = parts.text, parts.codec, dict(parts.schedule)
        self.networks: tuple[nn.Module, ...] = (*networks, parts.text.network, parts.codec.network)
        self.device = torch.device("cpu")
        self._placement: Placement | None = None
        #: Whether the branches of guidance are asked one after the other.
        self.is_sliced = False

    def to(self, device: torch.device | str) -> LatentDiffusion:
        """The same model on another device, wholly and in float32."""
        for network in self.networks:
            network.to(device)
        self.device = torch.device(device)
        return self

    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """The networks by what they are for, as ``memory.PARTS`` names it; "numbers" stay in float32."""
        text, codec = self.text.network, self.codec.network
        first, *others = (network for network in self.networks if network is not text and network is not codec)
        numbers = tuple(network for network in others if isinstance(network, NumberEmbedding))
        control = tuple(network for network in others if not isinstance(network, NumberEmbedding))
        return {"text": (text,), "unet": (first,), "control": control, "codec": (codec,), "numbers": numbers}

    def place(self, rung: Rung, device: torch.device, half: torch.dtype, window: int) -> None:
        """Run on a rung of ``memory`` from here on.

        Weights that were in half precision once have lost their digits: for float32, the model is opened anew.

        Args:
            rung: how.
            device: where the networks run, unless the rung says the host.
            half: the type of two bytes a weight.
            window: side in latents of what is decoded at once.

        Raises:
            torch.OutOfMemoryError: the weights do not fit; another rung may be tried.
        """
        if self._placement is not None:
            self._placement.release()
        self.text.forget()
        self.device = torch.device("cpu") if rung.on_host else device
        self.is_sliced = rung.sliced
        self._placement = Placement(self.parts(), rung, self.device, half)
        self.codec.use_tiles(round(TILE * window) if rung.tiled else None)
        self.codec.around = self._placement.decoding
        self._placement.settle()

    def size(self, window: int, branches: int, frames: int = 1) -> Size:
        """What the model takes.

        Args:
            window: side in latents.
            branches: of guidance.
            frames: dated pictures that it is shown.
        """
        weights = {
            name: 4 * sum(p.numel() for network in networks for p in network.parameters())
            for name, networks in self.parts().items()
        }
        unet: Any = self.parts()["unet"][0]
        widths = self.codec.network.config.block_out_channels
        pixels = (window * self.codec.scale) ** 2
        return Size(
            **weights,
            denoising=4 * MAPS * frames * int(unet.config.block_out_channels[0]) * window**2,
            decoding=4 * DECODED * int(widths[min(1, len(widths) - 1)]) * pixels,
            branches=branches,
        )

    def scheduler(self) -> Any:
        """A fresh scheduler as the folder describes it.

        Raises:
            UnknownScheduler: of a class that is not known here.
        """
        return make_sampler(str(self.schedule.get("_class_name")), self.schedule, self.mended)

    @abstractmethod
    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the network: its raw output, float32. Families say what else it takes."""

    @abstractmethod
    def branches(self, batch: int, **asked: Any) -> list[Branch]:
        """What guidance asks the network; ``asked`` are the keywords of ``predictor``. Families say which."""

    def asked(self, scene: Scene) -> dict[str, Any]:
        """The keywords of ``branches`` that say what a picture shows, of real-world units.

        Raises:
            InvalidRequest: for what this model cannot be told.
        """
        prompt, negative_prompt = self.texts_of(scene)
        return {"prompt": prompt, "negative_prompt": negative_prompt}

    def texts_of(self, scene: Scene) -> tuple[str, str]:
        """(prompt, negative prompt) of a scene as they reach the tokenizer."""
        return scene.prompt, scene.negative_prompt

    def remarks(self, scene: Scene) -> tuple[str, ...]:
        """What the person should know of a scene and this family: sentences, none in most cases."""
        return ()

    def shown(self, given: Given, size: tuple[int, int]) -> dict[str, Any]:
        """The keywords of ``branches`` for the pixels that windows are drawn from.

        Args:
            given: for a batch of windows.
            size: of a window in pixels, (height, width).
        """
        return {}

    def predictor(self, batch: int, **asked: Any) -> Predict:
        """The guided prediction for a batch of samples.

        Args:
            batch: samples in each call.
            asked: keywords of the family's ``branches``.

        Raises:
            InvalidRequest: what is asked does not fit together.
        """
        branches = self.branches(batch, **asked)
        told = {
            name: torch.cat([_expanded(branch.told[name], batch, name) for branch in branches]).to(self.device)
            for name in branches[0].told
        }
        weights = [branch.weight for branch in branches]

        def ask(x: Tensor, t: Tensor) -> Sequence[Tensor]:
            if not self.is_sliced:
                return self.forward(x.repeat(len(weights), 1, 1, 1), t, **told).chunk(len(weights))
            each = [{name: value.chunk(len(weights))[k] for name, value in told.items()} for k in range(len(weights))]
            return [self.forward(x, t, **one) for one in each]

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return weighed(list(zip(weights, ask(x, t))))

        return predict

    @torch.inference_mode()
    def sample(
        self, noise: Tensor | Callable[[int], Tensor], steps: int, scheduler: Any = None, **asked: Any
    ) -> Sampled:
        """A batch of samples.

        Args:
            noise: standard normal (B, C, h, w), before the scheduler's first level scales it; or, for schedulers that
                draw noise in each step, a function of the stream as in ``diffusion.loop.sample``.
            steps: as the scheduler counts them.
            scheduler: a diffusers scheduler; None takes the family's own.
            asked: keywords of the family's ``branches``.

        Raises:
            InvalidRequest: what is asked does not fit together.
            UnknownScheduler: the scheduler is not known here.
        """
        draw = noise if callable(noise) else _only_start(noise)
        start = draw(0)
        scheduler = self.scheduler() if scheduler is None else scheduler
        predict = self.predictor(len(start), **asked)
        seen: list[Tensor] = []
        scale = scheduler.scale_model_input

        def scale_and_keep(x: Tensor, t: Tensor) -> Tensor:
            seen.append(x)  # the loop scales once before each call, so these are the latents between the calls
            return scale(x, t)

        scheduler.scale_model_input = scale_and_keep
        try:
            latents = sample(predict, scheduler, steps, lambda stream: draw(stream).to(self.device))
        finally:
            del scheduler.scale_model_input
        return Sampled(latents, torch.stack([*seen[1:], latents]), torch.as_tensor(scheduler.timesteps))

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) float32 in 0..1 of latents (B, C, h, w)."""
        return self.codec.decode(latents.to(self.device))

    def describe(self) -> dict[str, Any]:
        """What was found, for people and for ``models check``."""
        return {
            "title": self.title,
            "conditioning": list(self.conditioning),
            "prediction": str(self.schedule.get("prediction_type", "epsilon")),
            "scheduler": type(self.scheduler()).__name__,
            "latents": {"channels": self.codec.channels, "scale": self.codec.scale},
            "text": {"tokens": self.text.length, "width": self.text.width},
            "parameters": sum(p.numel() for network in self.networks for p in network.parameters()),
        }

    def refuse(self, asked: Mapping[str, Any]) -> None:
        """See that nothing more is asked. Raises InvalidRequest with what this model is not told."""
        if asked:
            raise InvalidRequest(
                f"{self.title} is not told {', '.join(sorted(asked))}.", f"It is told {', '.join(self.conditioning)}."
            )

    def texts(self, prompt: str | Sequence[str]) -> Tensor:
        """States of one prompt (1, length, width) or of one for each sample."""
        return self.text([prompt] if isinstance(prompt, str) else list(prompt))


def load_parts(layout: Layout, load_text: Callable[[Path], TextEncoder] = load_text) -> Parts:
    """The text side, the autoencoder and the schedule of a pipeline folder.

    Args:
        layout: of the model.
        load_text: the text side of such a folder.

    Raises:
        WeightsMissing: one of them is not there.
        WeightsDamaged: one of them is not what its configuration says.
    """
    if layout.pipeline is None:
        raise WeightsMissing(
            "There is a network here, and no pipeline around it: vae/, text_encoder/, tokenizer/ and scheduler/.",
            "Put the folder where it was in its archive, or name the pipeline's folder.",
        )
    schedule = read_json(layout.pipeline / "scheduler" / "scheduler_config.json")
    return Parts(load_text(layout.pipeline), load_codec(layout.pipeline), schedule)


def two_branches(null: Mapping[str, Tensor], cond: Mapping[str, Tensor], guidance_scale: float) -> list[Branch]:
    """Classifier-free guidance; up to a scale of 1 there is no null branch, as in the official pipelines.

    Source: Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", eq. 6 with w = guidance_scale - 1.
    """
    if guidance_scale <= 1:
        return [Branch(1.0, cond)]
    return [Branch(1 - guidance_scale, null), Branch(guidance_scale, cond)]


def make_sampler(name: str, config: Mapping[str, Any], mended: Mapping[str, Any] = MENDED) -> Any:
    """A scheduler of diffusers, of any class whose steps take no noise but ours.

    Args:
        name: of the class.
        config: of the scheduler.
        mended: what to set right in it, where the class has such an option.

    Raises:
        UnknownScheduler: of a class that is not known here.
        WeightsDamaged: its configuration makes none.
    """
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if kind is None:
        raise UnknownScheduler(f"There is no scheduler {name[:60]!r} here.", "Choose another scheduler.")
    known = inspect.signature(kind.__init__).parameters
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    with described("scheduler", name):
        scheduler = kind.from_config({**given, **{key: value for key, value in mended.items() if key in known}})
    try:
        stochastic.draws_noise(scheduler)
    except ValueError as error:
        raise UnknownScheduler(
            f"It is not known here where the scheduler {name} takes its noise from.", "Choose another one."
        ) from error
    predicted = scheduler.config.get("prediction_type", "epsilon")
    if predicted not in stochastic.PREDICTIONS:
        raise WeightsDamaged(
            f"The scheduler's configuration says that the network predicts {str(predicted)[:60]!r}.",
            f"Only {', '.join(stochastic.PREDICTIONS)} are known here: see whether the folder is the right one.",
        )
    return scheduler


def _only_start(noise: Tensor) -> Callable[[int], Tensor]:
    def draw(stream: int) -> Tensor:
        if stream:
            raise InvalidRequest("This scheduler draws noise in each step: give noise as a function of the stream.")
        return noise

    return draw


def _expanded(value: Tensor, batch: int, name: str) -> Tensor:
    if len(value) not in (1, batch):
        raise InvalidRequest(f"There are {len(value)} values of {name} for {batch} samples.", "Give one, or one each.")
    return value if len(value) == batch else value.expand(batch, *value.shape[1:])
