"""Folders of Stable Diffusion XL draw what diffusers' own pipelines draw."""

import json
import shutil

import diffusers
import pytest
import torch
from afterimage.engine.diffusion import loop
from afterimage.engine.errors import UnknownModel, UnknownScheduler, WeightsDamaged, WeightsMissing
from afterimage.engine.models.layout import recognise
from afterimage.engine.models.memory import RUNGS
from afterimage.engine.models.published import examine, open_model
from diffusers import ControlNetModel
from safetensors.torch import save_file
from transformers import CLIPTokenizer

TEXTS = ["a farm", "two roads near the sea"]


@pytest.fixture(scope="module")
def make(parity, tiny_xl, tmp_path_factory):
    """A folder: ``make(channels=..., zeroed=..., scheduler=..., **of its schedule)``."""

    def make(channels=4, zeroed=True, scheduler="", **schedule):
        folder = tiny_xl.write_pipeline(
            tmp_path_factory.mktemp("xl") / "pipeline", parity / "rsedit" / "tokenizer", channels, zeroed
        )
        change(folder / "scheduler" / "scheduler_config.json", **schedule)
        if scheduler:
            change(folder / "scheduler" / "scheduler_config.json", _class_name=scheduler)
            index = json.loads((folder / "model_index.json").read_text())
            change(folder / "model_index.json", scheduler=[index["scheduler"][0], scheduler])
        return folder

    return make


@pytest.fixture(scope="module")
def folder(make):
    """As the published weights are."""
    return make()


def change(path, **changed):
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def pipeline(kind, folder, **more):
    """diffusers' own over the same folder."""
    built = getattr(diffusers, kind).from_pretrained(folder, add_watermarker=False, local_files_only=True, **more)
    built.set_progress_bar_config(disable=True)
    return built


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close(ours, theirs, share=1e-4):
    assert (ours - theirs).abs().max() <= share * max(1.0, float(theirs.abs().max()))


def apart(ours, theirs):
    assert (ours - theirs).abs().max() > 100 * 1e-4 * float(theirs.abs().max())


def test_what_lies_in_a_folder(folder, make):
    found = examine(folder)
    assert (found["family"], found["kind"], found["scheduler"]) == (
        "stable_diffusion_xl",
        "text to image",
        "EulerDiscreteScheduler",
    )
    assert found["text"] == {"tokens": 77, "width": 40} and found["conditioning"] == ["prompt", "negative_prompt"]
    found = examine(make(channels=9))
    assert (found["family"], found["kind"]) == ("stable_diffusion_xl", "inpainting")
    assert found["conditioning"] == ["prompt", "negative_prompt", "picture", "repaint"]


def test_what_two_towers_tell(folder):
    """Hidden states before the last layer, side by side, and the projection of the second one's end of text."""
    stock, model = pipeline("StableDiffusionXLPipeline", folder), open_model(folder)
    long = " ".join(["a farm near the sea"] * 30)
    with torch.no_grad():
        states, _, pooled, _ = stock.encode_prompt([*TEXTS, long, ""], do_classifier_free_guidance=False)
    close(model.text([*TEXTS, long, ""]), states, 1e-6)
    close(model.text.pooled([*TEXTS, long, ""]), pooled, 1e-6)
    first, second = model.text.ids(["a farm"])[0]
    assert first[-1] == 693 and second[-1] == 0, "they share a vocabulary and pad differently"
    assert model.text.count("a farm") == int((first != 693).sum()) + 1 and model.text.count(long) > 77
    assert model.text(["a farm"]) is model.text(["a farm"]), "remembered"


def test_one_forward(folder, monkeypatch):
    stock, model = pipeline("StableDiffusionXLPipeline", folder), open_model(folder)
    sample, timestep = normal(2, 4, 12, 8), torch.tensor([801.0, 17.0])
    told = {"text": normal(2, 77, 40, seed=2), "pooled": normal(2, 20, seed=3)}
    ids = torch.tensor([(96.0, 64.0, 0.0, 0.0, 96.0, 64.0)]).expand(2, -1)
    with torch.no_grad():
        theirs = stock.unet(
            sample, timestep, told["text"], added_cond_kwargs={"text_embeds": told["pooled"], "time_ids": ids}
        ).sample
    assert (model.forward(sample, timestep, **told) - theirs).abs().max() <= 1e-5
    apart(model.forward(sample, timestep, text=told["text"], pooled=-told["pooled"]), theirs)
    added = model.added
    monkeypatch.setattr(model, "added", lambda *given: {**added(*given), "time_ids": ids.flip(1)})
    apart(model.forward(sample, timestep, **told), theirs)


