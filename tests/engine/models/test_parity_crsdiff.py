"""CRS-Diff draws what its own code drew."""

import pytest
import torch
from afterimage.engine.errors import InvalidRequest, WeightsDamaged
from afterimage.engine.models.crs_diff import FIELDS, MAPS, metadata_vector
from afterimage.engine.models.metadata import UNKNOWN
from afterimage.engine.models.published import open_model


@pytest.fixture(scope="module")
def reference(parity, make_reference):
    return make_reference(parity / "crsdiff")


@pytest.fixture(scope="module")
def model(reference):
    return open_model(reference.folder / "last.ckpt")


@pytest.fixture
def forward(reference):
    """Sample, timestep and text of the forward tests."""
    return reference["fw_sample"], reference["fw_timestep"], reference["fw_text"]


@pytest.fixture
def told(reference, model):
    return {
        "metadata": reference["md_norm"][1:3].float(),
        "maps": reference.picture("maps_u8").flatten(1, 2),
        "content": reference["fw_global"][:, : model.tokens.width],
        "content_strength": torch.ones(2),
    }


def test_metadata_in_the_units_of_the_world(reference):
    assert list(FIELDS) == reference.cases["metadata_order"]
    for raw, expected in zip(reference["md_raw"], reference["md_norm"]):
        ours = metadata_vector(**dict(zip(FIELDS, raw.tolist())))
        assert torch.allclose(ours, expected.float(), rtol=1e-6, atol=1e-7)


def test_the_published_example():
    """The default of the authors' demo: "2015,12,31,0,0,0,0"."""
    ours = metadata_vector(year=2015, month=12, day=31, gsd=0, cloud_cover=0, latitude=0, longitude=0)
    assert torch.allclose(ours, torch.tensor([0.795455, 1, 1, 0, 0, 0.5, 0.5]), atol=1e-6)


def test_the_metadata_embedding(reference, model):
    reference.near("md_embedding", model.metadata_embedding(reference["md_norm"].float()), 2e-6)
    reference.near("md_embedding_zero", model.metadata_embedding(torch.full((1, len(FIELDS)), UNKNOWN)))


def test_text_to_states(reference, model):
    cases = reference.cases
    for k, prompt in enumerate([*cases["prompts"], cases["sample"]["negative_prompt"]]):
        name = f"ids_{k}" if k < len(cases["prompts"]) else "ids_negative"
        assert torch.equal(model.text.ids([prompt])[0], reference[name])
    reference.near("fw_text", model.text(cases["prompts"]))
    reference.near("emb_negative", model.text([cases["sample"]["negative_prompt"]])[0])


def test_the_content_tokens(reference, model, told):
    reference.near("fw_content_tokens", model.content_tokens(told["content"]))
    reference.near("content_tokens_zero", model.content_tokens(torch.zeros_like(told["content"][:1])))


def test_the_hint_features(reference, model, told):
    features = model.hint_features(told["maps"])
    for k, feature in enumerate(features):
        reference.near(f"fw_hint_feature_{k}", feature)
    assert f"fw_hint_feature_{len(features)}" not in reference


def test_the_residuals(reference, model, forward, told):
    residuals = model.residuals(
        *forward, content=told["content"], content_strength=told["content_strength"], maps=told["maps"]
    )
    assert f"fw_ctrl_{len(residuals):02}" not in reference
    for k, residual in enumerate(residuals):
        reference.near(f"fw_ctrl_{k:02}", residual)


def test_the_network(reference, model, forward, told):
    nothing = {name: torch.zeros_like(value) for name, value in told.items()}
    reference.near("fw_eps", model.forward(*forward, **told))
    half = told | {"content_strength": torch.full((2,), 0.5)}
    reference.near("fw_eps_strength_half", model.forward(*forward, **half))
    reference.near("fw_eps_md_zero", model.forward(*forward, **told | {"metadata": nothing["metadata"]}))
    reference.near("fw_eps_maps_zero", model.forward(*forward, **told | {"maps": nothing["maps"]}))


@pytest.mark.parametrize("named", [True, False])
def test_samples(reference, model, named):
    case = reference.cases["sample"]
    pictures = reference.picture("maps_u8")[case["maps_row"]]
    maps = {name: pictures[k][None] for k, name in enumerate(MAPS)} if named else pictures.flatten(0, 1)[None]
    sampled = model.sample(
        reference["sample_xT"],
        case["steps"],
        prompt=case["prompt"],
        negative_prompt=case["negative_prompt"],
        guidance_scale=case["guidance"],
        metadata=metadata_vector(**dict(zip(FIELDS, reference["md_raw"][case["metadata_row"]].tolist()))),
        maps=maps,
        content=reference["fw_global"][case["global_row"], : model.tokens.width],
        content_strength=case["global_strength"],
    )
    reference.run(model, "sample", sampled)
    drawn = model.decode(sampled.latents)[0].movedim(0, -1)
    bytes_ = (drawn * 255).clamp(0, 255).to(torch.uint8)
    assert (bytes_.int() - reference["sample_image_u8"].int()).abs().max() <= 1


@pytest.mark.parametrize("steps", [5, 30, 50])
def test_timesteps(reference, model, steps):
    scheduler = model.scheduler()
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.flip(0).tolist() == reference[f"ddim_timesteps_{steps}"].tolist()


def test_steps_that_its_own_code_cannot_do_are_refused(reference, model):
    with pytest.raises(InvalidRequest, match="999 steps") as told:
        model.sample(reference["sample_xT"], 999)
    assert told.value.hint == "Choose 50 steps, or another number up to 500 that divides 1000."


def test_the_autoencoder(reference, model):
    picture = reference.picture("maps_u8")[0, MAPS.index("segmentation")][None]
    reference.near("vae_moments_seg", model.codec.moments(picture)[0], 1e-5)


def test_what_does_not_fit_is_refused(reference, model):
    noise = reference["sample_xT"]
    with pytest.raises(InvalidRequest, match="no map called roads"):
        model.sample(noise, 5, maps={"roads": torch.zeros(1, 3, 64, 128)})
    with pytest.raises(InvalidRequest, match="maps have"):
        model.sample(noise, 5, maps={"road": torch.zeros(1, 3, 64, 64)})
    with pytest.raises(InvalidRequest, match="hint"):
        model.sample(noise, 5, hint=torch.zeros(1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors: tensors.pop("metadata_emb.mlp_models.0.fc1.bias"), "missing"),
        (lambda tensors: tensors.update({"more": torch.zeros(1)}), "no part of CRS-Diff"),
        (lambda tensors: tensors.update({"local_adapter.more": torch.zeros(1)}), "not part of the network"),
        (lambda tensors: [tensors.pop(key) for key in list(tensors) if key.startswith("local_")], "no CRS-Diff"),
        (lambda tensors: tensors["betas"].mul_(2), "noise schedule"),
    ],
)
def test_another_checkpoint_is_refused(reference, tmp_path, change, says):
    for name in ("config.json", "tokenizer"):
        (tmp_path / name).symlink_to(reference.folder / name)
    content = torch.load(reference.folder / "last.ckpt", weights_only=True)
    change(content["state_dict"])
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(WeightsDamaged, match=says):
        open_model(tmp_path)
