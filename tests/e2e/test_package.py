"""The ZIP that people install: the same bytes each time, nothing in it that must not be, and QGIS runs from it."""

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile

import pytest
import rasterio

QGIS_PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")


@pytest.fixture(scope="module")
def package(root):
    spec = importlib.util.spec_from_file_location("_package", root / "scripts" / "lib" / "package.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def archive(package, root, tmp_path_factory):
    return package.build(root, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(archive, tmp_path_factory):
    """Environment of a fresh QGIS profile in which the plugin from the ZIP is enabled."""
    if QGIS_PROCESS is None:
        pytest.skip("qgis_process is not installed")
    home = tmp_path_factory.mktemp("profile")
    plugins = home / "profiles" / "default" / "python" / "plugins"
    with zipfile.ZipFile(archive) as file:
        file.extractall(plugins)
    (home / "runtime").mkdir(mode=0o700)
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_RUNTIME_DIR": str(home / "runtime"),
        "QGIS_CUSTOM_CONFIG_PATH": str(home),
        "AFTERIMAGE_ENGINE_PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
    }
    enabled = qgis_process(environment, "plugins", "enable", "afterimage")
    assert "Enabled afterimage" in enabled.stdout or "enabled" in enabled.stdout.lower(), (
        enabled.stdout + enabled.stderr
    )
    return environment


def qgis_process(environment, *arguments, check=True):
    done = subprocess.run(
        [QGIS_PROCESS, *arguments], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def test_same_files_give_the_same_bytes(package, archive, root, tmp_path):
    assert package.build(root, tmp_path).read_bytes() == archive.read_bytes()


def test_is_small_enough_for_the_plugin_repository(archive):
    assert archive.stat().st_size < 25 * 1024 * 1024


def test_holds_what_is_allowed_and_nothing_else(package, archive):
    with zipfile.ZipFile(archive) as file:
        names = file.namelist()
    tops = {name.split("/")[1] for name in names}
    assert {name.split("/")[0] for name in names} == {"afterimage"}
    assert tops == set(package.ALLOWED)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".sh", ".so"))]
    assert "afterimage/engine/requirements.txt" in names


def test_a_stray_binary_stops_the_build(package, root, tmp_path):
    for entry in package.ALLOWED:
        if (root / entry).is_file():
            shutil.copy(root / entry, tmp_path)
        else:
            (tmp_path / entry).mkdir()
    (tmp_path / "engine" / "fast.so").write_bytes(b"\x7fELF")
    with pytest.raises(ValueError, match=r"fast\.so"):
        package.build(tmp_path, tmp_path / "dist")


def test_qgis_finds_the_algorithms_of_the_installed_plugin(installed):
    listed = qgis_process(installed, "list").stdout
    assert "afterimage:generate" in listed
    assert "afterimage:superresolve" in listed
    assert "afterimage:edit" in listed


@pytest.mark.slow
def test_the_installed_plugin_sharpens_the_sample_image(installed, root, tmp_path):
    output = tmp_path / "sharp.tif"
    sample = tmp_path / "corner.tif"
    with rasterio.open(root / "resources" / "demo" / "naip_wetlands_2018.tif") as whole:
        profile = {**whole.profile, "height": 64, "width": 64, "driver": "GTiff", "tiled": False}
        with rasterio.open(sample, "w", **profile) as corner:
            corner.write(whole.read(window=((0, 64), (0, 64))))
    done = qgis_process(
        installed,
        "--json",
        "run",
        "afterimage:superresolve",
        f"--INPUT={sample}",
        "--FACTOR=2",
        "--STEPS=2",
        "--SEED=1",
        f"--OUTPUT={output}",
    )
    assert json.loads(done.stdout[done.stdout.index("{") :])["results"]["OUTPUT"] == str(output)
    assert output.stat().st_size > 10_000