@pytest.mark.parametrize(
    ("scheduler", "schedule", "guidance_scale", "negative", "zeroed"),
    [
        ("", {}, 5.0, "", True),
        ("", {}, 5.0, "", False),
        ("", {}, 7.5, "blurred", True),
        ("", {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}, 3.0, "", True),
        ("DDIMScheduler", {"steps_offset": 0, "clip_sample": False}, 5.0, "blurred", False),
        ("DPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}, 4.0, "", True),
        ("", {"use_karras_sigmas": True}, 1.0, "", True),
    ],
)
def test_text_to_image(make, scheduler, schedule, guidance_scale, negative, zeroed):
    folder = make(zeroed=zeroed, scheduler=scheduler, **schedule)
    stock, model = pipeline("StableDiffusionXLPipeline", folder), open_model(folder)
    noise = normal(2, 4, 8, 12)
    told = {"height": 64, "width": 96, "num_inference_steps": 5, "guidance_scale": guidance_scale, "latents": noise}
    theirs = stock(TEXTS, negative_prompt=[negative] * 2 if negative else None, output_type="latent", **told).images
    asked = {"negative_prompt": negative, "guidance_scale": guidance_scale}
    sampled = model.sample(noise, 5, prompt=TEXTS, **asked)
    close(sampled.latents, theirs)
    assert len(sampled.timesteps) == 5
    with torch.no_grad():
        pixels = stock.vae.decode(theirs / stock.vae.config.scaling_factor).sample / 2 + 0.5
    close(model.decode(theirs), pixels.clamp(0, 1))
    if guidance_scale > 1 and not negative:  # what empty means is what the folder says
        model._zeroed = not zeroed
        apart(model.sample(noise, 5, prompt=TEXTS, **asked).latents, theirs)


def test_an_empty_negative_prompt_of_one_sample(folder):
    model, noise = open_model(folder), normal(2, 4, 8, 8)
    both = model.sample(noise, 3, prompt=TEXTS, negative_prompt=["", "blurred"]).latents
    for k, negative in enumerate(("", "blurred")):
        alone = model.sample(noise[k : k + 1], 3, prompt=TEXTS[k], negative_prompt=negative).latents
        close(both[k : k + 1], alone)


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.75])
def test_a_picture_under_noise(folder, strength):
    """SDEdit as the edit task starts it, and diffusers' pipeline from image to image."""
    stock, model = pipeline("StableDiffusionXLImg2ImgPipeline", folder), open_model(folder)
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    latents = model.codec.encode(picture)
    with torch.no_grad():
        mode = stock.vae.encode(picture * 2 - 1).latent_dist.mode() * 0.13025
    close(latents, mode)
    theirs = stock(
        "a farm",
        image=mode,
        strength=strength,
        num_inference_steps=8,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(1),
        original_size=(64, 96),
        target_size=(64, 96),
        output_type="latent",
    ).images
    predict = model.predictor(1, prompt="a farm", guidance_scale=5.0)
    noise = normal(1, 4, 8, 12)
    ours = loop.sample(predict, model.scheduler(), 8, lambda stream: noise, source=latents, strength=strength)
    close(ours, theirs)


def test_a_folder_as_todays_libraries_write_it(folder, make):
    """Vocabulary and merges in one file."""
    written = make()
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer = CLIPTokenizer.from_pretrained(written / name)
        shutil.rmtree(written / name)
        tokenizer.save_pretrained(written / name)
        assert not (written / name / "vocab.json").exists()
    ids = open_model(written).text.ids([*TEXTS, "", "roof " * 100])
    assert torch.equal(ids, open_model(folder).text.ids([*TEXTS, "", "roof " * 100]))
    (written / "tokenizer_2" / "tokenizer.json").unlink()
    refused(written, WeightsMissing, "tokenizer_2/vocab.json")


