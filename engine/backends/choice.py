"""Which backend runs the networks of a model: measured once on each machine, and only one that draws the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..contract.estimate import DEFAULT_GFLOPS
from ..device import libraries
from ..errors import JobCancelled, is_out_of_memory
from ..settings import Settings
from ..version import engine_version
from .cache import OWN, Cache
from .names import AUTO, HINT, BackendRefused, available, check_backend, check_eager
from .network import Backed
from .ways import Way, make_way

log = logging.getLogger(__name__)

#: How far a picture may be from the one that eager draws: 1 of 255.
PICTURE_TOLERANCE = 1 / 255
#: How far a network's output (a velocity or a noise, of deviation about 1) may be from eager's, anywhere.
#:
#: In the angle of a variance-preserving schedule, a step of DDIM from phi to phi - delta is
#: x' = cos(delta) x - sin(delta) v (Salimans & Ho 2022, appendix D). Errors e of all v with the worst of signs then add
#: up to e times the sum of sin(delta), at most e pi / 2, however many steps there are. Guidance with scale w makes
#: (2 w - 1) e of two errors e, and our decoders' transforms make at most 0.93 of an error that all latents have
#: (docs/decisions/0015-backends.md). With w = 3, an error of 1 of 255 takes e = 1 / 255 / (pi / 2) / 5. What a network
#: makes of errors in its own input is not in this sum; the short run behind ``picture`` is for that.
OUTPUT_TOLERANCE = PICTURE_TOLERANCE / (math.pi / 2) / 5
#: Times faster than eager from where on another backend is taken.
WORTHWHILE = 1.05
#: A job whose networks take fewer seconds than this, at the rate of ``DEFAULT_GFLOPS``, is not worth a measurement,
#: which takes about half of that with the export.
WORTH_SECONDS = 10.0
#: Seconds of calls in turns, and the least and most rounds of them.
_SECONDS, _ROUNDS = 1.0, (2, 9)
#: The next step where numbers or a picture were others: what was found is remembered.
AGAIN = f"{HINT} To have it measured again, delete the folder {OWN} in that of AFTERIMAGE_CACHE."


@dataclass(frozen=True)
class Measured:
    """What was found out about a model on this machine.

    Attributes:
        backend: the fastest that draws the same, "eager" where none is faster; "" where some were checked only.
        speeds: backend -> how many times faster than eager, median of the ratios of neighbouring calls.
        outputs: backend -> greatest difference of the denoiser's output from eager's.
        pictures: backend -> greatest difference of a picture from eager's, in 255ths; of those that were drawn.
        refused: backend -> why it was not taken: numbers or pictures that were others.
        seconds: that it took, exports included.
    """

    backend: str
    speeds: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def choose(model: Any, settings: Settings, gflop: float, tell: Callable[[], None] = lambda: None) -> str:
    """Have the networks of a loaded model run by what is asked for, or by the fastest; its name.

    With "auto" nobody asked for more than eager: whatever goes wrong is logged, and eager it is.

    Args:
        model: just loaded, on its device.
        settings: "auto" measures, once for this machine and these weights; any other backend was taken by ``take``.
        gflop: work of the job: what is not worth a measurement runs eagerly, until a longer job has made one.
        tell: called again and again while measuring; what it raises to stop a job passes.
    """
    if not isinstance(model, Backed):
        return "eager"
    if settings.backend == AUTO and model.networks.backend == "eager":
        try:
            found = remembered(model, settings)
            if found is None:
                if gflop / DEFAULT_GFLOPS < WORTH_SECONDS:
                    return "eager"
                found = measure(model, settings, tell)
            model.networks.take(found.backend, Cache(settings.cache))
            model.prepare()
        except JobCancelled:
            raise
        except Exception as error:  # of a compiler, a cache, a driver or a library: none of them is needed
            log.warning("%s runs eagerly: nothing else could be made ready (%s)", model.card.id, type(error).__name__)
            log.debug("%s", error)
            model.networks.take("eager", Cache(settings.cache))
    return model.networks.backend


def take(model: Any, settings: Settings) -> None:
    """Have the networks of a loaded model run by the backend that is asked for; "auto" waits for ``choose``.

    Raises:
        InvalidRequest: where it is unknown or not here.
        BackendRefused: where it cannot run this model, or draws other pictures than eager.
        MemoryError, RuntimeError: where there is not enough memory to see that.
    """
    name = settings.backend
    check_backend(name, model.device.type)
    if not isinstance(model, Backed):
        check_eager(name, model.card.name)
    if name in (AUTO, "eager") or not isinstance(model, Backed):
        return
    found = _known(model, settings)
    if name not in found.pictures and name not in found.refused:
        trial = _Trial(model, settings, (name,))
        checked = trial.check()
        if name in trial.failed:
            error = trial.failed[name]
            if is_out_of_memory(error):
                raise error
            raise BackendRefused(
                f"The backend {name} cannot be used for this model: it does not run here ({type(error).__name__})."
            ) from error
        found = dataclasses.replace(
            found,
            outputs={**found.outputs, **checked.outputs},
            pictures={**found.pictures, **checked.pictures},
            refused={**found.refused, **checked.refused},
        )
        _remember(model, settings, found)
    if name in found.refused:
        raise BackendRefused(f"The backend {name} cannot be used for this model: {found.refused[name]}.", AGAIN)
    model.networks.take(name, Cache(settings.cache))
    model.prepare()


def remembered(model: Backed, settings: Settings) -> Measured | None:
    """What was measured before, on this machine, with these weights, versions and threads; None for nothing yet."""
    found = _known(model, settings)
    return found if found.backend else None


def measure(model: Backed, settings: Settings, tell: Callable[[], None] = lambda: None) -> Measured:
    """Measure all backends that there are, take none, and remember what was found.

    A disk or a memory that was full may have room next time: then nothing is remembered.
    """
    trial = _Trial(model, settings, available(model.device.type), tell)
    found = trial.run()
    if not any(isinstance(error, OSError) or is_out_of_memory(error) for error in trial.failed.values()):
        _remember(model, settings, found)
    log.info("%s runs by %s: %s", model.card.id, found.backend, found.speeds)
    return found


def _known(model: Backed, settings: Settings) -> Measured:
    content = Cache(settings.cache).read(_name(model))
    if content is None:
        return Measured("")
    try:
        return _measured(json.loads(content)["measured"], ("", *available(model.device.type)))
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("what was measured of %s cannot be read, and is measured again", model.card.id)
        return Measured("")


def _measured(record: Mapping[str, Any], backends: tuple[str, ...]) -> Measured:
    """A record of a file, every part seen to be of its type; raises where one is not."""
    if record["backend"] not in backends:
        raise ValueError(f"no backend {record['backend']!r}")
    numbers = {
        name: {str(key): float(value) for key, value in record[name].items()}
        for name in ("speeds", "outputs", "pictures")
    }
    refused = {str(key): str(value) for key, value in record["refused"].items()}
    return Measured(record["backend"], **numbers, refused=refused, seconds=float(record["seconds"]))


def _remember(model: Backed, settings: Settings, found: Measured) -> None:
    record = {"model": model.card.id, "machine": _machine(model), "measured": dataclasses.asdict(found)}
    Cache(settings.cache).write(_name(model), json.dumps(record, indent=1).encode())


class _Trial:
    """Backends beside eager, on one model, with windows of each size that its card has.

    Args:
        model: loaded.
        settings: where exports are kept.
        names: of the backends.
        tell: called between calls of networks.

    Attributes:
        failed: backend -> the error for which it does not run here, now.
    """

    def __init__(
        self, model: Backed, settings: Settings, names: tuple[str, ...], tell: Callable[[], None] = lambda: None
    ) -> None:
        self._model, self._cache, self._tell = model, Cache(settings.cache), tell
        self._names = [name for name in names if name != "eager"]
        self._inputs = {side: model.example(side) for side in _sides(model)}
        self._ways: dict[str, Way] = {"eager": model.networks.denoiser.module}
        self._outputs: dict[str, float] = {}
        self._pictures: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self.failed: dict[str, Exception] = {}
        self._eager: dict[int, Tensor] = {}

    @torch.inference_mode()
    def run(self) -> Measured:
        """Time them, and check the fastest; the next one where that draws another picture."""
        began = time.perf_counter()
        self._prepare()
        speeds = self._speeds()
        chosen = "eager"
        for name in sorted(self._ways, key=lambda name: -speeds[name]):
            if speeds[name] < WORTHWHILE or name == "eager":
                break
            if self._draws_the_same(name):
                chosen = name
                break
        seconds = round(time.perf_counter() - began, 2)
        return Measured(chosen, speeds, self._outputs, self._pictures, self._refused, seconds)

    @torch.inference_mode()
    def check(self) -> Measured:
        """See whether they draw the same, however fast."""
        self._prepare()
        for name in [name for name in self._ways if name != "eager"]:
            self._draws_the_same(name)
        return Measured("", {}, self._outputs, self._pictures, self._refused)

    def _prepare(self) -> None:
        """Run each once, and leave out what does not run or gives other numbers."""
        network = self._model.networks.denoiser
        expected = {side: self._ways["eager"](*inputs) for side, inputs in self._inputs.items()}
        for name in self._names:
            differences = []
            try:
                way = make_way(name, network.module, network.varies, self._cache)
                for side, inputs in self._inputs.items():
                    self._tell()
                    differences.append((way(*inputs) - expected[side]).abs().max())
            except JobCancelled:
                raise
            except Exception as error:  # a broken installation, an operator it lacks, a full disk
                self._fail(name, error)
                continue
            self._outputs[name] = difference = float(torch.stack(differences).max())  # not a number stays that
            if difference <= OUTPUT_TOLERANCE:  # not a number is no more than that
                self._ways[name] = way
            else:
                self._refuse(name, f"its numbers differ by {difference:.2g}, more than {OUTPUT_TOLERANCE:.2g}")

    def _speeds(self) -> dict[str, float]:
        """How many times faster than eager each is, called in turns; the first calls were ``_prepare``'s.

        Phases of windows of different sizes draw the same ground, so that the seconds for a pixel add up.
        """
        times: dict[str, list[float]] = {name: [] for name in self._ways}
        is_cpu = self._model.device.type == "cpu"
        # one thread: its own seconds, which other programs disturb less
        clock = time.process_time if is_cpu and torch.get_num_threads() == 1 else time.perf_counter
        least, most = _ROUNDS
        until = clock() + _SECONDS * len(self._inputs)
        for count in range(most):
            if count >= least and clock() > until:
                break
            for name, way in self._ways.items():
                total = 0.0
                for side, inputs in self._inputs.items():
                    self._tell()
                    began = clock()
                    way(*inputs)
                    if not is_cpu:
                        getattr(torch, self._model.device.type).synchronize()
                    total += (clock() - began) / side**2
                times[name].append(total)
        eager = times["eager"]
        return {
            name: round(statistics.median(base / own for base, own in zip(eager, each)), 3)
            for name, each in times.items()
        }

    def _draws_the_same(self, name: str) -> bool:
        """Whether short runs through all networks draw eager's pictures within 1 of 255."""
        networks = self._model.networks
        for side in self._inputs:
            if side not in self._eager:
                self._tell()
                self._eager[side] = self._model.picture(side)
        differences = []
        try:
            networks.take(name, self._cache)
            for side in self._inputs:
                self._tell()
                differences.append((self._model.picture(side) - self._eager[side]).abs().max())
        except JobCancelled:
            raise
        except Exception as error:  # of a network beside the denoiser
            self._fail(name, error)
            return False
        finally:
            networks.take("eager", self._cache)
        difference = float(torch.stack(differences).max())
        self._pictures[name] = round(255 * difference, 4)
        if difference <= PICTURE_TOLERANCE:
            return True
        self._refuse(name, f"its pictures differ by {255 * difference:.2g} of 255")
        return False

    def _fail(self, name: str, error: Exception) -> None:
        """It does not run here, now: another time it may."""
        self.failed[name] = error
        log.warning("%s is not run by %s: it does not run here (%s)", self._model.card.id, name, type(error).__name__)
        log.debug("%s", error)

    def _refuse(self, name: str, why: str) -> None:
        self._refused[name] = why
        log.warning("%s is not run by %s: %s", self._model.card.id, name, why)


def _sides(model: Backed) -> list[int]:
    """The sides of the windows that a model is asked to draw, in output pixels."""
    return sorted({side for side, _ in model.card.windows})


def _name(model: Backed) -> str:
    return hashlib.sha256(json.dumps(_machine(model), sort_keys=True).encode()).hexdigest() + ".json"


def _machine(model: Backed) -> dict[str, Any]:
    """All that decides which backend is the fastest and how it rounds."""
    is_gpu = model.device.type == "cuda"
    return {
        "processor": torch.cuda.get_device_name(model.device) if is_gpu else _processor(),
        "cores": os.cpu_count(),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "backends": available(model.device.type),
        "versions": {**libraries(), "engine": engine_version()},
        "networks": model.networks.digest(),
        "shapes": [list(each.shape) for side in _sides(model) for each in model.example(side)],
    }


def _processor() -> str:
    """The name of this machine's processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
