"""Blocks, containers and smaller versions are what GDAL makes of them; chunks that are blocks are not packed again."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
import rasterio
from afterimage.engine.contract import GeoBox, Window
from afterimage.engine.errors import OutputDamaged
from afterimage.engine.raster import Parts, Profile, Raster, blocks, pack, prepare, tiff, unpack
from afterimage.engine.raster.blocks import BLOCK
from afterimage.engine.raster.parts import BlockFile
from afterimage.engine.raster.pyramid import halved, shapes
from afterimage.engine.tasks.chunks import chunks
from afterimage.engine.tiles import WAITING, Committer, Tiles

RNG = np.random.default_rng(3)
UTM = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)


def grid(height, width):
    return GeoBox("EPSG:32633", UTM, (height, width))


def noise(dtype, shape):
    """Numbers of the whole range of a type, the extremes among them."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        found = (RNG.standard_normal(shape) * 10.0 ** RNG.integers(-30, 30, shape)).astype(kind)
    else:
        limits = np.iinfo(kind)
        found = RNG.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
        found.flat[:2] = limits.min, limits.max
    return found


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(256, 256), (17, 250), (1, 1), (300, 700)])
def test_a_block_comes_back_bit_for_bit(dtype, shape):
    pixels, valid = noise(dtype, (3, *shape)), RNG.random(shape) > 0.3
    back, is_known = unpack(pack(pixels, valid), dtype, 3, *shape)
    assert back.dtype == pixels.dtype and back.tobytes() == pixels.tobytes() and np.array_equal(is_known, valid)


