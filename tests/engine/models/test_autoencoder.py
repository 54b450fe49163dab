"""A tile decodes alone as it does in the whole, given its halo."""

import pytest
import torch
from afterimage.engine.models.autoencoder import TileableAutoencoder


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return TileableAutoencoder(latent_channels=4, width=40, blocks=2).eval().requires_grad_(False)


def test_decoding_a_crop_with_its_halo_is_the_crop_of_the_decoding(autoencoder):
    z = torch.randn(1, 4, 24, 20)
    halo = autoencoder.decode_halo
    whole = autoencoder.decode(z)
    top, left, height, width = 9, 8, 4, 5
    part = autoencoder.decode(z[..., top - halo : top + height + halo, left - halo : left + width + halo])
    inner = part[..., halo * 8 : -halo * 8, halo * 8 : -halo * 8]
    expected = whole[..., top * 8 : (top + height) * 8, left * 8 : (left + width) * 8]
    assert torch.allclose(inner, expected, atol=1e-5)


def test_the_halo_is_not_larger_than_what_is_reached(autoencoder):
    halo = autoencoder.decode_halo
    z = torch.zeros(1, 4, 2 * halo + 1, 2 * halo + 1)
    touched = z.clone()
    touched[..., halo, halo] = 5.0
    changed = (autoencoder.decode(touched) - autoencoder.decode(z)).abs().amax(dim=(0, 1)) > 0
    rows = changed.any(dim=1).nonzero().flatten()
    reach = max(halo * 8 - int(rows.min()), int(rows.max()) - (halo * 8 + 7))
    assert (halo - 1) * 8 < reach <= halo * 8


def test_a_constant_latent_decodes_to_a_constant_so_that_there_is_no_grid_of_blocks(autoencoder):
    z = torch.randn(1, 4, 1, 1).expand(1, 4, 16, 16)
    tile = autoencoder.decode(z)[..., 48:56, 48:56]
    neighbour = autoencoder.decode(z)[..., 56:64, 56:64]
    assert torch.allclose(tile, neighbour, atol=1e-5)


def test_latents_are_standardised_as_the_configuration_says():
    torch.manual_seed(0)
    plain = TileableAutoencoder(latent_channels=2, width=20, blocks=1)
    shifted = TileableAutoencoder(latent_channels=2, width=20, blocks=1, latent_shift=[1, 2], latent_scale=[2, 4])
    shifted.load_state_dict(plain.state_dict())
    pixels = torch.rand(1, 3, 16, 16)
    raw = plain.encode(pixels)
    assert torch.allclose(shifted.encode(pixels)[:, 1], (raw[:, 1] - 2) / 4, atol=1e-6)
    assert torch.allclose(shifted(pixels), plain(pixels), atol=1e-5)


def test_wrong_number_of_scales_is_refused():
    with pytest.raises(ValueError, match="1 values for 4"):
        TileableAutoencoder(latent_channels=4, latent_shift=[1.0])