def test_inpainting(make):
    folder = make(channels=9)
    noise = normal(1, 4, 8, 8)
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand(1, 3, 64, 64, generator=generator)
    repaint = torch.zeros(1, 1, 64, 64)
    repaint[..., 10:40, 20:] = torch.rand(30, 44, generator=generator)
    stock = pipeline("StableDiffusionXLInpaintPipeline", folder)
    stock._encode_vae_image = lambda image, generator: stock.vae.encode(image).latent_dist.mode() * 0.13025
    theirs = stock(
        "a farm",
        image=picture * 2 - 1,
        mask_image=repaint,
        height=64,
        width=64,
        strength=1.0,
        num_inference_steps=4,
        guidance_scale=7.5,
        latents=noise,
        output_type="latent",
    ).images
    model = open_model(folder)
    told = {"prompt": "a farm", "guidance_scale": 7.5, "repaint": repaint}
    close(model.sample(noise, 4, picture=picture, **told).latents, theirs)
    apart(model.sample(noise, 4, picture=1 - picture, **told).latents, theirs)


@pytest.mark.parametrize("hint_scale", [1.0, 0.4])
def test_a_control_network(folder, tiny_xl, tmp_path, hint_scale):
    control = tiny_xl.write_control(tmp_path / "controlnet")
    noise, hint = normal(1, 4, 8, 8), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    network = ControlNetModel.from_pretrained(control)
    stock = pipeline("StableDiffusionXLControlNetPipeline", folder, controlnet=network)
    told = {"num_inference_steps": 4, "guidance_scale": 5.0, "latents": noise, "output_type": "latent"}
    theirs = stock("a farm", image=hint, controlnet_conditioning_scale=hint_scale, **told).images
    apart(stock("a farm", image=hint, controlnet_conditioning_scale=0.0, **told).images, theirs)
    model = open_model(control, folder)
    assert (recognise(control, folder).family, model.title) == (
        "stable_diffusion_xl_control",
        "Stable Diffusion XL with a ControlNet",
    )
    close(model.sample(noise, 4, prompt="a farm", hint=hint, hint_scale=hint_scale).latents, theirs)


def test_latents_whose_channels_have_means_of_their_own(make):
    """As Playground 2.5 writes its autoencoder."""
    folder = make()
    means, deviations = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]
    change(folder / "vae" / "config.json", latents_mean=means, latents_std=deviations, scaling_factor=0.5)
    stock, model = pipeline("StableDiffusionXLPipeline", folder), open_model(folder)
    told = {"height": 64, "width": 64, "num_inference_steps": 3, "guidance_scale": 5.0, "latents": normal(1, 4, 8, 8)}
    theirs = stock("a farm", output_type="pt", **told).images
    sampled = model.sample(told["latents"], 3, prompt="a farm")
    close(model.decode(sampled.latents), theirs)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        mode = stock.vae.encode(picture * 2 - 1).latent_dist.mode()
    column = [torch.tensor(each).view(1, 4, 1, 1) for each in (means, deviations)]
    close(model.codec.encode(picture), (mode - column[0]) * 0.5 / column[1])
    close(model.codec.encode(picture, scaled=False), mode)


# --- what cannot be -----------------------------------------------------------------------------------------------


def refused(folder, error, says, open_it=open_model):
    with pytest.raises(error, match=says) as told:
        open_it(folder)
    assert str(folder) not in told.value.message and "\n" not in told.value.message and told.value.hint


