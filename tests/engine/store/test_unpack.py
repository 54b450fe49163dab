"""Of an archive only what a model needs is written, and only below its folder."""

from __future__ import annotations

import stat
import zipfile

import pytest
from afterimage.engine.errors import DownloadDamaged
from afterimage.engine.models.filenames import FILES
from afterimage.engine.store import unpack
from afterimage.engine.store.selection import choose, safe

CONFIG, WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.bin"


def archive(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return path


def test_only_what_is_needed(tmp_path):
    wanted = {f"model/{CONFIG}": b"{}", f"model/{WEIGHTS}": b"w", "model/model_index.json": b"{}"}
    others = {"model/run.py": b"x", "model/unet/optimizer.bin": b"x", "__MACOSX/model/._x": b"x", "model/a/b.txt": b""}
    unpack.unpack(archive(tmp_path / "a.zip", wanted | others), tmp_path / "out")
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert written == set(wanted)
    assert unpack.root(tmp_path / "out") == tmp_path / "out" / "model"


@pytest.mark.parametrize("before", ["../", "/", "a/../../", "C:/"])
def test_nothing_is_written_elsewhere(tmp_path, before):
    path = archive(tmp_path / "a.zip", {before + CONFIG: b"{}", CONFIG: b"{}"})
    with pytest.raises(DownloadDamaged, match="outside"):
        unpack.unpack(path, tmp_path / "deep" / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]


def test_links_and_bombs_are_refused(tmp_path):
    link = zipfile.ZipInfo(CONFIG)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(DownloadDamaged, match="link"):
        unpack.contents(archive(tmp_path / "link.zip", {link: "/etc/passwd"}))
    with pytest.raises(DownloadDamaged, match="space"):
        unpack.contents(archive(tmp_path / "bomb.zip", {WEIGHTS: bytes(unpack.SLACK + 2_000_000)}))
    (tmp_path / "none.zip").write_bytes(b"<html>")
    with pytest.raises(DownloadDamaged, match="no archive"):
        unpack.contents(tmp_path / "none.zip")
    with pytest.raises(DownloadDamaged, match="no model"):
        unpack.root(tmp_path)


def test_a_byte_that_fell_over(tmp_path):
    path = archive(tmp_path / "a.zip", {CONFIG: b"{}" + b" " * 500})
    content = bytearray(path.read_bytes())
    content[45] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DownloadDamaged):
        unpack.unpack(path, tmp_path / "out")


def test_bytes_that_cannot_be_unpacked(tmp_path):
    """zlib has words of its own for them."""
    path = archive(tmp_path / "a.zip", {CONFIG: bytes(range(256)) * 4})
    content = bytearray(path.read_bytes())
    content[30 + len(CONFIG)] = 0b111  # RFC 1951, section 3.2.3: a block of the type that there is not
    path.write_bytes(content)
    with pytest.raises(DownloadDamaged, match="damaged"):
        unpack.unpack(path, tmp_path / "out")


def test_one_file_of_weights_for_each_network():
    names = ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors", "config.json", "x.py"]
    there = [f"{part}/{name}" for part in ("unet", "vae") for name in names] + ["v1-5-pruned.ckpt", "model_index.json"]
    assert choose(there) == [
        "model_index.json",
        *(
            f"{part}/{name}"
            for part in ("unet", "vae")
            for name in ("config.json", "diffusion_pytorch_model.safetensors")
        ),
    ]
    assert choose(names, "controlnet") == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_stable_diffusion_xl_has_two_text_encoders():
    """Names as they are in its repository, with what is left there."""
    wanted = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        *(f"{part}/{name}" for part in ("text_encoder", "text_encoder_2") for name in ("config.json", FILES[1])),
        *(f"{part}/{name}" for part in ("tokenizer", "tokenizer_2") for name in ("merges.txt", "vocab.json")),
        *(f"{part}/{name}" for part in ("unet", "vae") for name in ("config.json", FILES[0])),
    ]
    left = [
        "sd_xl_base_1.0.safetensors",
        "text_encoder_2/model.fp16.safetensors",
        "text_encoder_2/model.onnx_data",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae_1_0/config.json",
        "vae_1_0/diffusion_pytorch_model.safetensors",
        "vae_decoder/model.onnx",
        "text_encoder_2/flax_model.msgpack",
    ]
    assert choose([*wanted, *left]) == sorted(wanted)


def test_of_training_checkpoints_those_that_draw_and_steer():
    numbers = (50000, 100000, 150000)
    there = [f"a/{part}/config.json" for part in ("unet", *(f"checkpoint-{each}/unet" for each in numbers))]
    assert choose(there) == ["a/checkpoint-100000/unet/config.json", "a/checkpoint-150000/unet/config.json"]
    there = [f"checkpoint-{each}/controlnet/config.json" for each in (5000, 20000)]
    assert choose(there) == ["checkpoint-20000/controlnet/config.json"]


def test_of_several_pipelines_the_highest():
    parts = ("unet/config.json", "scheduler/scheduler_config.json")
    there = [f"{folder}{part}" for folder in ("", "b/", "b/c/") for part in parts]
    assert choose(there) == sorted(parts)
    assert choose([path for path in there if path.startswith("b/")]) == sorted(f"b/{part}" for part in parts)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "a/..",
        "a//b",
        "/a",
        "a\\b",
        "c:/a",
        "a/ b",
        "a/b.",
        "a/\x00",
        "a/" * 11 + "a",
        "con",
        "unet/NUL.json",
        "aux/a",
        "a/com1 .txt",
    ],
)
def test_paths_that_lead_elsewhere(path):
    with pytest.raises(DownloadDamaged):
        safe(path)


def test_a_path_below():
    assert safe("unet/diffusion_pytorch_model.safetensors").as_posix() == "unet/diffusion_pytorch_model.safetensors"
