"""The lattice is absolute, and blending does not depend on who asks for what, and when."""

import itertools
import random

import pytest
import torch
from afterimage.engine.contract import Window
from afterimage.engine.diffusion import noise
from afterimage.engine.diffusion.cache import TileCache
from afterimage.engine.diffusion.windows import Lattice, blend, squares
from hypothesis import given
from hypothesis import strategies as st


def tile(lattice, index):
    return noise.field(hash(index) % 2**32, 0, lattice.window(index), 3)


def tiles(lattice, region):
    return {index: tile(lattice, index) for index in lattice.touching(region)}


@given(
    size=st.integers(1, 40),
    stride=st.integers(1, 40),
    first=st.integers(-50, 50),
    row=st.integers(-200, 200),
    col=st.integers(-200, 200),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
)
def test_touching_names_exactly_the_squares_that_share_a_pixel(size, stride, first, row, col, height, width):
    if stride > size:
        with pytest.raises(ValueError, match="stride"):
            Lattice(size, stride)
        return
    lattice, region = Lattice(size, stride, first), Window(row, col, height, width)
    found = lattice.touching(region)
    assert found == sorted(found)
    near = range(row // stride - size - 51, (row + height) // stride + 54)
    assert [i for i, _ in found] == sorted([i for i, _ in found])
    expected_rows = [
        i for i in near if lattice.window((i, 0)).row < row + height and lattice.window((i, 0)).row_end > row
    ]
    assert sorted({i for i, _ in found}) == expected_rows


@pytest.mark.parametrize(("size", "stride"), [(16, 16), (16, 8), (16, 12), (17, 5)])
def test_blending_tiles_of_a_constant_gives_the_constant(size, stride):
    lattice, region = Lattice(size, stride), Window(-33, 7, 50, 41)
    constant = {index: torch.full((2, size, size), 0.3) for index in lattice.touching(region)}
    assert torch.allclose(blend(lattice, constant, region, 2), torch.tensor(0.3), atol=1e-6)


def test_a_pixel_has_the_same_bits_whatever_the_region_and_the_order():
    lattice, region = Lattice(16, 6), Window(-20, -9, 64, 70)
    whole = blend(lattice, tiles(lattice, region), region, 3)
    for part in squares(region, 13):
        found = list(tiles(lattice, part).items())
        random.Random(0).shuffle(found)
        inner = part.relative_to(region).slices()
        assert torch.equal(blend(lattice, dict(found), part, 3), whole[(slice(None), *inner)])


def test_where_there_is_no_tile_there_is_zero():
    lattice, region = Lattice(8, 4), Window(0, 0, 12, 12)
    assert torch.equal(blend(lattice, {}, region, 1), torch.zeros(1, 12, 12))


def test_squares_cover_a_region_once():
    region = Window(-70, 3, 200, 90)
    count = torch.zeros(region.height, region.width)
    for part in squares(region, 64):
        rows, cols = part.relative_to(region).slices()
        count[rows, cols] += 1
        assert part.row // 64 == (part.row_end - 1) // 64
    assert torch.equal(count, torch.ones_like(count))


def test_the_cache_computes_what_it_does_not_remember_and_stays_small():
    asked = []

    def compute(keys):
        asked.append(list(keys))
        return [torch.full((10,), float(key)) for key in keys]

    cache = TileCache(limit=3 * 40)
    assert [float(t[0]) for t in cache.get([1, 2, 3], compute).values()] == [1, 2, 3]
    cache.get([2, 3, 4], compute)
    cache.get([2, 3, 4], compute)
    assert asked == [[1, 2, 3], [4]]
    assert list(cache.get([1, 2, 3, 4, 5], compute)) == [1, 2, 3, 4, 5]
    assert asked[-1] == [1, 5]
    cache.get([3, 4, 5], compute)
    assert cache.computed == sum(map(len, asked)) == 6


def test_places_of_a_batch_that_are_left_over_are_taken_by_what_comes_next():
    asked, looked = [], []

    def compute(keys):
        asked.append(list(keys))
        return [torch.full((10,), float(key)) for key in keys]

    def later(keys):
        for key in keys:
            looked.append(key)
            yield key

    cache = TileCache(limit=1000)
    assert list(cache.get([1, 2, 3], compute, 4, later([2, 3, 4, 5, 6]))) == [1, 2, 3]
    assert asked == [[1, 2, 3, 4]] and looked == [2, 3, 4, 5]
    cache.get([3, 4], compute, 4, later([5, 6]))
    assert len(asked) == 1  # nothing is missing, so nothing is computed ahead
    cache.get([4, 5, 6, 7, 8], compute, 4, later([9]))
    assert asked[-1] == [5, 6, 7, 8]
    cache.get([9], compute, 4, later([]))
    assert asked[-1] == [9] and cache.computed == 9


def test_order_of_traversal_does_not_change_a_bit_with_a_small_cache():
    lattice, region = Lattice(16, 8), Window(5, -40, 60, 60)
    whole = blend(lattice, tiles(lattice, region), region, 3)
    parts = squares(region, 16)
    for order in itertools.islice(itertools.permutations(range(len(parts))), 0, 2000, 500):
        cache = TileCache(limit=5 * 3 * 16 * 16 * 4)
        for place in order:
            part = parts[place]
            found = cache.get(lattice.touching(part), lambda keys: [tile(lattice, key) for key in keys])
            assert torch.equal(blend(lattice, found, part, 3), whole[(slice(None), *part.relative_to(region).slices())])
