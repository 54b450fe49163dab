"""Stock Stable Diffusion folders draw what diffusers' own pipelines draw."""

import json
import shutil

import diffusers
import pytest
import torch
from afterimage.engine.models.published import open_model
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

#: Networks of no family in particular: three levels, so that nothing here fits by being as in the references.
SIZES = {
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "block_out_channels": (8, 16, 24),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "attention_head_dim": (2, 4, 4),
    "cross_attention_dim": 16,
}


@pytest.fixture(scope="module")
def make_stock(parity, tmp_path_factory):
    """A pipeline folder around a random U-Net: text side, autoencoder and schedule of the RSEdit references."""

    def make(channels, prediction="epsilon", scheduler="PNDMScheduler"):
        folder = tmp_path_factory.mktemp("stock")
        for part in ("vae", "text_encoder", "tokenizer"):
            shutil.copytree(parity / "rsedit" / part, folder / part)
        torch.manual_seed(channels)
        UNet2DConditionModel(
            in_channels=channels,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            sample_size=8,
            **SIZES,
        ).save_pretrained(folder / "unet")
        schedule = json.loads((parity / "rsedit" / "scheduler" / "scheduler_config.json").read_text())
        schedule |= {"prediction_type": prediction, "_class_name": scheduler}
        (folder / "scheduler").mkdir()
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
        return folder

    return make


def pipeline(kind, folder, **more):
    """The stock pipeline over the same files."""
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    built = getattr(diffusers, kind)(
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=getattr(diffusers, schedule["_class_name"]).from_config(schedule),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **more,
    )
    built.set_progress_bar_config(disable=True)
    return built


def close(ours, theirs, share=1e-4):
    assert (ours - theirs).abs().max() <= share * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize(
    ("prediction", "scheduler", "guidance_scale"),
    [
        ("epsilon", "PNDMScheduler", 7.5),
        ("v_prediction", "DDIMScheduler", 3.0),
        ("epsilon", "EulerDiscreteScheduler", 1.0),
        ("epsilon", "DPMSolverMultistepScheduler", 5.0),
    ],
)
def test_text_to_image(make_stock, prediction, scheduler, guidance_scale):
    folder = make_stock(4, prediction, scheduler)
    noise = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    theirs = pipeline("StableDiffusionPipeline", folder)(
        ["a farm", "two roads"],
        negative_prompt=["blurred"] * 2,
        height=64,
        width=96,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        latents=noise,
        output_type="latent",
    ).images
    model = open_model(folder)
    sampled = model.sample(
        noise, 5, prompt=["a farm", "two roads"], negative_prompt="blurred", guidance_scale=guidance_scale
    )
    close(sampled.latents, theirs)
    close(sampled.trace[-1], theirs)


def test_inpainting(make_stock):
    folder = make_stock(9)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    picture = torch.rand(1, 3, 64, 64, generator=generator)
    repaint = torch.zeros(1, 1, 64, 64)
    repaint[..., 10:40, 20:] = torch.rand(30, 44, generator=generator)
    stock = pipeline("StableDiffusionInpaintPipeline", folder)
    mode = {"sample_mode": "argmax"}
    encode = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint.retrieve_latents
    stock._encode_vae_image = lambda image, generator: (
        encode(stock.vae.encode(image), **mode) * stock.vae.config.scaling_factor
    )
    theirs = stock(
        "a farm",
        image=picture,
        mask_image=repaint,
        height=64,
        width=64,
        num_inference_steps=4,
        latents=noise,
        output_type="latent",
    ).images
    sampled = open_model(folder).sample(noise, 4, prompt="a farm", picture=picture, repaint=repaint)
    close(sampled.latents, theirs)


@pytest.mark.parametrize("hint_scale", [1.0, 0.4])
def test_a_control_network(make_stock, hint_scale):
    folder = make_stock(4)
    torch.manual_seed(7)
    control = ControlNetModel(conditioning_embedding_out_channels=(4, 8, 8, 12), **SIZES)
    for convolution in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
        torch.nn.init.normal_(convolution.weight, std=0.1)  # made as zeros, which would steer nothing
    torch.nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=0.1)
    control.save_pretrained(folder / "controlnet")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    hint = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    stock = pipeline("StableDiffusionControlNetPipeline", folder, controlnet=control.eval())
    told = {"num_inference_steps": 4, "latents": noise, "output_type": "latent"}
    theirs = stock("a farm", image=hint, controlnet_conditioning_scale=hint_scale, **told).images
    without = stock("a farm", image=hint, controlnet_conditioning_scale=0.0, **told).images
    assert (theirs - without).abs().max() > 0.01
    for place, base in ((folder, None), (folder / "controlnet", folder)):
        model = open_model(place, base)
        close(model.sample(noise, 4, prompt="a farm", hint=hint, hint_scale=hint_scale).latents, theirs)
