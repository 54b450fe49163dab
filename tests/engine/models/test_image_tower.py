"""CLIP's image tower: the vector of a picture is transformers' own, and what is no such tower is refused."""

import json
import shutil

import pytest
import torch
from afterimage.engine.errors import OutOfMemory, UnknownModel, WeightsDamaged, WeightsMissing
from afterimage.engine.models import image_tower
from afterimage.engine.models.image_tower import PROCESSING, ImageTower
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

WEIGHTS = "model.safetensors"
#: As older folders have it, OpenAI's among them.
OLD = {
    "crop_size": 32,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 32,
}


@pytest.fixture(scope="module")
def saved(save_tower, tmp_path_factory):
    return save_tower(tmp_path_factory.mktemp("tower"))


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "tower")


@pytest.fixture(scope="module", params=[(32, 32), (64, 64), (50, 71), (20, 9)], ids=str)
def picture(request):
    shape = (3, *request.param)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def theirs(saved):
    """What transformers makes of a picture by itself."""
    network = CLIPVisionModelWithProjection.from_pretrained(saved).eval()
    processing = CLIPImageProcessorPil.from_pretrained(saved)

    @torch.inference_mode()
    def vector(picture):
        return network(**processing(images=picture.movedim(0, -1).numpy(), return_tensors="pt")).image_embeds

    return vector


def test_the_vector_is_that_of_transformers(saved, picture, theirs):
    tower = ImageTower(saved, 16)
    found = tower.vector(picture)
    assert found.shape == (1, 16) and found.dtype == torch.float32
    assert torch.equal(found, theirs(picture)) and found.abs().max() > 0.1
    assert tower.vector(picture) is found, "read once"
    assert not torch.equal(tower.vector(255 - picture), found)


def test_too_little_memory_is_told_before_the_weights_are_read(saved, monkeypatch):
    monkeypatch.setattr(image_tower, "free_main_memory", lambda: 1000)
    monkeypatch.setattr(image_tower, "_weights", None)
    with pytest.raises(OutOfMemory, match="image tower needs"):
        ImageTower(saved, 16).vector(torch.zeros(3, 32, 32, dtype=torch.uint8))


def test_nothing_is_made_in_memory_but_the_weights_of_the_image_part(saved, tmp_path, picture, theirs, monkeypatch):
    """Of a whole CLIP, the part that reads texts stays on the disk, and no weights are drawn at random first."""
    shutil.copytree(saved, tmp_path / "tower")
    tensors = load_file(saved / WEIGHTS)
    save_file({**tensors, "text_model.large": torch.zeros(4)}, tmp_path / "tower" / WEIGHTS)
    tower = ImageTower(tmp_path / "tower", 16)
    assert set(image_tower._weights(tmp_path / "tower")) == set(tensors)
    devices = []
    fill = image_tower.fill
    monkeypatch.setattr(
        image_tower, "fill", lambda network, *rest: devices.extend(network.parameters()) or fill(network, *rest)
    )
    # not in every bit: the weights lie elsewhere in the file, and torch's sums follow how they lie in memory
    assert torch.allclose(tower.vector(picture), theirs(picture), atol=1e-5)
    assert devices and all(each.is_meta for each in devices)


def test_parameters_are_those_of_the_network(saved):
    network = CLIPVisionModelWithProjection.from_pretrained(saved)
    assert ImageTower(saved, 16).parameters == sum(p.numel() for p in network.parameters())


def test_of_a_whole_clip_the_image_part_counts(saved, tmp_path, picture):
    """In the layout of OpenAI's own repositories, old words and old buffers included."""
    sizes = json.loads((saved / "config.json").read_text())
    texts = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50_000)
    with torch.random.fork_rng():
        torch.manual_seed(8)
        clip = CLIPModel(CLIPConfig(text_config=texts, vision_config=sizes, projection_dim=24)).eval()
    clip.save_pretrained(tmp_path)
    (tmp_path / PROCESSING).write_text(json.dumps(OLD))
    positions = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    save_file({**load_file(tmp_path / WEIGHTS), **positions}, tmp_path / WEIGHTS, {"format": "pt"})
    processing = CLIPImageProcessorPil.from_pretrained(tmp_path)
    pixels = processing(images=picture.movedim(0, -1).numpy(), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
    assert torch.allclose(ImageTower(tmp_path, 24).vector(picture), expected, atol=1e-6)


def test_numbers_of_two_bytes_are_read_too(folder, picture):
    whole = ImageTower(folder, 16).vector(picture)
    save_file({key: value.half() for key, value in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    found = ImageTower(folder, 16).vector(picture)
    assert found.dtype == torch.float32 and torch.allclose(found, whole, atol=0.02)


def test_the_processing_may_lie_beside_the_folder_as_in_a_pipeline(folder, picture, theirs):
    (folder.parent / "feature_extractor").mkdir()
    shutil.move(folder / PROCESSING, folder.parent / "feature_extractor" / PROCESSING)
    assert torch.equal(ImageTower(folder, 16).vector(picture), theirs(picture))


def test_another_width_is_refused(folder):
    with pytest.raises(WeightsDamaged, match="vectors of 16 numbers, and the checkpoint takes 768"):
        ImageTower(folder, 768)


def test_another_kind_is_refused(tmp_path):
    config = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50_000)
    CLIPTextModel(CLIPTextConfig(**config)).save_pretrained(tmp_path)
    with pytest.raises(UnknownModel, match="a clip_text_model, not an image tower of CLIP"):
        ImageTower(tmp_path, 16)


@pytest.mark.parametrize(
    ("file", "change", "error", "words"),
    [
        ("config.json", {"model_type": "siglip_vision_model"}, UnknownModel, "siglip_vision_model"),
        ("config.json", {"hidden_size": "many"}, WeightsDamaged, "image tower"),
        ("config.json", {"hidden_size": 24, "num_attention_heads": 3}, WeightsDamaged, "has shape"),
        ("config.json", {"model_type": "clip"}, WeightsDamaged, "describes no image tower"),
        (PROCESSING, {"image_processor_type": "SiglipImageProcessor"}, WeightsDamaged, "SiglipImageProcessor"),
        (PROCESSING, {"crop_size": {"height": 48, "width": 48}}, WeightsDamaged, "48 x 48 pixels, and the image tower"),
        (PROCESSING, {"do_center_crop": False}, WeightsDamaged, "pixels, and the image tower takes 32"),
        (PROCESSING, {"size": {"shortest_edge": 10**6}}, WeightsDamaged, "asks for pictures of 1000000"),
        (PROCESSING, {"image_mean": "white"}, WeightsDamaged, "way to prepare pictures"),
    ],
)
def test_a_file_that_says_something_else_is_refused(folder, file, change, error, words):
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **change}))
    with pytest.raises(error, match=words):
        ImageTower(folder, 16)


@pytest.mark.parametrize("file", ["config.json", PROCESSING, WEIGHTS])
def test_a_file_that_is_not_there_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(WeightsMissing, match="tower"):
        ImageTower(folder, 16)


def test_every_key_counts(folder):
    tensors = load_file(folder / WEIGHTS)
    for changed, words in (
        ({key: value for key, value in tensors.items() if "projection" not in key}, "visual_projection.weight"),
        ({**tensors, "extra": torch.zeros(1)}, "extra"),
    ):
        save_file(changed, folder / WEIGHTS)
        with pytest.raises(WeightsDamaged, match=words):
            ImageTower(folder, 16)
    (folder / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(WeightsDamaged, match="cannot be read"):
        ImageTower(folder, 16)
