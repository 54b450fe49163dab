"""DiffusionSat and its ControlNets draw what their own code drew."""

import pytest
import torch
from afterimage.engine.errors import InvalidRequest, WeightsDamaged
from afterimage.engine.models.diffusionsat import FIELDS, metadata_vector
from afterimage.engine.models.published import open_model
from afterimage.engine.models.sentinel2 import BANDS, HINT, fit_hint, hint_bands

PROMPTS = {"single": "prompt_single", "texas": "prompt_temporal", "empty": "negative_prompt"}


@pytest.fixture(scope="module")
def reference(parity, make_reference):
    return make_reference(parity / "diffusionsat")


@pytest.fixture(scope="module")
def model(reference):
    return open_model(reference.folder)


@pytest.fixture(scope="module")
def control(reference):
    return open_model(reference.folder / "controlnet_sr")


@pytest.fixture(scope="module")
def temporal(reference):
    return open_model(reference.folder / "controlnet3d")


@pytest.fixture
def forward(reference):
    """Sample, timestep and text of the forward tests."""
    return reference["fw_sample"], reference["fw_timestep"], reference["fw_text"]


def test_metadata_in_the_units_of_the_world(reference):
    for raw, expected in zip(reference["md_raw"], reference["md_norm"]):
        ours = metadata_vector(**dict(zip(FIELDS, raw.tolist())))
        assert torch.allclose(ours, expected, rtol=1e-6, atol=1e-5)


def test_the_published_example():
    """The literal in the authors' notebook: the Brisbane area on 11 February 2017."""
    ours = metadata_vector(
        longitude=153.3167, latitude=-27.8620, gsd=0.4114541, cloud_cover=0, year=2017, month=2, day=11
    )
    golden = torch.tensor([925.8798, 345.2111, 411.4541, 0, 308.3333, 166.6667, 354.8387])
    assert torch.allclose(ours, golden, atol=1e-3)


def test_what_is_unknown_is_zero():
    assert metadata_vector(longitude=None, year=2040).tolist() == [0, 0, 0, 0, 500, 0, 0]
    with pytest.raises(InvalidRequest, match="lon"):
        metadata_vector(lon=12.0)


@pytest.mark.parametrize("which", PROMPTS)
def test_text_to_states(reference, model, which):
    ids = model.text.ids([reference.cases[PROMPTS[which]]])[0]
    assert torch.equal(ids, reference[f"ids_{which}"])
    reference.near(f"emb_{which}", model.text.states(ids[None])[0])


def test_the_network(reference, model, forward):
    metadata = reference["fw_md"]
    reference.near("fw_md_embedding", model.metadata_embedding(metadata))
    reference.near("fw_unet_out", model.forward(*forward, metadata=metadata))
    reference.near("fw_unet_out_md0", model.forward(*forward, metadata=torch.zeros_like(metadata)))


def test_an_earlier_checkpoint(reference, forward):
    for name in ("checkpoint-100000", "checkpoint-100000/unet"):
        earlier = open_model(reference.folder / name)
        reference.near("fw_unet100k_out", earlier.forward(*forward, metadata=reference["fw_md"]))


@pytest.mark.parametrize("case", ["single", "single_md0"])
def test_samples(reference, model, case):
    cases = reference.cases
    metadata = reference["pipe_md_single"]
    sampled = model.sample(
        reference["latents0"],
        cases["steps"],
        prompt=cases["prompt_single"],
        negative_prompt=cases["negative_prompt"],
        guidance_scale=cases["guidance"][case],
        metadata=metadata if case == "single" else torch.zeros_like(metadata),
    )
    assert torch.equal(sampled.timesteps, reference["ddim_timesteps"])
    reference.run(model, case, sampled)


def test_no_metadata_is_all_unknown(reference, model):
    cases = reference.cases
    sampled = model.sample(
        reference["latents0"],
        cases["steps"],
        prompt=cases["prompt_single"],
        negative_prompt=cases["negative_prompt"],
        guidance_scale=cases["guidance"]["single_md0"],
    )
    reference.run(model, "single_md0", sampled)


def residuals_are_near(reference, name, residuals):
    count = sum(key.startswith(f"{name}_down_") for key in reference.arrays)
    assert count and len(residuals) == count + 1
    for index, residual in enumerate(residuals[:-1]):
        reference.near(f"{name}_down_{index}", residual)
    reference.near(f"{name}_mid", residuals[-1])


