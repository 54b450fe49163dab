"""At their published sizes the networks have the published keys, shapes and numbers of weights; no memory is used."""

import weakref

import pytest
import torch
from afterimage.engine.models.crs_diff import PUBLISHED
from afterimage.engine.models.crs_diff import MetadataEmbedding as CrsEmbedding
from afterimage.engine.models.diffusionsat import MetadataEmbedding
from afterimage.engine.models.diffusionsat_control import OWN, reduce_strides, stock_options
from afterimage.engine.models.diffusionsat_temporal import FrameHint, TemporalControlNet
from afterimage.engine.models.latent_diffusion import Parts
from afterimage.engine.models.ldm import autoencoder_config, autoencoder_key, unet_config, unet_key
from afterimage.engine.models.local_adapter import ContentTokens, LocalAdapter
from afterimage.engine.models.memory import DECODED, MAPS, RUNGS, need
from afterimage.engine.models.paired_text import PairedText, TwoTowers
from afterimage.engine.models.stable_diffusion_xl import StableDiffusionXL
from afterimage.engine.models.stable_diffusion_xl_control import ControlledStableDiffusionXL
from afterimage.engine.models.statedict import build
from afterimage.engine.models.vae import PictureCodec
from afterimage.engine.store import catalogue
from afterimage.engine.store.measure import measure
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

#: Stable Diffusion 2.1 as DiffusionSat's configurations write it.
SD21 = {
    "in_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "norm_num_groups": 32,
    "num_metadata": 7,
}
UNET = {**SD21, "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, "class_embed_type": "identity"}
#: As the configurations of stabilityai/stable-diffusion-xl-base-1.0 have it.
XL = {
    "in_channels": 4,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
XL_UNET = {**XL, "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]}
AUTOENCODER = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "scaling_factor": 0.13025,
}
#: The text tower of OpenCLIP ViT-bigG/14, and that of CLIP ViT-L/14.
BIG = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
LARGE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CONTROL = {
    **SD21,
    "conditioning_in_channels": 3,
    "conditioning_embedding_out_channels": [16, 32, 96, 256],
    "use_metadata": True,
    "use_temporal_transformer": True,
}


def millions(network):
    return round(sum(p.numel() for p in network.parameters()) / 1e6, 1)


@pytest.fixture(autouse=True)
def meta():
    with torch.device("meta"):
        yield


def test_diffusionsat():
    assert millions(build(UNet2DConditionModel, UNET, "U-Net", own=["num_metadata"])) == 865.9
    embedding = MetadataEmbedding(SD21)
    assert millions(embedding) == 14.4
    shapes = {key: tuple(value.shape) for key, value in embedding.state_dict().items()}
    assert len(shapes) == 28
    assert (shapes["6.linear_1.weight"], shapes["6.linear_2.weight"]) == ((1280, 320), (1280, 1280))


def test_diffusionsats_attention_over_time():
    trunk = build(ControlNetModel, stock_options(CONTROL), "ControlNet", own=OWN)
    trunk.controlnet_cond_embedding = FrameHint(3, (16, 32, 96, 256), 320)
    control = TemporalControlNet(trunk, CONTROL)
    assert list(control.temporal_blocks) == ["0", "3", "6", "9"]
    heads = {k: (b.num_attention_heads, b.attention_head_dim) for k, b in control.temporal_blocks.items()}
    assert heads == {"0": (8, 64), "3": (64, 5), "6": (64, 10), "9": (64, 20)}
    assert len(control.mixing_attns) == 12
    assert millions(control.temporal_blocks) == 52.9


@pytest.mark.parametrize(("scale", "strides"), [(1, [2, 2, 2]), (2, [2, 2, 1]), (4, [2, 1, 1]), (8, [1, 1, 1])])
def test_the_hint_encoder_of_diffusionsats_super_resolution(scale, strides):
    control = build(ControlNetModel, stock_options(CONTROL | {"conditioning_in_channels": 10}), "ControlNet", own=OWN)
    reduce_strides(control, scale)
    blocks = control.controlnet_cond_embedding.blocks
    assert [block.stride[0] for block in blocks[1::2]] == strides
    assert control.controlnet_cond_embedding.conv_in.in_channels == 10


def test_text2earth():
    config = {**UNET, "class_embed_type": "timestep"}
    assert millions(build(UNet2DConditionModel, config, "U-Net", own=["num_metadata"])) == 868.0


def xl_parts():
    first = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **LARGE))
    second = CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=49408, projection_dim=1280, **BIG))
    codec = build(AutoencoderKL, AUTOENCODER, "autoencoder")
    return Parts(PairedText((None, None), TwoTowers(first, second)), PictureCodec(codec), {})


def test_stable_diffusion_xl():
    """The sum is Podell et al. 2023, table 1, in millions: a U-Net of 2.6 thousand, text encoders of 817."""
    towers = xl_parts().text.network
    assert (millions(towers.first), millions(towers.second)) == (123.1, 694.7)
    assert millions(build(UNet2DConditionModel, XL_UNET, "U-Net")) == 2567.5
    assert millions(build(ControlNetModel, XL, "ControlNet")) == 1251.0


