from __future__ import annotations

import gc
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import zarr
from fixtures.movies import decoded_in_order, write_movie
from PIL import Image

from napari_virst.engine.protocol import Frames
from napari_virst.errors import VideoError
from napari_virst.io import _images
from napari_virst.io.display import Display
from napari_virst.io.video import open_video

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def write_folder(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def write_source(kind: str, folder: Path, frames: np.ndarray) -> Path:
    """``frames`` (T, H, W) uint8, in one of the containers that lose nothing."""
    if kind == "TIFF":
        tifffile.imwrite(folder / "a.tif", frames, compression="zlib")
        return folder / "a.tif"
    if kind == "folder":
        return write_folder(folder / "a", frames)
    if kind == "movie":
        options = {"codec": "ffv1", "pixel_format": "gray", "frame_format": "gray"}
        return write_movie(folder / "a.avi", len(frames), frame=lambda number: frames[number], **options)
    array = zarr.create_array(folder / "a.zarr", shape=frames.shape, dtype=frames.dtype, chunks=(1, *frames.shape[1:]))
    array[...] = frames
    return folder / "a.zarr"


@pytest.fixture
def gray_frames(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (9, 16, 24)).astype(np.uint8)


@pytest.fixture(params=["TIFF", "folder", "movie", "zarr"])
def source(request: pytest.FixtureRequest, tmp_path: Path, gray_frames: np.ndarray) -> Path:
    return write_source(request.param, tmp_path, gray_frames)


def test_every_container_shows_the_same_video(source, gray_frames):
    with open_video(source) as video:
        assert (video.name, video.path) == ("a", source)
        assert (video.shape, video.num_frames, video.height, video.width) == ((9, 16, 24), 9, 16, 24)
        assert (video.axes, video.is_rgb, video.num_channels, video.dtype) == ("TYX", False, 1, np.uint8)
        assert video.dask.chunksize == (1, 16, 24)
        np.testing.assert_array_equal(video.dask.compute(scheduler="threads"), gray_frames)
        reader = video.reader()
        np.testing.assert_array_equal(reader[4], np.repeat(gray_frames[4][..., None], 3, axis=2))


def test_frames_satisfy_the_page_that_the_engine_reads(source):
    with open_video(str(source)) as video:
        reader = video.reader()
        assert isinstance(reader, Frames)
        assert reader.shape == (9, 16, 24, 3)
        assert len(list(reader)) == len(reader) == 9
        for outside in (-1, 9):
            with pytest.raises(IndexError):
                reader[outside]


def test_frame_of_a_reader_is_the_callers_own(source):
    with open_video(source) as video:
        reader = video.reader()
        before = reader[3].copy()
        reader[3][:] = 0
        np.testing.assert_array_equal(reader[3], before)
        assert reader[3].flags.writeable


def test_opening_reads_no_frame_but_the_first(tmp_path, gray_frames, monkeypatch):
    source = write_source("folder", tmp_path, gray_frames)
    names = []
    monkeypatch.setattr(
        _images, "read_picture", lambda path, go=_images.read_picture: (names.append(path.name), go(path))[1]
    )
    with open_video(source) as video:
        assert video.dask.shape == video.shape
        assert set(names) == {"0.png"}


def test_many_threads_read_the_right_frames(source, gray_frames):
    with open_video(source) as video:
        reader = video.reader()
        numbers = random.Random(0).choices(range(9), k=120)

        def is_right(number: int) -> bool:
            seen = video.dask[number].compute(scheduler="synchronous")
            return bool((reader[number][..., 1] == gray_frames[number]).all() and (seen == gray_frames[number]).all())

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(is_right, numbers))


def test_eyes_and_work_have_handles_of_their_own(source):
    with open_video(source) as video:
        reader, other = video.reader(), video.reader()
        decoders = {id(frames._decoder) for frames in (video._eyes, reader._frames, other._frames)}
        assert len(decoders) == 3
        reader.close()
        assert video.dask[0].compute().shape == (16, 24)
        assert other[0].shape == (16, 24, 3)


