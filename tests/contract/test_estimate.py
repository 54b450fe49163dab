"""What a request will take: counted by hand for small cases, and growing as it must."""

import dataclasses

import pytest
from afterimage.engine.contract import CHUNK, Generate, GeoBox, ModelCard, Sampling, Source, SuperResolve, estimate

CARD = ModelCard(
    id="m",
    name="M",
    summary="",
    family="f",
    version="1.0.0",
    tasks=("Generate", "SuperResolve"),
    bands=("red", "green", "blue"),
    gsd=(10.0, 10.0),
    window=64,
    stride=32,
    halo=16,
    factors=(2, 4),
    schedulers=("DDIM",),
    steps=10,
    uses=("prompt",),
    memory_mb=700,
    gflop_per_window_step=1.0,
)


def grid(height: int, width: int) -> GeoBox:
    return GeoBox.from_bounds("EPSG:32633", (0.0, 0.0, width * 10.0, height * 10.0), 10.0)


def generate(height: int, width: int, **sampling: float) -> Generate:
    chosen = {"seed": 1, "steps": 10, "scheduler": "DDIM", "guidance_scale": 1.0, **sampling}
    box = grid(height, width)
    return Generate("m", box, box, 10.0, "river", Sampling(**chosen))


def test_windows_and_tiles_are_those_counted_by_hand():
    found = estimate(generate(256, 512), CARD, gflops=100.0)
    assert found.shape == (256, 512)
    assert found.tiles == 2
    # per axis: pixels, a window and the halo on both sides, at 32 pixels a window
    assert found.windows == (256 + 64 + 32) // 32 * ((512 + 64 + 32) // 32)
    assert found.gflop == pytest.approx(found.windows * 10)
    assert found.memory_mb == 700


def test_guidance_calls_the_network_twice_and_samples_are_drawn_one_by_one():
    once = estimate(generate(256, 256), CARD)
    guided = estimate(generate(256, 256, guidance_scale=4.0), CARD)
    three = estimate(generate(256, 256, samples=3), CARD)
    assert guided.gflop == 2 * once.gflop
    assert (three.tiles, three.windows, three.gflop) == (3 * once.tiles, 3 * once.windows, 3 * once.gflop)
    assert three.disk_mb > once.disk_mb


def test_bands_are_refined_in_groups_of_three():
    request = SuperResolve("m", Source("inputs/source.tif"), 4, 10.0, Sampling(1, 4, "DDIM"))
    three = estimate(request, CARD, grid(64, 64), bands=3)
    thirteen = estimate(request, CARD, grid(64, 64), bands=13, itemsize=2)
    assert three.shape == (CHUNK, CHUNK)
    assert thirteen.windows == 5 * three.windows
    with pytest.raises(ValueError, match="source"):
        estimate(request, CARD)


def test_a_faster_machine_takes_less_time():
    request = generate(2048, 2048)
    assert estimate(request, CARD, gflops=120.0).seconds < estimate(request, CARD, gflops=60.0).seconds
    free = dataclasses.replace(CARD, gflop_per_window_step=0.0)
    assert estimate(request, free).gflop == 0.0


@pytest.mark.parametrize("date", ["2024-02-31", "2024-6-1", "yesterday", "20240601"])
def test_a_date_that_no_calendar_has_is_refused(date):
    with pytest.raises(ValueError):
        dataclasses.replace(generate(8, 8), date=date)
