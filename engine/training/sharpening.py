"""The decoder's objective: texture as rich as the real one, where pixels cannot be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..models.autoencoder import TileableAutoencoder
from .classifier import ChipClassifier, read_judge
from .datasets import ARCHIVES, read_chips
from .dihedral import turn
from .energies import CURVATURES, energy_distance, steepness
from .export import save_component
from .latent import component_mark, read_component
from .mark import archive_mark, is_kept, keep_folder, make_mark
from .metrics import gradient_energy, psnr
from .order import Order, step_generator
from .precision import autocast
from .recipe import Recipe
from .transform import fit_autoencoder

#: Pixels each way over which what the transform leaves in tells how much texture there is.
NEAR = 7
#: Seed of the classifier whose layers compare pictures. It judges nothing: judges have other seeds.
COMPARING = 1


class SharpeningObjective:
    """A decoder learns to draw texture; the transform, and so the latents, stay as they were fitted.

    Squared error alone makes a decoder blur whatever its latents leave open, and houses of a pixel or two vanish. Here
    the smoothed picture must still be right, while the local energy of gradients at two scales and of second
    differences must be that of the real chip, and a small critic of patches must not tell the two apart (hinge loss:
    Lim & Ye 2017; patches: Isola et al. 2017; in autoencoders: Esser et al. 2021). The layers of a small classifier,
    taught by the same train split, must see much the same in both (Johnson et al. 2016; Zhang et al. 2018). Decoder and
    critic learn in one step of one optimizer: the critic's weights are held still where the decoder's loss passes
    through it. Noise on the latents makes neighbouring latents decode alike, so that the small errors of a denoiser
    stay small in the picture. Energies and the grid are looked for in what latents without noise decode to.

    Args:
        recipe: ``network`` is the autoencoder's; options ``data`` (name of a data set), ``whitening`` (see
            ``transform``), ``crop`` (pixels), ``latent_noise`` (deviation), the weights ``texture``,
            ``grid``, ``critic``, ``pixels`` and ``layers``, ``critic_from`` (step) and ``every`` (1 takes all chips, 2
            every second).
        data: folder with the archives.
        fitted: folder that keeps the fitted autoencoder; made anew where the data or its settings are others. The
            classifier lies beside it.
        device: where the networks live.
        start: model whose autoencoder it begins with, transform and decoder, in the layout of an export; without it
            the transform is fitted and the decoder's weights are fresh.
    """

    def __init__(
        self, recipe: Recipe, data: Path, fitted: Path, device: torch.device, start: Path | None = None
    ) -> None:
        self.recipe, self.device = recipe, device
        every, name = recipe.options.get("every", 1), recipe.options["data"]
        train, val = read_chips(name, data, "train").every(every), read_chips(name, data, "val").every(4 * every)
        self.pixels = torch.from_numpy(train.pixels).permute(0, 3, 1, 2).contiguous()
        self.held_out = torch.from_numpy(val.pixels).permute(0, 3, 1, 2).float().div(255)
        decides: dict[str, Any] = {
            "network": recipe.network,
            "whitening": recipe.options["whitening"],
            "seed": recipe.seed,
        }
        begun = {} if start is None else {"start": component_mark(start / "vae")}
        mark = make_mark(data=archive_mark(data / ARCHIVES[name]), every=every, **decides, **begun)
        if not is_kept(fitted, mark):
            made = (
                fit_autoencoder(self.pixels, **decides)
                if start is None
                else read_component(TileableAutoencoder, start / "vae")
            )
            keep_folder(fitted, lambda folder: save_component(made, folder), mark)
        self.autoencoder = read_component(TileableAutoencoder, fitted).to(device)
        seeing = read_judge(name, data, fitted.parent, COMPARING) if recipe.options["layers"] else None
        self.seeing = seeing.to(device).requires_grad_(False) if seeing is not None else None
        detail = self.autoencoder.detail.train().requires_grad_(True)
        self.trained: nn.Module = nn.ModuleDict({"detail": detail, "critic": make_critic().to(device)})
        self.order = Order(len(self.pixels), recipe.batch, recipe.seed)

    def loss(self, step: int) -> Tensor:
        """See the class."""
        generator = step_generator(self.recipe.seed, step)
        options, critic = self.recipe.options, self.trained["critic"]
        pixels = self._crops(self.pixels[torch.from_numpy(self.order.indices(step))], generator)
        real = turn(pixels.to(self.device).float().div(255), int(torch.randint(8, (), generator=generator)))
        with autocast(self.device, self.recipe.bf16):
            with torch.no_grad():
                z = self.autoencoder.encode(real).float()
            # Noise of its own in each latent makes grain and borders, which no denoiser makes. Half does, in less time.
            few = max(1, len(z) // 2)
            plain, exact = (x.float() for x in self._decode(self.trained, z[:few]))
            z = z + (torch.randn(z.shape, generator=generator) * options["latent_noise"]).to(self.device)
            drawn = self._decode(self.trained, z)[1].float()
            loss = options["layers"] * layers_distance(self.seeing, drawn, real) if self.seeing is not None else 0.0
            error = drawn - real
            loss = loss + 100 * smooth(error).square().mean() + options["pixels"] * 100 * error.square().mean()
            loss = loss + options["texture"] * energy_distance(exact, real[:few], steepness(plain, NEAR), CURVATURES)
            loss = loss + options["grid"] * grid_distance(exact, real[:few], self.autoencoder.scale)
            hinge = (1 - critic(_centred(real))).relu().mean() + (1 + critic(_centred(drawn.detach()))).relu().mean()
            loss = loss + hinge.float()
            if step >= options["critic_from"]:
                still = {name: parameter.detach() for name, parameter in critic.named_parameters()}
                liked = functional_call(critic, still, (_centred(drawn),)).mean()
                loss = loss - options["critic"] * liked.float()
        return loss

    def _crops(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """A square of the same size out of each chip, on the blocks of the transform."""
        crop, side = self.recipe.options["crop"], self.autoencoder.scale
        places = (pixels.shape[-1] - crop) // side + 1
        top, left = (int(torch.randint(places, (), generator=generator)) * side for _ in range(2))
        return pixels.narrow(-2, top, crop).narrow(-1, left, crop)

    def _decode(self, networks: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
        """What the transform alone makes of latents; and all, with the decoder that is being trained."""
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            plain = self.autoencoder.synthesis(z * self.autoencoder.spread)
        return plain * 0.5 + 0.5, (plain + networks["detail"](z)) * 0.5 + 0.5

    @torch.no_grad()
    def validate(self, averaged: nn.Module) -> dict[str, float]:
        """PSNR on the validation split, in dB, and the gradient energy over that of the real chips."""
        parts = self.held_out.to(self.device).split(64)
        drawn = [self._decode(averaged, self.autoencoder.encode(part))[1] for part in parts]
        rebuilt = torch.cat([part.clamp(0, 1).cpu() for part in drawn])
        return {
            "psnr": psnr(rebuilt, self.held_out),
            "gradient_energy": gradient_energy(rebuilt) / gradient_energy(self.held_out),
        }

    @torch.no_grad()
    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the autoencoder with its new decoder."""
        finished = TileableAutoencoder.from_config(self.autoencoder.config)
        finished.load_state_dict(self.autoencoder.state_dict())  # copied from wherever it lives
        finished.detail.load_state_dict(averaged["detail"].state_dict())
        save_component(finished, folder / "vae")


