"""RSEdit's U-Net edits as the stock InstructPix2Pix pipeline does."""

import pytest
import torch
from afterimage.engine.errors import InvalidRequest
from afterimage.engine.models.published import open_model


@pytest.fixture(scope="module")
def reference(parity, make_reference):
    return make_reference(parity / "rsedit")


@pytest.fixture(scope="module")
def model(reference):
    return open_model(reference.folder)


@pytest.mark.parametrize("which", ["prompt", "negative"])
def test_text_to_states(reference, model, which):
    text = reference.cases["prompt" if which == "prompt" else "negative_prompt"]
    ids = model.text.ids([text])[0]
    assert torch.equal(ids, reference[f"ids_{which}"])
    reference.near(f"emb_{which}", model.text.states(ids[None])[0])


def test_the_picture_is_told_unscaled(reference, model):
    picture = reference.picture("pre_image")[None]
    reference.near("pre_latents", model.codec.encode(picture, scaled=False))


def test_the_network(reference, model):
    told = reference["fw_sample"], reference["fw_timestep"], reference["fw_text"]
    reference.near("fw_unet_out", model.forward(*told))
    latents, context = told[0].split(model.codec.channels, dim=1)
    reference.near("fw_unet_out", model.forward(latents, *told[1:], context=context))


@pytest.mark.parametrize("case", ["edit", "no image guidance"])
def test_samples(reference, model, case):
    cases = reference.cases
    sampled = model.sample(
        reference["latents0"],
        cases["steps"],
        prompt=cases["prompt"],
        negative_prompt=cases["negative_prompt"],
        guidance_scale=cases["guidance"],
        image_guidance_scale=cases["image_guidance"] if case == "edit" else 1.0,
        picture=reference.picture("pre_image")[None],
    )
    assert torch.equal(sampled.timesteps, reference["pndm_timesteps"])
    if case == "edit":
        reference.run(model, "edit", sampled)
    else:
        reference.near("edit_latents_no_image_guidance", sampled.latents, 1e-4)


def test_it_needs_a_picture(reference, model):
    with pytest.raises(InvalidRequest, match="needs a picture"):
        model.sample(reference["latents0"], 1, prompt="flood")
    with pytest.raises(InvalidRequest, match="level"):
        model.sample(reference["latents0"], 1, picture=reference.picture("pre_image")[None], level=16)
