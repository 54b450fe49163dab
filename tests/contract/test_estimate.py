"""What a request will take: counted by hand for small cases, and growing as it must."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from afterimage.engine.contract import (
    CHUNK,
    COARSE_MEMORY,
    FRAMES_MEMORY,
    MEAN_CALLS,
    Edit,
    Generate,
    GeoBox,
    ModelCard,
    Sampling,
    Source,
    SuperResolve,
    Window,
    estimate,
    fit,
    is_one_window,
    loads,
)

MODELS = Path(__file__).resolve().parents[2] / "resources" / "models"
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


def test_windows_of_phases_count_for_their_area_and_their_share_of_the_steps():
    card = dataclasses.replace(CARD, phases=((64, 32), (32, 16)))
    found = estimate(generate(256, 512), card, gflops=100.0)
    # small windows touch the picture, 32 pixels beyond it decide it: (256 + 32 + 32) / 16 x (512 + 32 + 32) / 16;
    # large ones touch what those cover, 32 pixels more on each side; each phase does half of the steps
    small, large = 20 * 36, 13 * 21
    assert found.windows == math.ceil((small / 4 + large) / 2)


def test_guidance_calls_the_network_twice_and_samples_are_drawn_one_by_one():
    once = estimate(generate(256, 256), CARD)
    guided = estimate(generate(256, 256, guidance_scale=4.0), CARD)
    three = estimate(generate(256, 256, samples=3), CARD)
    assert guided.gflop == 2 * once.gflop
    in_part = estimate(generate(256, 256, guidance_scale=4.0), dataclasses.replace(CARD, guided=0.25))
    assert in_part.gflop == 1.25 * once.gflop
    assert (three.tiles, three.windows, three.gflop) == (3 * once.tiles, 3 * once.windows, 3 * once.gflop)
    assert three.disk_mb > once.disk_mb


def test_a_coarser_level_is_counted_with_the_ground_that_windows_look_at():
    plain = generate(256, 512)
    asked = dataclasses.replace(plain, coarse=2, coarse_strength=0.5)
    found, alone = estimate(asked, CARD), estimate(plain, CARD)
    # a window and the halo beyond the extent, in pixels twice as large, and the windows that touch those
    rows, cols = (256 + 2 * 80) // 2, (512 + 2 * 80) // 2
    level = (rows + 64 + 32 + 31) // 32 * ((cols + 64 + 32 + 31) // 32)
    assert found.windows == alone.windows + level
    assert found.gflop == pytest.approx(alone.windows * 5 + level * 10)
    assert found.memory_mb == alone.memory_mb + math.ceil(COARSE_MEMORY / 1e6)
    card = dataclasses.replace(CARD, gflop_decode_per_megapixel=1000.0)
    coded = estimate(asked, card).gflop - found.gflop - (estimate(plain, card).gflop - alone.gflop)
    assert coded == pytest.approx((rows * cols + alone.windows * 64 * 64) / 1000)
    assert estimate(dataclasses.replace(asked, coarse=8), CARD).gflop < found.gflop


def test_pictures_on_the_way_from_noise_take_memory_and_no_more_than_is_remembered():
    def memory(side: int, trajectory: int, **sampling: float) -> int:
        asked = dataclasses.replace(generate(side, side, steps=50, **sampling), trajectory=trajectory)
        return estimate(asked, CARD).memory_mb - CARD.memory_mb

    picture = 3 * 64 * 64 * 4  # bytes of one float32 picture of a window
    assert memory(256, 0) == memory(8192, 0) == 0
    # one chunk: its 11 by 11 windows, remembered and twice while they are put together
    assert memory(256, 2) == pytest.approx(3 * 11**2 * 2 * picture / 1e6, abs=1)
    assert memory(256, 2) < memory(256, 4) < memory(256, 50) < memory(512, 50)
    # many chunks or samples: as much as is remembered, and the chunk at work
    assert memory(8192, 50) == pytest.approx((FRAMES_MEMORY + 2 * 11**2 * 50 * picture) / 1e6, abs=1)
    assert memory(8192, 50) == memory(16384, 50) == memory(8192, 50, samples=4)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/vae/config.json")), ids=lambda path: path.parts[-3])
def test_latents_are_counted_as_no_less_than_they_are(path):
    code = json.loads(path.read_text(encoding="utf-8"))
    card = loads(ModelCard, (path.parents[1] / "card.json").read_bytes())
    asked = dataclasses.replace(generate(256, 256, steps=50), trajectory=50)
    found = estimate(asked, card)
    window = 50 * code["latent_channels"] * (card.window // code["scale"]) ** 2 * 4
    least = min(FRAMES_MEMORY, found.windows * window) / 1e6
    assert card.memory_mb + least <= found.memory_mb


def edit(margin: int = 0) -> Edit:
    return Edit("m", Source("s.tif"), 10.0, "river", Sampling(1, 10, "DDIM"), margin=margin)


def test_a_margin_is_part_of_the_result_and_what_lies_within_the_raster_costs_nothing():
    source = grid(1024, 1024)
    whole, part = estimate(edit(), CARD, source), estimate(edit(), CARD, source, area=Window(5, 9, 100, 90))
    around, both = (estimate(edit(20), CARD, source, area=area) for area in (None, Window(5, 9, 100, 90)))
    assert whole.shape == part.shape == (1024, 1024) and around.shape == both.shape == (1064, 1064)
    assert around.windows == 37**2 - 30**2  # (1064 + 64 + 32) / 32 on each axis, less (1024 - 64) / 32
    assert part.windows < around.windows < whole.windows and both.windows == part.windows + around.windows
    assert around.gflop == pytest.approx(10 * around.windows) and around.disk_mb > whole.disk_mb


def test_an_edit_is_one_window_where_all_of_it_or_what_changes_fits_with_room_to_spare():
    card = dataclasses.replace(CARD, whole=True)
    assert estimate(edit(), card, grid(64, 60)).windows == 1
    assert estimate(edit(2), card, grid(60, 60)).windows == 1 < estimate(edit(3), card, grid(60, 60)).windows
    large = grid(500, 500)
    for side, is_one in ((48, True), (49, False), (64, False)):
        found = estimate(edit(), card, large, area=Window(100, 100, side, 20))
        assert (found.windows == 1) is is_one is is_one_window((500, 500), (side, 20), card)
        assert estimate(edit(), CARD, large, area=Window(100, 100, side, 20)).windows > 1


def test_bands_are_refined_in_groups_of_three():
    request = SuperResolve("m", Source("inputs/source.tif"), 4, 10.0, Sampling(1, 4, "DDIM"))
    three = estimate(request, CARD, grid(64, 64), bands=3)
    thirteen = estimate(request, CARD, grid(64, 64), bands=13, itemsize=2)
    assert three.shape == (CHUNK, CHUNK)
    assert thirteen.windows == 5 * three.windows
    with pytest.raises(ValueError, match="source"):
        estimate(request, CARD)


def test_the_mean_takes_eight_calls_a_window_whatever_the_steps_and_samples():
    def more(steps, samples):
        sampling = Sampling(1, steps, "DDIM", samples=samples)
        asked = SuperResolve("m", Source("inputs/source.tif"), 4, 10.0, sampling)
        without, found = (
            estimate(dataclasses.replace(asked, mean=mean), CARD, grid(64, 64), bands=4, itemsize=2)
            for mean in (False, True)
        )
        return without, found.gflop - without.gflop, found.disk_mb - without.disk_mb, found

    once, gflop, disk_mb, found = more(4, 1)
    assert gflop == once.windows * MEAN_CALLS * CARD.gflop_per_window_step
    # its tiles, and the file with its smaller versions, in the samples' own type
    assert disk_mb == pytest.approx(CHUNK**2 * 4 * 2 * (1 + 4 / 3) / 1e6)
    assert (found.tiles, found.windows) == (2 * once.tiles, 2 * once.windows) and found.seconds > once.seconds
    often, again, _, found = more(50, 3)
    assert again == gflop and found.windows - often.windows == once.windows


def test_a_faster_machine_takes_less_time():
    request = generate(2048, 2048)
    assert estimate(request, CARD, gflops=120.0).seconds < estimate(request, CARD, gflops=60.0).seconds
    free = dataclasses.replace(CARD, gflop_per_window_step=0.0)
    assert estimate(request, free).gflop == 0.0


@pytest.mark.parametrize("date", ["2024-02-31", "2024-6-1", "yesterday", "20240601"])
def test_a_date_that_no_calendar_has_is_refused(date):
    with pytest.raises(ValueError):
        dataclasses.replace(generate(8, 8), date=date)


@pytest.mark.parametrize(
    ("device", "free_mb", "way"),
    [
        ("cuda", 24000, "whole"),
        ("cuda:1", 5000, "whole"),
        ("cuda", 4999, "waiting"),
        ("mps", 2000, "waiting"),
        ("cuda", 1999, "processor"),
        ("cuda", None, None),
        ("none", 24000, None),
        ("cpu", 699, "short"),
        ("cpu", 700, None),
    ],
)
def test_how_a_model_fits_the_memory_that_is_free(device, free_mb, way):
    card = dataclasses.replace(CARD, gpu_mb=(5000, 3500, 2000, 2000))
    found = fit(card, estimate(generate(256, 256), card), device, free_mb)
    assert (found and found.way) == way
    if found is not None:
        assert (found.need_mb, found.free_mb) == (700 if device == "cpu" else 5000, free_mb)
        assert found.is_gpu == (device != "cpu")


def test_a_model_that_takes_little_says_nothing_of_a_gpu():
    assert fit(CARD, estimate(generate(256, 256), CARD), "cuda", 100) is None


def test_texts_that_meet_in_a_window_take_calls_of_their_own_and_empty_ground_takes_none():
    box = grid(256, 256)
    request = Generate("m", box, box, 10.0, "forest", Sampling(1, 10, "DDIM"))
    card = dataclasses.replace(CARD, gflop_decode_per_megapixel=0.0)
    plain = estimate(request, card)
    assert estimate(request, card, texts=1.5).gflop == pytest.approx(1.5 * plain.gflop)
    assert estimate(request, card, texts=1.5).windows == plain.windows
    guided = dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, guidance_scale=2.0))
    told = dataclasses.replace(card, uses=("prompt",))
    for texts, rows in ((0.25, 0.5), (1.0, 2.0), (1.5, 2.5), (3.0, 4.0)):  # what all stay away from is asked once
        assert estimate(guided, told, texts=texts).gflop == pytest.approx(rows * plain.gflop)
    decoded = dataclasses.replace(CARD, gflop_decode_per_megapixel=100.0)
    drawn = estimate(request, decoded).gflop
    assert estimate(request, decoded, texts=0.25).gflop == pytest.approx(0.25 * drawn)
    more = estimate(request, decoded, texts=2.0).gflop
    assert more == pytest.approx(drawn + plain.gflop)  # the picture is decoded once, whatever the texts