def test_closed_video_reads_nothing_and_says_why(source):
    video = open_video(source)
    eyes, reader = video.dask, video.reader()
    video.close()
    video.close()
    with pytest.raises(VideoError, match="must be open"):
        reader[0]
    with pytest.raises(VideoError, match="must be open"):
        eyes[0].compute(scheduler="synchronous")
    with pytest.raises(VideoError, match="must be open"):
        video.reader()


def test_nothing_stays_open_after_close(source):
    video = open_video(source)
    readers = [video.reader() for _ in range(3)]
    for reader in readers:
        reader[8]
    video.dask[5].compute()
    video.close()  # the fixture looks for open files while the readers are still alive here
    assert len(readers) == 3


def test_forgotten_readers_let_go_of_their_files(source):
    with open_video(source) as video:
        first = video.reader()
        first[0]
        del first
        gc.collect()
        assert len(video._readers) == 0


def test_reader_travels_to_another_process(source, gray_frames):
    with open_video(source) as video:
        reader = video.reader(Display((0, 128)))
        there = pickle.loads(pickle.dumps(reader))
        np.testing.assert_array_equal(there[2], reader[2])
        assert there.fingerprint == reader.fingerprint
        there.close()


# Fingerprints


def fingerprint(source, display: Display | None = None, **choice) -> str:
    with open_video(source, **choice) as video:
        return video.reader(display).fingerprint


def test_fingerprint_is_the_same_when_opened_again_or_moved(source):
    before = fingerprint(source)
    assert fingerprint(source) == before
    moved = source.rename(source.with_name("moved" + source.suffix))
    assert fingerprint(moved) == before


def test_fingerprint_tells_display_channel_and_plane(tmp_path, rng):
    array = rng.integers(0, 99, (4, 2, 3, 8, 9)).astype(np.uint8)
    kinds = [{}, {"channel": 1}, {"z": 0}, {"z": "max"}]
    found = {fingerprint(array, axes="TCZYX", **kind) for kind in kinds}
    found |= {fingerprint(array, Display((0, 9)), axes="TCZYX"), fingerprint(array, Display(gamma=2), axes="TCZYX")}
    assert len(found) == 6


@pytest.mark.parametrize("number", [0, 4, 8])
def test_fingerprint_tells_a_changed_frame_of_an_array(gray_frames, number):
    before = fingerprint(gray_frames)
    gray_frames[number, 3, 3] ^= 1
    assert fingerprint(gray_frames) != before


def test_fingerprint_tells_a_file_written_later(tmp_path, gray_frames):
    source = write_source("TIFF", tmp_path, gray_frames)
    before = fingerprint(source)
    os.utime(source, (1e9, 1e9))
    assert fingerprint(source) != before


def test_content_fingerprint_survives_copying(tmp_path, gray_frames):
    source = write_source("TIFF", tmp_path, gray_frames)
    copied = shutil.copyfile(source, tmp_path / "b.tif")
    os.utime(copied, (1e9, 1e9))
    with open_video(source) as video, open_video(copied) as other:
        assert video.fingerprint == other.fingerprint


# Arrays, channels, planes, colours


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_arrays_are_videos_without_a_path(gray_frames, kind):
    import dask.array as da

    made = {"numpy": lambda a: a, "dask": lambda a: da.from_array(a, chunks=(4, 8, 8)), "zarr": zarr.array}
    with open_video(made[kind](gray_frames), name="my stack") as video:
        assert (video.name, video.path, video.fps) == ("my stack", None, None)
        np.testing.assert_array_equal(video.dask.compute(), gray_frames)
        np.testing.assert_array_equal(video.reader()[7][..., 2], gray_frames[7])


