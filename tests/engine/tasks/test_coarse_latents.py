"""An autoencoder of 16 pixels to a latent: chunks, windows and halos still meet."""

import dataclasses

import numpy as np
import pytest
import torch
from afterimage.engine.contract import Generate, GeoBox, Sampling
from afterimage.engine.models.autoencoder import TileableAutoencoder
from afterimage.engine.models.caption import CaptionTokens
from afterimage.engine.models.eo_latent import LatentModel, tiny_denoiser
from afterimage.engine.models.schedulers import SCHEDULE
from afterimage.engine.tasks import generate

ROW, COL = -500_003, 50_017


@pytest.fixture(scope="module")
def model(request):
    """Windows of 256 pixels at 0.3 m, with random weights that show where a latent reaches."""
    torch.manual_seed(0)
    denoiser = tiny_denoiser()
    caption = CaptionTokens(classes=("beach", "forest", "storagetanks"), width=8)
    autoencoder = TileableAutoencoder(latent_channels=4, scale=16, width=32, blocks=2)
    torch.nn.init.normal_(autoencoder.detail[-1].weight, std=0.2)
    for network in (denoiser, caption, autoencoder):
        network.eval().requires_grad_(False)
    return denoiser, caption, autoencoder


@pytest.fixture
def aerial(model, card):
    words = {"gsd": (0.3, 0.3), "window": 256, "stride": 192, "uses": ("prompt", "negative_prompt")}
    return LatentModel(card(**words), *model, SCHEDULE, torch.device("cpu"))


def asked(row, col, height, width, prompt="an oil tank farm"):
    box = GeoBox("EPSG:32633", (0.3, 0.0, col * 0.3, 0.0, -0.3, -row * 0.3), (height, width))
    return Generate("stub", box, box, 0.3, prompt, Sampling(1, 2, "DPM++ 2M", 2.0))


def test_overlapping_extents_share_every_byte_and_the_halo_is_honoured(bench, aerial):
    assert (aerial.window, aerial.stride, aerial.scale) == (16, 12, 16)
    one = bench.make(generate, asked(ROW, COL, 200, 150), aerial)[0]
    other = bench.make(generate, asked(ROW + 90, COL + 70, 130, 110), aerial)[0]
    assert np.array_equal(one[:, 90:, 70:], other[:, :110, :80])
    assert one.std() > 5


def test_one_window_is_what_the_network_draws_there(bench, aerial):
    """Where no other window reaches, the picture of an extent is the decoding of the window."""
    aerial.card = dataclasses.replace(aerial.card, window=512, stride=512)
    aerial.window = aerial.stride = 32
    request = asked(0, 0, 512, 512)
    drawn = bench.make(generate, request, aerial)[0]
    from afterimage.engine.training.drawing import draw_windows, to_bytes

    alone = to_bytes(draw_windows(aerial, request.prompt, 1, 1, request.sampling))[0].transpose(2, 0, 1)
    halo = aerial.decode_halo * 16
    inner = (slice(None), slice(halo, -halo), slice(halo, -halo))
    assert np.abs(drawn[inner].astype(int) - alone[inner]).max() <= 1


def test_words_are_those_of_its_own_data_set(aerial):
    from afterimage.engine.errors import PromptNotUnderstood
    from afterimage.engine.models.base import Scene

    with pytest.raises(PromptNotUnderstood, match="nothing that this model") as refused:
        aerial.told(Scene("annual crop under a glacier"))
    assert "storage tanks" in refused.value.hint
