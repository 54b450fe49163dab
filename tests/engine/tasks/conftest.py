"""Small models with known behaviour, and jobs without a process around them."""

import threading

import diffusers
import numpy as np
import pytest
import torch
from afterimage.engine.context import JobContext
from afterimage.engine.contract import Job, ModelCard, Window, dumps
from afterimage.engine.diffusion.guidance import classifier_free
from afterimage.engine.diffusion.rows import Branch
from afterimage.engine.errors import UnknownScheduler
from afterimage.engine.journal import JobFolder
from torch import nn


class _Stub:
    device, dtype, batch = torch.device("cpu"), torch.float32, 3

    def scheduler(self, name):
        if name not in self.card.schedulers:
            raise UnknownScheduler(f"no {name}")
        return {
            "DDIM": diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing"),
            "DDPM": diffusers.DDPMScheduler(clip_sample=False, timestep_spacing="trailing"),
            "DPM++ 2M": diffusers.DPMSolverMultistepScheduler(),
        }[name]


def _card(**changes):
    values = dict(
        id="stub",
        name="Stub",
        summary="",
        family="stub",
        version="1",
        tasks=("Generate", "SuperResolve", "Edit"),
        bands=("red", "green", "blue"),
        gsd=(8.0, 12.0),
        window=128,
        stride=64,
        schedulers=("DDIM", "DDPM", "DPM++ 2M"),
        steps=4,
        factors=(2, 4),
        uses=("prompt", "date", "strength"),
    )
    return ModelCard(**{**values, **changes})


class StubGenerate(_Stub):
    """Sixteen-latent windows with a network that looks at its neighbours and at the borders of its window."""

    card = _card()
    scale, channels, window, stride, decode_halo = 8, 4, 16, 8, 1

    def __init__(self):
        torch.manual_seed(0)
        self.net = nn.Conv2d(4, 4, 5, padding=2)
        self.picture = nn.Conv2d(4, 3, 3, padding=1)
        self.calls = 0

    def told(self, scene):
        return 0.1 * len(scene.prompt), -0.1 * len(scene.negative_prompt)

    def remarks(self, scene):
        return ()

    def predictor(self, told, guidance_scale, given):
        return classifier_free(
            lambda x, t: self.predict(x, t, told[0]), lambda x, t: self.predict(x, t, told[1]), guidance_scale
        )

    def branches(self, told, guidance_scale, given):
        both = [(1 - guidance_scale, told[1]), (guidance_scale, told[0])]
        return [Branch(weight, {"level": torch.full((1, 1, 1, 1), level)}) for weight, level in both if weight]

    def guides(self, t):
        return True

    def rows(self, branches):
        return self.batch

    def answer(self, x, t, told):
        return self.predict(x, t, told["level"])

    def predict(self, x, t, condition):
        sides = {window // self.scale for window, _ in self.card.windows}
        assert x.shape[:2] == (self.batch, self.channels) and x.shape[2] == x.shape[3] and x.shape[2] in sides
        self.calls += 1
        return 0.9 * x + 0.3 * self.net(x) + condition

    def decode(self, z):
        return torch.sigmoid(self.picture(z)).repeat_interleave(8, -1).repeat_interleave(8, -2)


class StubEdit(StubGenerate):
    """The same, with a code of pixels: the mean colour of a block, held as a whole."""

    holds = True

    def colors(self):
        return torch.full((3,), 0.5), 0.07 * torch.eye(3)

    def encode(self, pixels):
        means = nn.functional.avg_pool2d(pixels, 8)
        return torch.cat([means, means[:, :1] - means[:, 1:2]], dim=1) * 4 - 2

    def holder(self, pixels, known):
        whole = nn.functional.avg_pool2d(known.float(), 8) == 1
        return lambda z: torch.where(whole, self.encode(pixels), z)

    def decode(self, z):
        colors = (z[:, :3] + 2) / 4 + 0.02 * self.picture(z)
        return colors.clamp(0, 1).repeat_interleave(8, -1).repeat_interleave(8, -2)


class StubSuperResolve(_Stub):
    """Windows of 64 pixels whose residual is noise-like, strong, and does not agree with anything."""

    card = _card(window=64, stride=48)
    bands, window, stride, multiple = 3, 64, 48, 4
    log_variance = -1.0

    def __init__(self):
        torch.manual_seed(0)
        self.net = nn.Conv2d(6, 3, 5, padding=2)
        self.calls = 0

    def enlarge(self, lr, factor):
        return nn.functional.interpolate(lr, scale_factor=float(factor), mode="bicubic", align_corners=False)

    def scale(self, enlarged, factor):
        return 0.1 + 0.2 * enlarged

    def predict(self, x, t, enlarged, factor):
        assert x.shape == enlarged.shape == (self.batch, 3, self.window, self.window)
        assert enlarged.min() >= 0 and enlarged.max() <= 1
        self.calls += 1
        velocity = 0.9 * x + 0.3 * self.net(torch.cat([x, enlarged], dim=1))
        if not self.card.gives_mean:
            return velocity
        return torch.cat([velocity, torch.full_like(velocity, self.log_variance)], dim=1)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def generate_model():
    return StubGenerate()


@pytest.fixture
def edit_model():
    return StubEdit()


@pytest.fixture
def super_resolve_model():
    return StubSuperResolve()


@pytest.fixture
def card():
    return _card


class Bench:
    """Plans a request and draws its chunks, as the runner does."""

    def __init__(self, folder):
        self.path = folder
        self.events, self.cancelled = [], threading.Event()
        self.ctx = JobContext("job", self.events.append, self.cancelled, folder / "previews")

    def folder(self, request):
        (self.path / "request.json").write_text(dumps(Job("job", request)), encoding="utf-8")
        return JobFolder(self.path)

    def plan(self, task, request, model):
        return task.plan(request, self.folder(request), model, self.ctx)

    def draw(self, work, sample=1, order=lambda chunks: chunks):
        """(pixels, valid) of the whole raster."""
        pixels = np.zeros((len(work.profile.bands), *work.drawn.shape), work.profile.dtype)
        valid = np.zeros(work.drawn.shape, bool)
        count = np.zeros(work.drawn.shape, int)
        for chunk in order(list(work.chunks)):
            raster = work.draw(chunk, sample, self.ctx)
            assert raster.pixels.dtype == work.profile.dtype
            assert raster.grid == work.drawn.crop(chunk)
            rows, cols = chunk.slices()
            pixels[:, rows, cols], valid[rows, cols] = raster.pixels, raster.valid
            count[rows, cols] += 1
        assert (count == 1).all()
        return pixels, valid

    def make(self, task, request, model, **how):
        return self.draw(self.plan(task, request, model), **how)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def part():
    """The pixels of a window."""
    return lambda array, window: array[(..., *Window(*window).slices())]


@pytest.fixture
def asked(model, monkeypatch):
    """What the network of a test's ``model`` is asked for each batch of windows: keywords of its ``predictor``."""
    seen = []
    make = model.network.predictor

    def watched(batch, **told):
        seen.append(told)
        return make(batch, **told)

    monkeypatch.setattr(model.network, "predictor", watched)
    return seen