def test_single_image_is_a_video_of_one_frame(tmp_path):
    Image.new("RGBA", (24, 16), (9, 8, 7, 6)).save(tmp_path / "a.png")
    with open_video(tmp_path / "a.png") as video:
        assert (video.shape, video.is_rgb, video.axes) == ((1, 16, 24), True, "YXS")
        assert video.dask.shape == (1, 16, 24, 3)
        assert video.reader()[0][0, 0].tolist() == [9, 8, 7]


def test_channels_and_planes_of_a_hyperstack_are_chosen_and_said(tmp_path, rng):
    array = rng.integers(0, 60000, (3, 5, 2, 16, 24)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "TZCYX"})
    with open_video(tmp_path / "a.tif") as video:
        assert (video.num_channels, video.axes, video.dtype) == (2, "TZCYX", np.uint16)
        assert video.notes == (
            "Channel 0 of 2 is shown; give channel= for another.",
            'Plane 2 of 5, the middle one, is shown; give z= for another, or z="max" or z="mean" to project.',
        )
        np.testing.assert_array_equal(video.dask[1].compute(), array[1, 2, 0])
    with open_video(tmp_path / "a.tif", channel=1, z="max") as video:
        np.testing.assert_array_equal(video.dask[1].compute(), array[1, :, 1].max(axis=0))


def test_given_axes_overrule_those_of_the_file(tmp_path, rng):
    array = rng.integers(0, 255, (3, 5, 16, 24)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "TZYX"})
    with open_video(tmp_path / "a.tif", axes="ZTYX", z=1) as video:
        np.testing.assert_array_equal(video.dask.compute(), array[1])


# Default display


def limits(array: np.ndarray) -> tuple[float, float]:
    with open_video(array) as video:
        return video.default_display().contrast_limits


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(np.full((3, 8, 9), 7, np.uint8), (0, 255), id="uint8"),
        pytest.param(np.ones((3, 8, 9), bool), (0, 1), id="bool"),
        pytest.param(np.linspace(100, 900, 3 * 8 * 9).reshape(3, 8, 9).astype(np.uint16), (100, 900), id="uint16"),
        pytest.param(np.full((3, 8, 9, 3), 7, np.uint16), (0, 65535), id="RGB uint16"),
        pytest.param(np.full((3, 8, 9, 3), 0.3), (0, 1), id="RGB float in 0…1"),
        pytest.param(np.full((3, 8, 9), np.nan), (0, 1), id="only NaN"),
    ],
)
def test_default_display_shows_each_dtype_well(array, expected):
    assert limits(array) == expected


def test_default_display_is_the_same_for_the_eyes_and_the_work(rng):
    array = rng.integers(200, 900, (6, 8, 9)).astype(np.uint16)
    with open_video(array) as video:
        display = video.default_display()
        np.testing.assert_array_equal(video.reader()[3], display.to_rgb(array[3]))


# What cannot be opened


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("nowhere.mp4", None, "path of a video must exist; got .*nowhere.mp4; check", id="missing"),
        pytest.param(
            "a.docx", b"word", r"must be a movie, .*; got a\.docx; convert it to one of .*\.mp4", id="unknown"
        ),
        pytest.param("a", b"word", "must be a movie", id="no ending"),
        pytest.param("a.mp4", b"", "must hold data; got a.mp4 with 0 bytes", id="empty movie"),
        pytest.param("a.tif", b"", "must hold data", id="empty TIFF"),
        pytest.param("a.jpg", b"word", "a.jpg must be a JPG image; got", id="no JPEG"),
        pytest.param("a.png", b"word", "a.png must be a PNG image; got", id="no PNG"),
        pytest.param("a.mov", b"word", "a.mov must be a movie; got", id="no movie"),
    ],
)
def test_file_that_cannot_be_opened_is_explained_in_one_sentence(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=message) as caught:
        open_video(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("https://example.org/a.mp4", "on this computer", id="URL"),
        pytest.param(7, "must be a path or an array; got int", id="number"),
        pytest.param([np.zeros((2, 3, 4))], "must be a path or an array; got list", id="list"),
        pytest.param(np.zeros((2, 3, 4), complex), "must be real numbers; got complex128", id="complex"),
        pytest.param(np.zeros((2, 3, 4), object), "must be real numbers; got object", id="objects"),
        pytest.param(np.zeros((0, 3, 4)), "at least one frame", id="no frames"),
        pytest.param(np.zeros((2, 3, 8, 9)), 'give axes="TCYX" or axes="TZYX"', id="unnamed axes"),
    ],
)
def test_source_of_the_wrong_kind_is_explained(source, message):
    with pytest.raises(VideoError, match=message):
        open_video(source)