def test_a_damaged_block_is_told():
    packed = pack(noise("uint8", (3, 256, 256)), np.ones((256, 256), bool))
    with pytest.raises(ValueError):
        unpack(blocks.Packed(packed.pixels[: len(packed.pixels) // 2], packed.mask), "uint8", 3, 256, 256)


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_gdal_reads_both_kinds_of_file(tmp_path, monkeypatch, dtype, is_big):
    from afterimage.engine.raster import cog

    monkeypatch.setattr(cog, "_CLASSIC_LIMIT", 0 if is_big else 2**31)
    where, pixels = grid(700, 530), noise(dtype, (2, 700, 530))
    raster = Raster(pixels, RNG.random((700, 530)) > 0.3, where)
    pending = result(tmp_path, {where.window: raster}, where, Profile(dtype, ("a", "b")))
    magic = pending.path.read_bytes()[:4]
    assert magic == (b"II+\0" if is_big else b"II*\0")
    with rasterio.open(pending.path) as file:
        assert np.array_equal(file.read()[:, raster.valid], pixels[:, raster.valid])
        assert np.array_equal(file.dataset_mask() > 0, raster.valid)
        assert file.overviews(1) == [2, 4]
    with rasterio.open(pending.path, overview_level=0) as file:
        half, is_known = halved(Profile(dtype, ("a", "b")).fill(raster), raster.valid)
        assert np.array_equal(file.read()[:, is_known], half[:, is_known])
        assert np.array_equal(file.dataset_mask() > 0, is_known)


def result(tmp_path, known, where, profile, packed=lambda window: None):
    parts = Parts(tuple(known), known.__getitem__, packed)
    return prepare(tmp_path / "out.tif", parts, where, where, profile, {}, "{}", tmp_path / "s", lambda fraction: None)


def test_the_smallest_version_stands_first_and_each_block_between_its_length_and_its_end(tmp_path):
    where = grid(600, 600)
    raster = Raster(noise("uint8", (1, 600, 600)), np.ones((600, 600), bool), where)
    path = result(tmp_path, {where.window: raster}, where, Profile("uint8", ("a",))).path
    content = path.read_bytes()
    found = [tiff.places(each) for each in tiff.directories(io.BytesIO(content))]
    images, masks = found[::2], found[1::2]
    assert [len(image) for image in images] == [9, 4, 1] == [len(mask) for mask in masks]
    order = [place for pair in zip(reversed(images), reversed(masks)) for both in zip(*pair) for place in both]
    assert order == sorted(order), "image and mask in turns, row by row"
    for at, length in order:
        assert int.from_bytes(content[at - 4 : at], "little") == length
        assert content[at + length - 4 : at + length] == content[at + length : at + length + 4]


def test_chunks_that_are_blocks_are_taken_over_as_they_were_packed(tmp_path):
    where, profile = grid(600, 530), Profile("uint8", ("a", "b", "c"), 0.0)
    pixels = noise("uint8", (3, 600, 530))
    known = {}
    for row in range(0, 600, 256):
        for col in range(0, 530, 256):
            window = Window(row, col, min(256, 600 - row), min(256, 530 - col))
            rows, cols = window.slices()
            part = Raster(pixels[:, rows, cols], np.ones((window.height, window.width), bool), where.crop(window))
            known[window] = Raster(profile.fill(part), part.valid, part.grid)
    kept = {window: pack(raster.pixels, raster.valid) for window, raster in known.items()}
    taken = []
    once = result(tmp_path, known, where, profile).path.read_bytes()
    again = result(
        tmp_path, known, where, profile, lambda window: taken.append(window) or kept[window]
    ).path.read_bytes()
    assert once == again and taken == sorted(known, key=lambda window: (window.row, window.col))


def test_chunks_that_begin_elsewhere_are_composed(tmp_path):
    where, profile = grid(600, 530), Profile("uint8", ("a",))
    whole = Raster(noise("uint8", (1, 600, 530)), RNG.random((600, 530)) > 0.1, where)
    known = {}
    for top, bottom in ((0, 100), (100, 356), (356, 600)):
        for left, right in ((0, 37), (37, 293), (293, 530)):
            window = Window(top, left, bottom - top, right - left)
            rows, cols = window.slices()
            known[window] = Raster(whole.pixels[:, rows, cols], whole.valid[rows, cols], where.crop(window))
    once = result(tmp_path, {where.window: whole}, where, profile).path.read_bytes()
    assert result(tmp_path, known, where, profile).path.read_bytes() == once, "the same file, however it was cut"


@pytest.mark.parametrize("profile", [Profile("uint8", ("a", "b", "c"), 0.0), Profile("float32", ("a",))])
@pytest.mark.parametrize("origin", [(0, 0), (100, 37), (0, 37)])
def test_a_result_has_the_same_bytes_wherever_its_chunks_lie(tmp_path, origin, profile):
    where = grid(600, 530)
    whole = Raster(noise(profile.dtype, (len(profile.bands), 600, 530)), RNG.random((600, 530)) > 0.1, where)
    tiles = Tiles(tmp_path / "tiles", "work", where.shape)
    tiles.prepare()
    windows = chunks(where, origin)
    for window in windows:
        rows, cols = window.slices()
        part = Raster(whole.pixels[:, rows, cols], whole.valid[rows, cols], where.crop(window))
        tiles.write(1, window, Raster(profile.fill(part), part.valid, part.grid))
    packed = [window for window in windows if tiles.packed(1, window) is not None]
    assert packed == (list(windows) if origin == (0, 0) else []), "blocks of the file are kept as they will stand there"
    parts = Parts(windows, lambda window: tiles.read(1, window, where), lambda window: tiles.packed(1, window))
    pending = prepare(tmp_path / "a.tif", parts, where, where, profile, {}, "{}", tmp_path / "s", lambda fraction: None)
    assert pending.path.read_bytes() == result(tmp_path, {where.window: whole}, where, profile).path.read_bytes()


@pytest.mark.parametrize("image", [None, (20, 32)])
def test_a_tile_of_either_kind_that_is_torn_or_flipped_is_not_believed(tmp_path, image):
    window, where = Window(0, 0, 20, 32), grid(20, 32)
    raster = Raster(noise("uint16", (2, 20, 32)), RNG.random((20, 32)) > 0.3, where)
    tiles = Tiles(tmp_path, "work", image)
    tiles.write(1, window, raster)
    assert (tiles.packed(1, window) is None) == (image is None)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at])
        assert tiles.read(1, window, where) is None and tiles.packed(1, window) is None
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        back = tiles.read(1, window, where)
        assert back is None or back.pixels.tobytes() == raster.pixels.tobytes(), f"a flipped bit at {at} was believed"
        assert at < len(whole) - 1000 or back is None, f"a flipped bit at {at} was not seen"
        tiles.packed(1, window)


def test_a_bit_that_flips_in_the_scratch_folder_is_seen(tmp_path):
    shape = (BLOCK, BLOCK)
    with BlockFile(tmp_path / "level", shape, Profile("uint8", ("a",))) as kept:
        pixels = noise("uint8", (1, *shape))
        kept.put((0, 0), pixels, np.ones(shape, bool))
        assert np.array_equal(kept.pixels((0, 0))[0], pixels)
        kept._file.seek(100)
        flipped = bytes([kept._file.read(1)[0] ^ 1])
        kept._file.seek(100)
        kept._file.write(flipped)
        with pytest.raises(OutputDamaged, match="scratch"):
            kept.packed((0, 0))


def test_half_the_size_is_the_mean_of_what_is_known():
    pixels = np.array([[[1, 2, 250], [3, 5, 255], [7, 9, 11]]], np.uint8)
    half, valid = halved(pixels, np.ones((3, 3), bool))
    assert half.tolist() == [[[3, 253], [8, 11]]] and valid.all()
    gaps = np.array([[True, False, False], [False, False, False], [True, True, True]])
    half, valid = halved(pixels, gaps)
    assert half.tolist() == [[[1, 0], [8, 11]]] and valid.tolist() == [[True, False], [True, True]]
    huge = np.full((1, 2, 2), 1.7e308)
    assert halved(huge, np.ones((2, 2), bool))[0] == huge[0, 0, 0]
    assert halved(np.full((1, 2, 2), -3, np.int16), np.ones((2, 2), bool))[0] == -3
    assert shapes((600, 530)) == [(600, 530), (300, 265), (150, 133)]


class Slow(Tiles):
    """Takes a while, or fails, at the chunk of a row."""

    def __init__(self, folder, failing=-1):
        super().__init__(folder, "work")
        self.prepare()
        self.failing, self.written, self.gate = failing, [], threading.Event()

    def write(self, sample, window, raster, frame=0):
        self.gate.wait(10)
        if window.row == self.failing:
            raise OSError(28, "full")
        super().write(sample, window, raster, frame)
        self.written.append(window.row)


def chunk(row):
    window = Window(row, 0, 1, 8)
    return window, Raster(np.ones((1, 1, 8), np.uint8), np.ones((1, 8), bool), grid(99, 8).crop(window))


def test_chunks_are_committed_behind_the_drawing_in_order_and_no_more_than_a_few_wait(tmp_path):
    tiles = Slow(tmp_path / "tiles")
    with Committer(tiles) as committer:
        for row in range(WAITING):
            committer.write(1, *chunk(row))
        assert tiles.written == [], "nobody waited for the disk"
        blocked = threading.Thread(target=lambda: committer.write(1, *chunk(WAITING)))
        blocked.start()
        time.sleep(0.05)
        assert blocked.is_alive(), "the next one waits until there is room"
        tiles.gate.set()
        blocked.join(10)
    assert tiles.written == list(range(WAITING + 1))
    assert all(tiles.has(1, chunk(row)[0]) for row in range(WAITING + 1))


def test_an_error_of_the_disk_surfaces_and_nothing_is_committed_after_it(tmp_path):
    tiles = Slow(tmp_path / "tiles", failing=1)
    tiles.gate.set()
    with pytest.raises(OSError, match="full"):
        with Committer(tiles) as committer:
            for row in range(10):
                committer.write(1, *chunk(row))
    assert tiles.written == [0]
    with pytest.raises(OSError, match="full"):
        with Committer(tiles) as committer:
            committer.write(1, *chunk(1))
    with pytest.raises(KeyError):
        with Committer(tiles) as committer:
            committer.write(1, *chunk(2))
            raise KeyError
    assert tiles.has(1, chunk(2)[0]), "what was drawn before an error is kept"
