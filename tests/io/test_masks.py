from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from napari_virst.errors import MaskError
from napari_virst.io import masks
from napari_virst.io.masks import read_label_stack, read_mask, values_in_mask, write_label_stack

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_left_open")

SIZE = (6, 9)


@pytest.fixture
def labels() -> np.ndarray:
    values = np.zeros(SIZE, np.uint8)
    values[1:3, 2:5] = 1
    values[4, 4:] = 7
    return values


def save_palette(path: Path, values: np.ndarray) -> None:
    image = Image.fromarray(values)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [9] * 21)
    assert image.mode == "P"
    image.save(path)


WRITERS = {
    "gray PNG": ("m.png", lambda path, values: Image.fromarray(values).save(path)),
    "palette PNG": ("m.png", save_palette),
    "16-bit PNG": ("m.png", lambda path, values: Image.fromarray(values.astype(np.uint16)).save(path)),
    "TIFF": ("m.tif", lambda path, values: tifffile.imwrite(path, values)),
    "TIFF of one page": ("m.tiff", lambda path, values: tifffile.imwrite(path, values[None], metadata={"axes": "TYX"})),
    "32-bit TIFF": ("m.tif", lambda path, values: tifffile.imwrite(path, values.astype(np.int32))),
    "NPY": ("m.npy", lambda path, values: np.save(path, values)),
    "float NPY": ("m.npy", lambda path, values: np.save(path, values.astype(float))),
}


@pytest.mark.parametrize(("name", "write"), WRITERS.values(), ids=WRITERS.keys())
def test_mask_is_read_whole_and_by_label(tmp_path, labels, name, write):
    write(tmp_path / name, labels)
    whole = read_mask(tmp_path / name, SIZE)
    assert whole.dtype == np.bool_
    np.testing.assert_array_equal(whole, labels > 0)
    np.testing.assert_array_equal(read_mask(str(tmp_path / name), SIZE, label=7), labels == 7)
    assert not read_mask(tmp_path / name, SIZE, label=3).any()


def test_bool_mask_is_read(tmp_path, labels):
    np.save(tmp_path / "m.npy", labels > 0)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npy", SIZE), labels > 0)
    Image.fromarray(labels > 0).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", SIZE), labels > 0)


def test_coloured_mask_is_everything_but_black(tmp_path, labels):
    colours = np.zeros((*SIZE, 4), np.uint8)
    colours[labels == 7, 1] = 90
    colours[..., 3] = 255
    Image.fromarray(colours).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", SIZE), labels == 7)
    with pytest.raises(MaskError, match="to choose label 7; got the colour image"):
        read_mask(tmp_path / "m.png", SIZE, label=7)


def test_mask_of_another_size_is_refused_with_both_sizes(tmp_path, labels):
    np.save(tmp_path / "m.npy", labels)
    with pytest.raises(MaskError, match=r"size of the video, 40×30; got 9×6 in m\.npy"):
        read_mask(tmp_path / "m.npy", (30, 40))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("m.png", None, "must exist", id="missing"),
        pytest.param("m.jpg", b"x", "must be a PNG, TIFF or NPY file; got m.jpg", id="JPEG"),
        pytest.param("m.png", b"word", "m.png must be a readable PNG file", id="no PNG"),
        pytest.param("m.tif", b"word", "m.tif must be a readable TIF file", id="no TIFF"),
        pytest.param("m.npy", b"word", "m.npy must be a readable NPY file", id="no NPY"),
    ],
)
def test_file_that_holds_no_mask_is_explained(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MaskError, match=message):
        read_mask(tmp_path / name, SIZE)


def test_pickled_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "m.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MaskError, match="readable NPY"):
        read_mask(tmp_path / "m.npy", SIZE)


def test_stack_is_no_mask(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((4, *SIZE), np.uint8), photometric="minisblack")
    with pytest.raises(MaskError, match=r"must be one \(H, W\) image; got \(4, 6, 9\)"):
        read_mask(tmp_path / "m.tif", SIZE)


# Label stacks


@pytest.fixture
def stack(rng: np.random.Generator) -> np.ndarray:
    return (rng.random((5, *SIZE)) > 0.7).astype(np.uint16) * np.array([1, 2, 300, 65535, 0], np.uint16)[:, None, None]


@pytest.fixture(params=[False, True], ids=["ImageJ", "BigTIFF"])
def stack_path(request: pytest.FixtureRequest, tmp_path: Path, stack: np.ndarray, monkeypatch) -> Path:
    if request.param:
        monkeypatch.setattr(masks, "_BIGTIFF_BYTES", 1)
    write_label_stack(tmp_path / "labels.tif", iter(stack), stack.shape)
    return tmp_path / "labels.tif"


def test_written_stack_is_read_by_tifffile_with_its_axes(stack_path, stack):
    np.testing.assert_array_equal(tifffile.imread(stack_path), stack)
    with tifffile.TiffFile(stack_path) as tiff:
        assert (tiff.series[0].axes, tiff.series[0].dtype) == ("TYX", np.uint16)