def test_the_control_network(reference, control, forward):
    told = {
        "metadata": reference["fw_md"],
        "hint_metadata": reference["fw_cond_md"][:, :, 0],
        "hint": reference["fw_hint_sr_u8"].float() / 255,
    }
    residuals_are_near(reference, "fw_sr", control.residuals(*forward, **told))
    reference.near("fw_unet100k_sr_out", control.forward(*forward, **told))


def test_the_temporal_control_network(reference, temporal, forward):
    told = {
        "metadata": reference["fw_md"],
        "hint_metadata": reference["fw_cond_md"],
        "hint": reference["fw_hint_3d_u8"].float() / 255,
    }
    residuals_are_near(reference, "fw_3d", temporal.residuals(*forward, **told))
    reference.near("fw_unet100k_3d_out", temporal.forward(*forward, **told))


def test_super_resolved_samples(reference, control):
    cases = reference.cases
    sampled = control.sample(
        reference["latents0"],
        cases["steps"],
        prompt=cases["prompt_sr"],
        negative_prompt=cases["negative_prompt"],
        guidance_scale=cases["guidance"]["sr"],
        metadata=reference["pipe_md_ctrl"],
        hint=reference["pipe_hint_sr_u8"].float() / 255,
        hint_metadata=reference["pipe_cond_md_sr"],
    )
    reference.run(control, "sr", sampled)


@pytest.mark.parametrize("case", ["temporal_g1", "temporal_g5"])
def test_forecast_samples(reference, temporal, case):
    cases = reference.cases
    sampled = temporal.sample(
        reference["latents0"],
        cases["steps"],
        prompt=cases["prompt_temporal"],
        negative_prompt=cases["negative_prompt"],
        guidance_scale=cases["guidance"][case],
        metadata=reference["pipe_md_ctrl"],
        hint=reference.picture("pipe_frames").transpose(0, 1)[None],
        hint_metadata=reference["pipe_cond_md_3d"],
    )
    reference.run(temporal, case, sampled)


def test_sentinel_2_bands(reference):
    bands = hint_bands(reference["s2_dn_u16"].movedim(-1, 0).int(), reference.cases["sentinel2_bands"])
    reference.near("s2_bands10", bands, 1e-7)
    side = reference["s2_hint16"].shape[-1]
    reference.near("s2_hint16", fit_hint(bands, side), 1e-6)
    assert list(HINT) == reference.cases["sentinel2_hint_bands"]
    assert [mean for mean, _ in BANDS.values()] == reference.cases["sentinel2_mean"]
    assert [deviation for _, deviation in BANDS.values()] == reference.cases["sentinel2_std"]


def test_bands_are_found_by_their_names(reference):
    numbers = reference["s2_dn_u16"].movedim(-1, 0).int()
    names = reference.cases["sentinel2_bands"]
    assert torch.equal(hint_bands(numbers.flip(0), names[::-1]), hint_bands(numbers, names))
    with pytest.raises(InvalidRequest, match="B8A"):
        hint_bands(numbers[:8], names[:8])


def test_a_hint_of_another_size_is_refused(reference, control, temporal):
    noise = reference["latents0"]
    with pytest.raises(InvalidRequest, match="hint has shape"):
        control.sample(noise, 1, hint=torch.zeros(1, control.hint_channels, 8, 8))
    with pytest.raises(InvalidRequest, match="needs a picture"):
        control.sample(noise, 1)
    frames = reference.picture("pipe_frames").transpose(0, 1)[None]
    with pytest.raises(InvalidRequest, match="one set of metadata"):
        temporal.sample(noise, 1, hint=frames, hint_metadata=reference["pipe_cond_md_3d"][:, :2])


@pytest.mark.parametrize("name", ["controlnet_sr", "controlnet3d/controlnet"])
def test_control_networks_belong_to_the_earlier_checkpoint(reference, name):
    folder = reference.folder
    assert open_model(folder / name, base=folder / "checkpoint-100000").unet is not None
    with pytest.raises(WeightsDamaged, match="checkpoint-100000"):
        open_model(folder / name, base=folder / "unet")