@pytest.mark.parametrize(
    ("offer", "channels", "gigabytes"),
    [
        ("stable-diffusion-xl", 4, (14.0, 12.2, 6.6, 6.4, 21.2, 17.0)),
        ("stable-diffusion-xl-inpainting", 9, (14.0, 12.2, 6.6, 6.4, 21.2, 17.0)),
        ("stable-diffusion-xl-edges", 4, (16.8, 15.0, 6.6, 6.4, 26.7, 22.5)),
    ],
)
def test_what_stable_diffusion_xl_costs(offer, channels, gigabytes):
    """The figures of its offers, and of docs/published-models.md; both networks are told what its towers tell."""
    unet = build(UNet2DConditionModel, XL_UNET | {"in_channels": channels}, "U-Net")
    if offer.endswith("edges"):
        model = ControlledStableDiffusionXL(xl_parts(), unet, True, build(ControlNetModel, XL, "ControlNet"))
    else:
        model = StableDiffusionXL(xl_parts(), unet, True)
    card = catalogue.find(offer).card
    size = model.size(card.window // 8, 2)
    assert tuple(round(need(rung, size) / 1e9, 1) for rung in RUNGS) == gigabytes
    found = measure(model, card.family, card.window)
    for name in ("parameters", "memory_mb", "gflop_per_window_step", "gflop_decode_per_megapixel"):
        assert getattr(found, name) == getattr(card, name), name


class Live(TorchDispatchMode):
    """Bytes of the tensors alive at once, at most; attention keeps none but its result, as fused kernels do."""

    def __init__(self):
        super().__init__()
        self.peak, self._now, self._seen = 0, 0, set()

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        made = call(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._seen:
                storage = tensor.untyped_storage()
                self._seen.add(storage._cdata)
                self._now += storage.nbytes()
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return made

    def _gone(self, key, size):
        self._seen.discard(key)
        self._now -= size


def test_the_ladder_takes_more_feature_maps_than_are_alive_at_once(monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda q, *_, **__: torch.empty_like(q))

    def maps(call, width, side):
        with torch.inference_mode(), Live() as live:
            call()
        return live.peak / (4 * width * side**2)

    zero, added = torch.zeros(()), {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)}
    unet = build(UNet2DConditionModel, XL_UNET, "U-Net")
    words = torch.zeros(1, 77, 2048)
    found = maps(lambda: unet(torch.zeros(1, 4, 128, 128), zero, words, added_cond_kwargs=added), 320, 128)
    assert round(found) == 16 < MAPS
    first = {**unet_config(PUBLISHED["unet_config"]["params"])}
    unet = build(UNet2DConditionModel, first, "U-Net")  # Stable Diffusion 1
    assert round(maps(lambda: unet(torch.zeros(1, 4, 64, 64), zero, torch.zeros(1, 77, 768)), 320, 64)) == 26 < MAPS
    codec = build(AutoencoderKL, AUTOENCODER, "autoencoder")
    assert round(maps(lambda: codec.decode(torch.zeros(1, 4, 128, 128)), 256, 1024)) == 3 < DECODED


def test_crs_diff():
    adapter = LocalAdapter(PUBLISHED["local_control_config"]["params"])
    assert millions(adapter) == 419.5
    assert len(adapter.zero_convs) == 12
    assert millions(ContentTokens(PUBLISHED["global_content_control_config"]["params"])) == 47.2
    embedding = CrsEmbedding(PUBLISHED["metadata_config"]["params"], 1280)
    assert {tuple(value.shape) for value in embedding.state_dict().values()} == {(1280, 320), (1280,)}


def test_crs_diffs_unet_is_that_of_stable_diffusion_1():
    unet = build(UNet2DConditionModel, unet_config(PUBLISHED["unet_config"]["params"]), "U-Net")
    assert millions(unet) == 859.5
    for old, new in {
        "input_blocks.3.0.op.weight": "down_blocks.0.downsamplers.0.conv.weight",
        "input_blocks.11.0.out_layers.3.bias": "down_blocks.3.resnets.1.conv2.bias",
        "middle_block.1.proj_in.weight": "mid_block.attentions.0.proj_in.weight",
        "output_blocks.2.1.conv.weight": "up_blocks.0.upsamplers.0.conv.weight",
        "output_blocks.5.2.conv.weight": "up_blocks.1.upsamplers.0.conv.weight",
        "output_blocks.11.1.norm.weight": "up_blocks.3.attentions.2.norm.weight",
        "out.2.weight": "conv_out.weight",
    }.items():
        assert unet_key(old, layers=2) == new and new in unet.state_dict()


def test_crs_diffs_autoencoder():
    config = autoencoder_config(PUBLISHED["first_stage_config"]["params"], PUBLISHED["scale_factor"])
    network = build(AutoencoderKL, config, "autoencoder")
    assert millions(network) == 83.7
    for old, new in {
        "decoder.up.3.block.2.norm1.weight": "decoder.up_blocks.0.resnets.2.norm1.weight",
        "decoder.up.0.block.0.nin_shortcut.weight": "decoder.up_blocks.3.resnets.0.conv_shortcut.weight",
        "encoder.down.2.downsample.conv.bias": "encoder.down_blocks.2.downsamplers.0.conv.bias",
        "encoder.mid.attn_1.q.weight": "encoder.mid_block.attentions.0.to_q.weight",
        "quant_conv.weight": "quant_conv.weight",
    }.items():
        assert autoencoder_key(old, levels=4) == new and new in network.state_dict()