def test_written_stack_is_read_back_lazily(stack_path, stack):
    with read_label_stack(stack_path) as read:
        assert (read.shape, read.dtype, read.ndim, len(read)) == (stack.shape, np.uint16, 3, 5)
        for number in (3, 0, 4):
            np.testing.assert_array_equal(read.frame(number), stack[number])
        np.testing.assert_array_equal(np.asarray(read), stack)
        np.testing.assert_array_equal(read[1:4, ::2, 3], stack[1:4, ::2, 3])
        np.testing.assert_array_equal(np.stack(list(read)), stack)
        with pytest.raises(IndexError):
            read.frame(5)


def test_large_stacks_are_bigtiff(tmp_path, stack, monkeypatch):
    monkeypatch.setattr(masks, "_BIGTIFF_BYTES", stack.nbytes)
    write_label_stack(tmp_path / "a.tif", stack, stack.shape)
    write_label_stack(tmp_path / "b.tif", stack[1:], stack[1:].shape)
    with tifffile.TiffFile(tmp_path / "a.tif") as big, tifffile.TiffFile(tmp_path / "b.tif") as small:
        assert (big.is_bigtiff, big.is_imagej) == (True, False)
        assert (small.is_bigtiff, small.is_imagej) == (False, True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(arrays(np.uint16, array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_any_stack_comes_back_as_it_was(tmp_path: Path, stack: np.ndarray):
    write_label_stack(tmp_path / "a.tif", stack, stack.shape)
    with read_label_stack(tmp_path / "a.tif") as read:
        assert read.shape == stack.shape
        np.testing.assert_array_equal(np.asarray(read), stack)


def test_writing_holds_few_frames_in_memory(tmp_path):
    alive: list[weakref.ref] = []
    most = 0

    def frames():
        nonlocal most
        for number in range(60):
            frame = np.full(SIZE, number, np.uint16)
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame

    write_label_stack(tmp_path / "a.tif", frames(), (60, *SIZE))
    assert most <= 4


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        pytest.param([np.zeros(SIZE, np.uint16)], "got only 1", id="too few"),
        pytest.param([np.zeros(SIZE, np.uint16)] * 3, "must be 2 frames; got more", id="too many"),
        pytest.param([np.zeros((3, 3), np.uint16)] * 2, r"got \(3, 3\) at frame 0", id="other size"),
        pytest.param([np.full(SIZE, 70000)] * 2, "got 70000…70000 at frame 0", id="too large"),
        pytest.param([np.full(SIZE, -1)] * 2, "must be 0…65535", id="negative"),
        pytest.param([np.zeros(SIZE)] * 2, "must be whole numbers; got float64", id="float"),
    ],
)
def test_frames_that_do_not_fit_are_refused_and_the_old_file_stays(tmp_path, frames, message):
    (tmp_path / "a.tif").write_bytes(b"precious")
    with pytest.raises(MaskError, match=message):
        write_label_stack(tmp_path / "a.tif", frames, (2, *SIZE))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == b"precious"


def test_folder_that_does_not_exist_is_refused(tmp_path, stack):
    with pytest.raises(MaskError, match="folder that exists"):
        write_label_stack(tmp_path / "nowhere" / "a.tif", stack, stack.shape)


def test_masks_of_other_integer_types_are_read_as_labels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((3, *SIZE), 200, np.int32), photometric="minisblack")
    with read_label_stack(tmp_path / "a.tif") as read:
        assert read.frame(2).dtype == np.uint16
        assert read.frame(2).max() == 200


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        pytest.param(np.zeros((3, *SIZE), np.float32), "TYX", id="float"),
        pytest.param(np.zeros((3, 2, *SIZE), np.uint8), "TCYX", id="channels"),
        pytest.param(np.zeros((3, 2, *SIZE), np.uint8), "TZYX", id="planes"),
    ],
)
def test_tiff_that_is_no_label_stack_is_refused(tmp_path, array, axes):
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata={"axes": axes})
    with pytest.raises(MaskError, match=r"must be \(T, H, W\) whole numbers"):
        read_label_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [None, b"word"], ids=["missing", "no TIFF"])
def test_label_stack_that_cannot_be_opened_is_explained(tmp_path, content):
    if content:
        (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(MaskError, match="must"):
        read_label_stack(tmp_path / "a.tif")


def test_values_beyond_uint16_are_refused_when_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((3, *SIZE), 70000, np.int32), photometric="minisblack")
    with read_label_stack(tmp_path / "a.tif") as read, pytest.raises(MaskError, match=r"70000 at frame 1 of a\.tif"):
        read.frame(1)


@pytest.mark.gui
def test_napari_opens_a_written_stack(stack_path, stack):
    npe2_read = pytest.importorskip("napari_builtins.io").napari_get_reader
    [layer] = npe2_read(str(stack_path))(str(stack_path))
    np.testing.assert_array_equal(np.asarray(layer[0]), stack)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0, 7], [2, 2]], np.uint8), (2, 7)),
        (np.zeros((2, 2), np.uint8), ()),
        (np.full((2, 2, 3), 9, np.uint8), ()),
    ],
    ids=["labels", "empty", "colours"],
)
def test_values_in_a_mask_are_those_of_its_objects(tmp_path, pixels, expected):
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    assert values_in_mask(tmp_path / "mask.png") == expected