def make_critic(bands: int = 3) -> nn.Module:
    """Patches of 22 pixels of so many bands, overlapping, to one number each, high for real ones."""
    return nn.Sequential(
        nn.Conv2d(bands, 32, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 64, 3, 1, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 1),
    )


def smooth(x: Tensor) -> Tensor:
    """A binomial blur of 5 pixels, (B, C, H, W) -> (B, C, H - 4, W - 4)."""
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device).div(16).repeat(x.shape[1], 1, 1, 1)
    along = nn.functional.conv2d(x, line, groups=x.shape[1])
    return nn.functional.conv2d(along, line.mT, groups=x.shape[1])


def grid_distance(ours: Tensor, truth: Tensor, period: int = 8) -> Tensor:
    """How differently gradients are spread over the places in the latents' cells: 0 where no grid shows.

    Args:
        ours: (B, C, H, W), sides multiples of ``period``.
        truth: same shape.
        period: pixels of a cell.
    """
    distance = torch.zeros((), device=ours.device)
    for axis in (-1, -2):
        shares = []
        for x in (ours, truth):
            energy = x.diff(dim=axis, append=x.narrow(axis, -1, 1)).square().mean(dim=(0, 1))
            cells = energy.unflatten(1, (-1, period)).unflatten(0, (-1, period))[:-1, :, :-1]  # the last has no next
            by_place = cells.mean(dim=(0, 2))  # (period, period)
            shares.append(torch.stack([by_place.mean(dim=k) / by_place.mean() for k in (0, 1)]))
        distance = distance + (shares[0] - shares[1]).abs().mean()
    return distance


def layers_distance(seeing: ChipClassifier, ours: Tensor, truth: Tensor) -> Tensor:
    """How differently a classifier sees two batches: the mean over its layers of how far their outputs are apart.

    Outputs of a place are brought to length 1 over their channels first; the means over all places, which classes are
    told from, count like one more layer.

    Args:
        seeing: in evaluation mode.
        ours: (B, 3, H, W) in about 0..1.
        truth: same shape.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", eq. 1.
    """
    with torch.no_grad():
        wanted = seeing.stages(truth)
    found = seeing.stages(ours)
    pairs = [*zip(found, wanted), (found[-1].mean(dim=(2, 3), keepdim=True), wanted[-1].mean(dim=(2, 3), keepdim=True))]
    apart = [(_of_length_1(a) - _of_length_1(b)).square().sum(dim=1).mean() for a, b in pairs]
    return torch.stack(apart).mean()


def _of_length_1(x: Tensor) -> Tensor:
    return nn.functional.normalize(x.float(), dim=1)


def _centred(pixels: Tensor) -> Tensor:
    """Pixels less their mean over the chip, amplified, for the critic: what counts is texture."""
    return (pixels - pixels.mean(dim=(2, 3), keepdim=True)) * 8