@pytest.mark.parametrize(
    ("file", "changed", "error", "says"),
    [
        ("model_index.json", {"requires_aesthetics_score": True}, UnknownModel, "refiner"),
        ("unet/config.json", {"in_channels": 8}, UnknownModel, "follows instructions"),
        ("unet/config.json", {"addition_embed_type": "image"}, UnknownModel, "no family"),
        ("unet/config.json", {"encoder_hid_dim_type": "text_proj"}, UnknownModel, "no family"),
        ("unet/config.json", {"projection_class_embeddings_input_dim": 60}, WeightsDamaged, "different models|shape"),
        ("unet/config.json", {"time_cond_proj_dim": 8}, WeightsDamaged, "missing|distilled"),
        ("text_encoder_2/config.json", {"projection_dim": 16}, WeightsDamaged, "second text encoder.*shape"),
        ("text_encoder_2/config.json", {"max_position_embeddings": 70}, WeightsDamaged, "second text encoder.*shape"),
        ("unet/config.json", {"cross_attention_dim": [40, 40, 40]}, WeightsDamaged, "U-Net"),
        (
            "vae/config.json",
            {"latents_mean": "xxxx", "latents_std": [1.0] * 4},
            WeightsDamaged,
            "does not make a scale",
        ),
        ("vae/config.json", {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 4}, WeightsDamaged, "3 means"),
        ("vae/config.json", {"latents_mean": [0.0] * 4, "latents_std": [1.0]}, WeightsDamaged, "1 means"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(make, file, changed, error, says):
    folder = make()
    change(folder / file, **changed)
    refused(folder, error, says)


@pytest.mark.parametrize("name", ["DDIM", "DDPM"])
def test_another_scheduler_than_the_folders_own_clips_no_latents(folder, name):
    """The folder's own has no such option, and diffusers' default is to clip to -1..1."""
    from afterimage.engine.models.latent_diffusion import make_sampler
    from afterimage.engine.models.picture import PLAIN
    from afterimage.engine.models.schedulers import CLASSES

    network = open_model(folder)
    assert "clip_sample" not in network.schedule
    made = make_sampler(CLASSES[name], network.schedule, {**network.mended, **PLAIN})
    assert made.config.clip_sample is False
    made.set_timesteps(4)
    x, t = torch.full((1, 4, 2, 2), 9.0), made.timesteps[-1]
    assert made.step(torch.zeros_like(x), t, x).pred_original_sample.abs().min() > 5


def test_what_a_scheduler_does_that_is_not_known_here_is_not_guessed(folder):
    from afterimage.engine.models.latent_diffusion import make_sampler

    with pytest.raises(UnknownScheduler, match="not known here"):
        make_sampler("LCMScheduler", open_model(folder).schedule)


def test_towers_of_another_model(make, folder, parity, tiny_xl, monkeypatch, tmp_path):
    monkeypatch.setattr(tiny_xl, "WIDTHS", (16, 32))
    words = parity / "rsedit" / "tokenizer"
    other = tiny_xl.write_pipeline(tmp_path / "other", words)
    mixed = make()
    (mixed / "text_encoder_2").rename(mixed / "unused")
    (other / "text_encoder_2").rename(mixed / "text_encoder_2")
    refused(mixed, WeightsDamaged, "different models")
    (mixed / "text_encoder_2").rename(mixed / "unused_too")
    refused(mixed, WeightsMissing, "text_encoder_2")


def test_a_control_network_of_stable_diffusion_1_is_none_of_xl(folder, tiny_xl, tmp_path):
    control = tiny_xl.write_control(tmp_path / "controlnet")
    change(control / "config.json", addition_embed_type=None)
    refused(control, WeightsDamaged, "another base", lambda path: open_model(path, folder))


def test_one_file_with_everything_is_refused(tmp_path):
    names = ("conditioner.embedders.1.model.ln_final.weight", "model.diffusion_model.out.2.bias")
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "sd_xl.safetensors")
    refused(tmp_path / "sd_xl.safetensors", UnknownModel, "in one file")
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert recognise(tmp_path / "other.safetensors").family == "crs_diff"


# --- on every rung ------------------------------------------------------------------------------------------------

RUNG = {rung.name: rung for rung in RUNGS}
HOST, META = torch.device("cpu"), torch.device("meta")


@pytest.mark.parametrize(("half", "bound"), [(torch.float16, 0.015), (torch.bfloat16, 0.1)], ids=str)
def test_half_precision_is_near(folder, half, bound):
    noise, asked = normal(1, 4, 8, 8), {"prompt": "two roads", "negative_prompt": "blurred"}
    exact = open_model(folder).sample(noise, 3, **asked).latents
    found, seen = [], []
    for name in ("parts", "turns"):
        model = open_model(folder)
        model.place(RUNG[name], HOST, half, 8)
        assert {p.dtype for p in model.unet.add_embedding.parameters()} == {torch.float32}
        model.unet.add_embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
        found.append(model.sample(noise, 3, **asked).latents)
    assert set(seen) == {torch.float32}, "the numbers of the frame are rounded nowhere"
    assert torch.equal(*found) and found[0].dtype == torch.float32
    assert 0 < (found[0] - exact).abs().max() <= bound * exact.abs().max()


def test_both_towers_come_and_go_together(folder):
    model = open_model(folder)
    model.place(RUNG["turns"], META, torch.float16, 8)
    seen = []

    def watch(network, args):
        seen.append([{p.device.type for p in each.parameters()} for each in (model.text.network, model.unet)])

    for network in (model.text.network.first, model.text.network.second, model.unet):
        network.register_forward_pre_hook(watch)
    predict = model.predictor(1, prompt="a farm", negative_prompt="blurred", guidance_scale=5.0)
    predict(torch.zeros(1, 4, 8, 8, device=META), torch.tensor(5, device=META))
    text, unet = [{"meta"}, {"cpu"}], [{"cpu"}, {"meta"}]
    assert seen == [text] * 4 + [unet] * 2, "both texts through both towers, then both branches, one at a time"
