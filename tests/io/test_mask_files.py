"""The files of a track: plain TIFF for others, sparse on disk, and kind to the brush."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_virst.errors import ProjectError
from napari_virst.io import mask_files as mask_files_module
from napari_virst.io.mask_files import MaskFiles, missing_bytes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("num_frames", [1, 3, 4, 12])
@pytest.mark.parametrize("width", [3, 4, 9])
def test_mask_file_is_a_plain_stack_for_other_tools(tmp_path: Path, num_frames: int, width: int) -> None:
    shape = (num_frames, 8, width)
    files = MaskFiles(tmp_path / "a.tif", shape)
    files.labels[0, 2, 0] = 7
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert len(tiff.pages) == num_frames
        assert tiff.pages[0].asarray()[2, 0] == 7
        assert tiff.is_bigtiff
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").reshape(shape), files.labels)


def test_mask_file_of_ten_gigabytes_takes_no_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    files = MaskFiles(path, (2352, 1080, 1920))
    assert path.stat().st_size > 9.7e9
    if not hasattr(path.stat(), "st_blocks"):
        pytest.skip("this system does not tell how much of a file is on disk")
    assert path.stat().st_blocks * 512 < 5e6
    files.labels[2351, 1079, 1919] = 5
    files.flush(2351)
    assert path.stat().st_blocks * 512 < 5e6
    assert MaskFiles(path, (2352, 1080, 1920)).labels[2351, 1079, 1919] == 5


def test_mask_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    MaskFiles(tmp_path / "a.tif", (3, 8, 8))
    with pytest.raises(ProjectError, match=r"must have a mask file of \(4, 8, 8\)"):
        MaskFiles(tmp_path / "a.tif", (4, 8, 8))


def test_damaged_mask_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"not a tiff")
    with pytest.raises(ProjectError, match="restore the file"):
        MaskFiles(tmp_path / "a.tif", (3, 8, 8))


def test_prediction_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    files = MaskFiles(tmp_path / "a.tif", (3, 8, 9))
    labels = np.arange(72, dtype=np.uint16).reshape(8, 9) * 900
    files.write_prediction(2, labels)
    kept = files.read_prediction(2)
    assert kept is not None
    np.testing.assert_array_equal(kept, labels)
    files.drop_prediction(2)
    assert files.read_prediction(2) is None
    files.drop_prediction(2)


def test_full_disk_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = MaskFiles(tmp_path / "a.tif", (3, 8, 8))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ProjectError, match="make room"):
        files.reserve()


def test_missing_bytes_counts_what_the_disk_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert missing_bytes(tmp_path, (1000, 1000, 1000)) == 2_000_000_000 - 1000
    assert missing_bytes(tmp_path, (1, 10, 10)) == 0


def test_dabs_of_one_stroke_do_not_wait_for_the_disk_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = MaskFiles(tmp_path / "a.tif", (4, 8, 8))
    now_s, flushed = [100.0], []
    monkeypatch.setattr(mask_files_module.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(files, "flush", flushed.append)
    for _ in range(4):
        files.flush_soon(2)
    assert flushed == [2]
    files.flush_soon(3)
    assert flushed == [2, 2], "a frame that is left must be stored"
    now_s[0] += 1
    files.flush_soon(3)
    assert flushed == [2, 2, 3]
    now_s[0] += 1
    files.flush_soon(1)
    assert flushed == [2, 2, 3, 1], "nothing waited any more"
    files.flush_soon(1)
    files.flush_waiting()
    files.flush_waiting()
    assert flushed == [2, 2, 3, 1, 1]


def test_what_was_written_survives_its_pages_being_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_virst.io.mask_files.KEEP_MAPPED_BYTES", 10_000)
    files = MaskFiles(tmp_path / "track.tif", (40, 32, 32))
    for frame in range(40):
        files.reserve()
        files.labels[frame] = frame + 1
    assert [int(files.labels[frame].min()) for frame in range(40)] == list(range(1, 41))
    again = MaskFiles(tmp_path / "track.tif", (40, 32, 32))
    np.testing.assert_array_equal(again.labels, files.labels)
