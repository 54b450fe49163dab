import pytest
from afterimage.plugin import rerun


def test_a_second_run_gets_a_name_of_its_own(tmp_path):
    (tmp_path / "a.tif").touch()
    assert rerun.free_name("") == ""
    assert rerun.free_name(str(tmp_path / "a.tif")) == str(tmp_path / "a_2.tif")
    (tmp_path / "a_2.tif").touch()
    assert rerun.free_name(str(tmp_path / "a_2.tif")) == str(tmp_path / "a_3.tif")
    assert rerun.free_name(str(tmp_path / "in_2020.tif")) == str(tmp_path / "in_2020_2.tif")
    awaited = (str(tmp_path / "." / "a_3.tif"), str(tmp_path / "b.tif"), "")
    assert rerun.free_name(str(tmp_path / "a.tif"), awaited) == str(tmp_path / "a_4.tif")
    assert rerun.free_name(str(tmp_path / "b_2.tif"), awaited) == str(tmp_path / "b_2.tif")


def test_a_further_run_leaves_what_stands_beside_its_file_alone(tmp_path):
    (tmp_path / "c.tif").touch()
    (tmp_path / "c_2_spread.tif").touch()
    beside = lambda name: (name, name.replace(".tif", "_spread.tif"))  # noqa: E731
    assert rerun.free_name(str(tmp_path / "c.tif"), (), beside) == str(tmp_path / "c_3.tif")


def test_sources_are_taken_over_with_what_stands_beside_them(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "inputs").mkdir(parents=True)
    (old / "inputs" / "s.tif").write_bytes(b"pixels")
    (old / "inputs" / "s.tif.msk").write_bytes(b"mask")
    rerun.Copy(str(old), "inputs/s.tif").write(str(new), lambda: False)
    assert (new / "inputs" / "s.tif").read_bytes() == b"pixels"
    assert (new / "inputs" / "s.tif.msk").read_bytes() == b"mask"


def test_a_source_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(OSError):
        rerun.Copy(str(tmp_path / "gone"), "s.tif").write(str(tmp_path / "new"), lambda: False)
