"""A block transform with a decoder: a tile decodes alone as it does in the whole, given its halo."""

import pytest
import torch
from afterimage.engine.models.autoencoder import TileableAutoencoder


def make(scale, detail=True, **settings):
    """An autoencoder with random weights; as made, its decoder adds nothing to the transform."""
    torch.manual_seed(0)
    settings = {"latent_channels": 4, "width": 32, "blocks": 2, "scale": scale} | settings
    autoencoder = TileableAutoencoder(**settings).eval().requires_grad_(False)
    if detail:
        autoencoder.detail[-1].weight.normal_(std=0.3)
        autoencoder.detail[-1].bias.normal_(std=0.3)
    return autoencoder


@pytest.fixture(scope="module", params=[4, 8, 16])
def autoencoder(request):
    return make(request.param)


def test_decoding_a_crop_with_its_halo_is_the_crop_of_the_decoding(autoencoder):
    z = torch.randn(1, 4, 24, 20)
    halo, scale = autoencoder.decode_halo, autoencoder.scale
    whole = autoencoder.decode(z)
    assert whole.shape == (1, 3, 24 * scale, 20 * scale)
    top, left, height, width = 9, 8, 4, 5
    part = autoencoder.decode(z[..., top - halo : top + height + halo, left - halo : left + width + halo])
    inner = part[..., halo * scale : -halo * scale, halo * scale : -halo * scale]
    expected = whole[..., top * scale : (top + height) * scale, left * scale : (left + width) * scale]
    assert torch.allclose(inner, expected, atol=1e-5)
    assert (autoencoder.decode(z) - make(scale, detail=False).decode(z)).abs().max() > 0.01


def test_the_halo_is_not_larger_than_what_is_reached(autoencoder):
    halo, scale = autoencoder.decode_halo, autoencoder.scale
    z = torch.zeros(1, 4, 2 * halo + 1, 2 * halo + 1)
    touched = z.clone()
    touched[..., halo, halo] = 5.0
    changed = (autoencoder.decode(touched) - autoencoder.decode(z)).abs().amax(dim=(0, 1)) > 0
    rows = changed.any(dim=1).nonzero().flatten()
    reach = max(halo * scale - int(rows.min()), int(rows.max()) - (halo * scale + scale - 1))
    assert (halo - 1) * scale < reach <= halo * scale


@pytest.mark.parametrize("scale", [8, 16])
def test_a_latent_is_decided_by_its_own_block(scale):
    autoencoder = make(scale)
    pixels = torch.rand(1, 3, 4 * scale, 4 * scale)
    other = pixels.clone()
    other[..., scale : 2 * scale, scale : 2 * scale] = 0
    changed = (autoencoder.encode(pixels) - autoencoder.encode(other)).abs().amax(dim=(0, 1)) > 1e-6
    assert changed.nonzero().tolist() == [[1, 1]]


def test_as_made_the_decoder_is_the_transform_alone():
    autoencoder = make(8, detail=False)
    z = torch.randn(1, 4, 6, 6)
    assert torch.equal(autoencoder.decode(z), autoencoder.synthesis(z * autoencoder.spread) * 0.5 + 0.5)


def test_latents_are_divided_by_the_scale_of_their_channel_and_decoding_takes_it_back():
    plain = make(8, detail=False, latent_channels=2)
    scaled = make(8, detail=False, latent_channels=2, latent_scale=[2.0, 4.0])
    scaled.load_state_dict(plain.state_dict())
    pixels = torch.rand(1, 3, 16, 16)
    raw = plain.encode(pixels)
    assert torch.allclose(scaled.encode(pixels)[:, 1], raw[:, 1] / 4, atol=1e-6)
    assert torch.allclose(scaled(pixels), plain(pixels), atol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="1 values for 4"):
        TileableAutoencoder(latent_channels=4, latent_scale=[1.0])
    for scale in (2, 12):
        with pytest.raises(ValueError, match="power of two"):
            TileableAutoencoder(scale=scale)
