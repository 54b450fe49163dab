"""What it costs to bring finished chunks to a Cloud-Optimised GeoTIFF: processor time, memory, disk, and resuming.

    python tests/benchmarks/streaming.py --rounds 7
    python tests/benchmarks/streaming.py --rounds 0 --sides 2048 16384 31623     memory and disk alone

``cpu``: packing and committing chunks, and making the result of them, over GDAL writing the same pixels into a plain
tiled GeoTIFF (DEFLATE 6, predictor, blocks of 256, no smaller versions). Both run in turns; medians of the ratios of
processor time (user and system). ``aligned`` is an extent whose chunks are blocks of the file, ``offset`` one whose
chunks begin elsewhere, so that blocks are composed. ``finish`` leaves committing out: from finished chunks to a
verified file.

``memory``: highest resident memory of a whole job of a model that costs nothing, in a process of its own, for each side
of the extent, and the largest over the smallest. ``disk_beyond``: highest use of the scratch folder during it, over the
size of the result; ``disk_over_result``: of all that lies in the job's folder, the result included.

``resume_s``: seconds until it is known which of 15,000 chunks are finished.

Source of the protocol: interleaved, medians of pairwise ratios, one thread, load printed (engine anchors, section 4).
"""

import argparse
import dataclasses
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
import null_engine  # noqa: E402

null_engine.register()

import numpy as np  # noqa: E402
import rasterio  # noqa: E402
from afterimage.engine import runner  # noqa: E402
from afterimage.engine.contract import Generate, GeoBox, Job, Sampling, Succeeded, Window, dumps  # noqa: E402
from afterimage.engine.raster import Parts, Profile, Raster, prepare  # noqa: E402
from afterimage.engine.settings import Settings  # noqa: E402
from afterimage.engine.tasks.base import Work  # noqa: E402
from afterimage.engine.tasks.chunks import chunks  # noqa: E402
from afterimage.engine.tiles import Tiles  # noqa: E402

BANDS = ("red", "green", "blue")
PROFILE = Profile("uint8", BANDS, colors=BANDS)
#: Absolute (row, col) of the first pixel.
ORIGINS = {"aligned": (0, 0), "offset": (100, 37)}
PERIOD, POLL_SECONDS = 512, 0.1


@functools.lru_cache(maxsize=1)
def texture():
    """A picture of fields of many sizes and some noise, (3, side, side); larger ones repeat it."""
    rng = np.random.default_rng(0)
    fields = np.zeros((PERIOD, PERIOD))
    for side in (4, 8, 16, 32, 64, 128, 256):
        fields += rng.standard_normal((PERIOD // side,) * 2).repeat(side, 0).repeat(side, 1) * side**0.5
    bands = [fields / fields.std() * 40 + 128 + rng.normal(0, 3, fields.shape) for _ in BANDS]
    once = np.stack(bands).clip(1, 255).astype(np.uint8)
    return np.pad(once, ((0, 0), (0, 256), (0, 256)), "wrap")


def drawn(grid, chunk):
    """The pixels of a chunk."""
    row, col = chunk.row % PERIOD, chunk.col % PERIOD
    pixels = texture()[:, row : row + chunk.height, col : col + chunk.width]
    return Raster(pixels, np.ones((chunk.height, chunk.width), bool), grid.crop(chunk))


def lattice(side, origin):
    """A grid with its first pixel at an absolute place."""
    return GeoBox("EPSG:32633", (10.0, 0.0, origin[1] * 10.0, 0.0, -10.0, -origin[0] * 10.0), (side, side))


def worked():
    """Seconds of the processor so far, user and system, all threads."""
    return time.process_time()


def plain(grid, folder):
    """The floor: (seconds of the processor, bytes)."""
    path, began = folder / "plain.tif", worked()
    shape = {"count": 3, "height": grid.height, "width": grid.width, "dtype": "uint8", "photometric": "rgb"}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel"}
    codec = {"compress": "deflate", "zlevel": 6, "predictor": 2}
    place = {"crs": grid.crs, "transform": rasterio.Affine(*grid.transform)}
    with (
        rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=128 * 2**20),
        rasterio.open(path, "w", driver="GTiff", **shape, **blocks, **codec, **place) as file,
    ):
        for chunk in chunks(grid, (0, 0)):
            where = rasterio.windows.Window(chunk.col, chunk.row, chunk.width, chunk.height)
            file.write(drawn(grid, chunk).pixels, window=where)
    return worked() - began, path.stat().st_size


def streamed(grid, origin, folder):
    """(seconds of committing, seconds of finishing, bytes of the chunks, bytes of the result)."""
    windows, tiles = chunks(grid, origin), Tiles(folder / "tiles", "streaming", grid.shape)
    tiles.prepare()
    began = worked()
    for chunk in windows:
        raster = drawn(grid, chunk)
        tiles.write(1, chunk, Raster(PROFILE.fill(raster), raster.valid, raster.grid))
    committed = worked()
    parts = Parts(windows, lambda chunk: tiles.read(1, chunk, grid), lambda chunk: tiles.packed(1, chunk))
    scratch = folder / "scratch"
    pending = prepare(folder / "out.tif", parts, grid, grid, PROFILE, {}, "{}", scratch, lambda fraction: None)
    finished = worked()
    kept = sum(file.stat().st_size for file in os.scandir(folder / "tiles"))
    return committed - began, finished - committed, kept, pending.path.stat().st_size


def cpu(side, rounds):
    """Ratios of processor time for both kinds of extent."""
    found = {}
    for name, origin in ORIGINS.items():
        grid, whole, finish = lattice(side, origin), [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                floor, floor_bytes = plain(grid, Path(folder))
                commit, make, kept, size = streamed(grid, origin, Path(folder))
            whole.append((commit + make) / floor)
            finish.append(make / floor)
        found[name] = {
            "ratio": round(statistics.median(whole), 3),
            "finish_ratio": round(statistics.median(finish), 3),
            "range": [round(min(whole), 3), round(max(whole), 3)],
            "plain_mb": round(floor_bytes / 1e6, 1),
            "chunks_mb": round(kept / 1e6, 1),
            "result_mb": round(size / 1e6, 1),
        }
    return {"side": side, "rounds": rounds, **found}


def one_job(side, name, folder):
    """Run a whole job of a model that costs nothing, in this process."""
    origin = ORIGINS[name]
    grid = lattice(side, origin)
    texture()

    def plan(request, job, model, ctx):
        return Work(model, grid, grid, chunks(grid, origin), PROFILE, lambda chunk, sample, part: drawn(grid, chunk))

    request = Generate("null", grid, grid, 10.0, "", Sampling(1, 1, "null"))
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(dumps(Job("job", request)), encoding="utf-8")
    settings = dataclasses.replace(Settings(), workers=1, device="cpu", threads=1)
    ending = runner.run(
        folder, "job", lambda event: None, threading.Event(), settings, catalog=null_engine, tasks={Generate: plan}
    )
    if not isinstance(ending, Succeeded):
        raise SystemExit(str(ending))
    print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}))


