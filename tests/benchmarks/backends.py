"""What each backend makes of the networks that ship: times faster than eager, and how far from its numbers.

    taskset -c 0 python tests/benchmarks/backends.py --rounds 7

With ``AFTERIMAGE_THREADS=2`` and two cores: with two threads, in seconds of the wall.

One line of JSON for each network and batch. ``speed`` is the median of the ratios of neighbouring calls, eager over
the backend's, in processor seconds, or on the wall with several threads; ``range`` its least and greatest;
``differs`` the greatest difference from eager's output. ``bfloat16`` (autocast over channels_last) is no backend: it
is here to show why. ``rate`` is GFLOP/s, from the card's count of a window; ``ceiling`` that of the best of several
matrix products in the same turns, which no float32 backend without fewer multiplications can pass. The line of a
model says what ``auto`` chooses and what choosing takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import protocol
import torch
from afterimage.engine.backends import choice
from afterimage.engine.backends.cache import Cache
from afterimage.engine.backends.names import available
from afterimage.engine.backends.ways import ChannelsLast, make_way
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
from afterimage.engine.tasks.decoding import BLOCK

MODELS = ("eurosat-generate", "ucmerced-generate", "superresolve")
#: Sides of the matrices whose product tells the ceiling.
SIDES = (512, 1024)


class Autocast:
    """channels_last in bfloat16, where torch thinks that it does no harm."""

    def __init__(self, module):
        self._module = ChannelsLast(module)

    def __call__(self, *inputs):
        with torch.autocast("cpu", torch.bfloat16):
            return self._module(*inputs).float()


def in_turns(works, rounds):
    """name -> seconds of each round; each is run once before, which is not counted."""
    clock = 1 if torch.get_num_threads() == 1 else 0
    for work in works.values():
        work()
    seconds = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(protocol.timed(work)[clock])
    return seconds


def products():
    """The matrix products, and their GFLOP."""
    factors = [torch.randn(side, side) for side in SIDES]
    return {side: (lambda factor=factor: torch.mm(factor, factor)) for side, factor in zip(SIDES, factors)}


def figures(network, inputs, gflop, rounds, cache):
    """One network with one set of inputs."""
    ways = {name: make_way(name, network.module, network.varies, cache) for name in available("cpu")}
    ways["bfloat16"] = Autocast(network.module)
    with torch.inference_mode():
        expected = ways["eager"](*inputs)
        differs = {name: float((way(*inputs) - expected).abs().max()) for name, way in ways.items()}
        works = {name: (lambda way=way: way(*inputs)) for name, way in ways.items()}
        seconds = in_turns(works | products(), rounds)
    found = {}
    for name in ways:
        ratios = sorted(base / own for base, own in zip(seconds["eager"], seconds[name]))
        spent = statistics.median(seconds[name])
        found[name] = {
            "ms": round(1e3 * spent, 1),
            "speed": round(statistics.median(ratios), 3),
            "range": [round(ratios[0], 3), round(ratios[-1], 3)],
            "differs": float(f"{differs[name]:.2g}"),
        } | ({"rate": round(gflop / spent, 1)} if gflop else {})
    ceiling = max(2 * side**3 / 1e9 / statistics.median(seconds[side]) for side in SIDES)
    return {"backends": found, "ceiling": round(ceiling, 1)}


def batch_of(inputs, size):
    """Inputs with another number of windows; what has no windows stays."""
    return tuple(each if each.ndim == 0 else each[:1].expand(size, *each.shape[1:]).contiguous() for each in inputs)


def main():
    """Print one line of JSON for each network and batch, and one for each model."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", nargs="*", default=MODELS)
    arguments.add_argument("--rounds", type=int, default=7)
    chosen = arguments.parse_args()
    threads = protocol.SETTINGS.threads
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(device="cpu", threads=threads, cache=Path(scratch))
        cache = Cache(settings.cache)
        for name in chosen.models:
            model = catalog.load(name, settings)
            began, worked = time.perf_counter(), protocol.cpu_seconds()
            found = choice.measure(model, settings)
            took = {"wall_s": round(time.perf_counter() - began, 2), "cpu_s": round(protocol.cpu_seconds() - worked, 2)}
            protocol.report(model=name, chosen=found.backend, speeds=found.speeds, pictures=found.pictures, **took)
            for size in sorted({model.batch, 4}):
                inputs, gflop = batch_of(model.example(), size), size * model.card.gflop_per_window_step
                made = figures(model.networks.denoiser, inputs, gflop, chosen.rounds, cache)
                protocol.report(model=name, network="denoiser", batch=size, **made)
            if "decoder" in model.networks.parts:
                side = BLOCK // model.scale + 2 * model.decode_halo
                z = torch.randn(1, model.channels, side, side, generator=torch.Generator().manual_seed(0))
                made = figures(model.networks.parts["decoder"], (z,), 0, chosen.rounds, cache)
                protocol.report(model=name, network="decoder", batch=1, side=side, **made)


if __name__ == "__main__":
    main()