def test_file_is_let_go_when_its_axes_cannot_be_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 5, 16, 24), np.uint8))
    with pytest.raises(VideoError, match="axes="):
        open_video(tmp_path / "a.tif")


# Imports and real clips


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_front_door_wakes_no_decoder():
    heavy = {"torch", "av", "zarr", "dask", "tifffile", "imagecodecs", "PIL", "qtpy", "napari", "transformers"}
    assert modules_after("import napari_virst.io.video") & heavy == set()


def test_opening_and_reading_wakes_neither_torch_nor_qt(source):
    code = f"from napari_virst import open_video\nwith open_video({str(source)!r}) as v: v.dask; v.reader()[0]"
    assert modules_after(code) & {"torch", "qtpy", "PySide6", "napari", "transformers"} == set()


@pytest.mark.shared
def test_every_real_clip_opens_with_its_frames_and_size(shared_clips):
    for meta in sorted(shared_clips.glob("*/meta.json")):
        facts = json.loads(meta.read_text())
        source = meta.parent / ("video.mp4" if facts["media"] == "video" else "frames")
        with open_video(source) as video:
            width, height = facts["size"]
            assert video.shape == (facts["n_frames"], height, width), facts["name"]
            if facts.get("dtype"):
                assert video.dtype == np.dtype(facts["dtype"]), facts["name"]
            if facts.get("fps"):
                assert video.fps == pytest.approx(facts["fps"]), facts["name"]
            assert video.reader()[video.num_frames // 2].shape == (height, width, 3)


def test_memory_of_a_long_movie_stays_bounded(tmp_path):
    path = write_movie(tmp_path / "a.mp4", 120, options={"g": "1000"})
    with open_video(path) as video:
        reader = video.reader()
        frame_bytes = reader[0].nbytes
        reader._cache._max_bytes = reader._frames._decoder._handle._cache._max_bytes = 10 * frame_bytes
        for number in range(len(reader)):
            frame = reader[number]
            assert reader._cache.num_bytes <= 10 * frame_bytes, number
            assert reader._frames._decoder._handle._cache.num_bytes <= 10 * frame_bytes, number
        np.testing.assert_array_equal(frame, decoded_in_order(path)[-1])


@pytest.mark.parametrize("kind", ["tiff", "other-byte-order", "shown-otherwise"])
def test_pixels_fingerprint_is_the_same_for_a_file_and_an_array_of_it(tmp_path, gray_frames, kind):
    path = tmp_path / "clip.tif"
    tifffile.imwrite(path, gray_frames, photometric="minisblack", byteorder=">" if kind == "other-byte-order" else "<")
    display = Display((0, 9)) if kind == "shown-otherwise" else None
    with open_video(path) as file, open_video(gray_frames, axes="TYX") as array:
        before = file.reader().pixels_fingerprint()
        assert array.reader(display).pixels_fingerprint() == before
    changed = gray_frames.copy()
    changed[-1, 0, 0] += 1
    with open_video(changed, axes="TYX") as array:
        assert array.reader().pixels_fingerprint() != before


def test_path_without_a_name_is_refused():
    with pytest.raises(VideoError, match="must be given"):
        open_video("")