def job(side, name):
    """Highest memory, MB, and highest disk over the result; seconds on the wall."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, began = Path(scratch) / "job", time.monotonic()
        most = dict.fromkeys(("scratch", "tiles", "all"), 0)
        command = [sys.executable, __file__, "--one", str(side), name, str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        while process.poll() is None:
            sizes = {name: _size(folder / name) for name in ("scratch", "tiles", "pending", "outputs")}
            sizes["all"] = sum(sizes.values())
            most = {name: max(size, sizes[name]) for name, size in most.items()}
            time.sleep(POLL_SECONDS)
        if process.returncode:
            raise SystemExit(process.returncode)
        told = json.loads(process.stdout.read())
        size = (folder / "outputs" / "result.tif").stat().st_size
    return {
        "side": side,
        "peak_mb": round(told["peak_mb"], 1),
        "disk_beyond": round(most["scratch"] / size, 3),
        "chunks_over_result": round(most["tiles"] / size, 3),
        "disk_over_result": round(most["all"] / size, 3),
        "result_mb": round(size / 1e6, 1),
        "seconds": round(time.monotonic() - began, 1),
    }


def _size(folder):
    total = 0
    try:
        for entry in os.scandir(folder):
            total += entry.stat().st_size
    except FileNotFoundError:  # not there yet, or gone between two looks
        pass
    return total


def memory(sides, name):
    """Whole jobs of several sizes."""
    jobs = [job(side, name) for side in sides]
    return {"extent": name, "jobs": jobs, "ratio": round(jobs[-1]["peak_mb"] / jobs[0]["peak_mb"], 3)}


def resume(number=15_000):
    """Seconds to find out which chunks are finished, where all of them are."""
    side = 16
    grid = lattice(side, (0, 0))
    empty = Raster(np.ones((3, side, side), np.uint8), np.ones((side, side), bool), grid)
    with tempfile.TemporaryDirectory() as folder:
        tiles = Tiles(Path(folder) / "tiles", "streaming")
        tiles.prepare()
        tiles.write(1, Window(0, 0, side, side), empty)
        (first,) = (Path(folder) / "tiles").iterdir()
        content, key = first.read_bytes(), first.stem.encode()
        windows = [Window(row * side, 0, side, side) for row in range(number)]
        for window in windows[1:]:
            name = first.stem.replace("r0000000", f"r{window.row:07d}")
            first.with_name(f"{name}.tile").write_bytes(content.replace(key, name.encode()))
        began = time.monotonic()
        tiles.prepare()
        if not all(tiles.has(1, window) for window in windows):
            raise SystemExit("a finished chunk was not seen")
        return round(time.monotonic() - began, 2)


def main():
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of the ratios of processor time; 0 for none")
    parser.add_argument("--side", type=int, default=4096, help="of the extent of these")
    parser.add_argument("--sides", type=int, nargs="*", default=[2048, 16384], help="of the jobs for memory and disk")
    parser.add_argument("--extents", nargs="*", choices=sorted(ORIGINS), default=sorted(ORIGINS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one_job(int(asked.one[0]), asked.one[1], Path(asked.one[2]))
        return
    found = {"load": os.getloadavg(), "resume_s": resume()}
    if asked.rounds:
        texture()
        found["cpu"] = cpu(asked.side, asked.rounds)
    if asked.sides:
        found["memory"] = [memory(asked.sides, name) for name in asked.extents]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
