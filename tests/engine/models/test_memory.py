"""Which way of running fits: by hand for the published sizes, and always the best one that does."""

import pytest
import torch
from afterimage.engine.models.memory import MAPS, PARTS, RUNGS, Rung, Size, fitting, ladder, need

MB = 10**6
#: Stable Diffusion 2.1 with a ControlNet of half its U-Net, at 512 pixels.
SD21 = Size(
    text=4 * 340 * MB,
    unet=4 * 866 * MB,
    control=4 * 364 * MB,
    codec=4 * 84 * MB,
    numbers=4 * 14 * MB,
    denoising=4 * MAPS * 320 * 64**2,
    decoding=4 * 5 * 256 * 512**2,
)
NAMES = [rung.name for rung in RUNGS]


def test_the_ladder_of_a_gpu_ends_on_the_processor():
    assert ladder("cuda") == ladder("mps") == RUNGS and len(set(NAMES)) == len(NAMES)
    assert [rung.name for rung in ladder("cpu")] == ["processor", "processor-tiles"]
    assert all(rung.half != rung.on_host for rung in RUNGS)
    assert [bool(rung.notice) for rung in RUNGS] == [False] + 5 * [True]
    assert [bool(rung.notice) for rung in ladder("cpu")] == [False, True], "without a GPU, none was short of memory"


def test_needs_are_those_counted_by_hand():
    by_name = {rung.name: need(rung, SD21) for rung in RUNGS}
    resident = 2 * (340 + 866 + 364) * MB + 4 * 84 * MB + 4 * 14 * MB
    decoding = 5 * 4 * 256 * 512**2
    assert by_name["whole"] == pytest.approx((resident + decoding) * 1.1 + 300 * MB, rel=1e-6)
    alone = 4 * 84 * MB + decoding + 4 * 14 * MB  # the autoencoder takes more than the U-Net and its maps
    unet = 2 * 866 * MB + SD21.denoising / 2 + 4 * 14 * MB
    assert by_name["turns"] == pytest.approx(max(alone, unet) * 1.1 + 300 * MB, rel=1e-6)
    assert by_name["processor"] == pytest.approx((SD21.weights + decoding) * 1.1, rel=1e-6)


def test_each_rung_takes_less_than_the_one_above():
    larger = Size(**{**vars(SD21), "decoding": 4 * SD21.decoding, "denoising": 4 * SD21.denoising})
    for size in (SD21, larger):
        for kind in ("cuda", "cpu"):
            taken = [need(rung, size) for rung in ladder(kind) if rung.on_host == (kind == "cpu")]
            assert taken == sorted(taken, reverse=True)
    assert need(RUNGS[2], larger) > need(RUNGS[3], larger), "tiles are for pictures whose decoding is what is large"


@pytest.mark.parametrize(
    ("free_gb", "host_gb", "first", "found"),
    [
        (24, 32, 0, "whole"),
        (5, 32, 0, "parts"),
        (3, 32, 0, "turns"),
        (1, 32, 0, "processor"),
        (1, 8, 0, "processor-tiles"),
        (0, 0, 0, "processor-tiles"),
        (24, 32, 2, "turns"),
        (1, 32, 2, "processor"),
        (None, None, 0, "whole"),
        (None, 1, 4, "processor-tiles"),
        (1, None, 0, "processor"),
    ],
)
def test_the_best_that_fits_is_taken(free_gb, host_gb, first, found):
    free, host = (None if each is None else each * 10**9 for each in (free_gb, host_gb))
    assert NAMES[fitting(RUNGS, first, SD21, free, host)] == found


def test_what_waits_is_not_counted_twice():
    lone = Rung("x", half=True, waiting=PARTS)
    assert need(lone, SD21) < need(Rung("y", half=True), SD21)
    assert need(Rung("y", half=True), SD21) < need(Rung("z", half=True), Size(**{**vars(SD21), "branches": 40}))


def test_a_model_counts_its_own_parts(parity, make_reference):
    from afterimage.engine.models.published import open_model

    model = open_model(make_reference(parity / "diffusionsat").folder / "controlnet_sr")
    size = model.size(8, 2)
    total = 4 * sum(p.numel() for network in model.networks for p in network.parameters())
    assert size.weights == total and min(size.text, size.unet, size.control, size.codec, size.numbers) > 0
    assert model.size(16, 2).decoding == 4 * size.decoding and model.size(8, 2, 3).denoising == 3 * size.denoising
    assert torch.float32 == next(model.unet.parameters()).dtype
