from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import zarr

from napari_virst.errors import VideoError
from napari_virst.io._decoders import ArrayDecoder, TiffDecoder, ZarrDecoder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_left_open")

ALL = slice(None)

TIFFS = {
    "plain and unbroken": ((6, 5, 7), "QYX", {}),
    "plain and compressed": ((6, 5, 7), "QYX", {"compression": "zlib"}),
    "big-endian": ((6, 5, 7), "QYX", {"byteorder": ">"}),
    "BigTIFF": ((6, 5, 7), "QYX", {"bigtiff": True}),
    "tiled": ((6, 32, 48), "QYX", {"tile": (16, 16)}),
    "ImageJ over time": ((6, 5, 7), "TYX", {"imagej": True, "metadata": {"axes": "TYX"}}),
    "ImageJ hyperstack": ((3, 2, 4, 5, 7), "TZCYX", {"imagej": True, "metadata": {"axes": "TZCYX"}}),
    "OME": ((3, 2, 4, 5, 7), "TCZYX", {"ome": True, "metadata": {"axes": "TCZYX"}}),
    "OME compressed": ((3, 2, 4, 5, 7), "TCZYX", {"ome": True, "metadata": {"axes": "TCZYX"}, "compression": "zlib"}),
    "trailing channels": ((3, 5, 7, 2), "TYXC", {"metadata": {"axes": "TYXC"}}),
    "RGB": ((6, 16, 17, 3), "QYXS", {"photometric": "rgb"}),
    "planar RGB": ((3, 16, 17), "SYX", {"photometric": "rgb", "planarconfig": "separate"}),
}


@pytest.mark.parametrize(("shape", "axes", "options"), TIFFS.values(), ids=TIFFS.keys())
def test_tiff_gives_every_piece_of_every_flavour(tmp_path, rng, shape, axes, options):
    array = rng.integers(0, 60000, shape).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, **options)
    decoder = TiffDecoder(path)
    assert (decoder.axes, decoder.shape) == (axes, shape)
    np.testing.assert_array_equal(decoder.read((ALL,) * len(shape)), array)
    for axis in range(len(shape)):
        index = tuple(n - 1 if i <= axis else ALL for i, n in enumerate(shape))
        np.testing.assert_array_equal(decoder.read(index), array[index])
        only = tuple(1 if i == axis else ALL for i in range(len(shape)))
        np.testing.assert_array_equal(decoder.read(only), array[only])
    decoder.close()


def test_tiff_with_pages_written_one_by_one_is_one_series(tmp_path, rng):
    array = rng.integers(0, 99, (6, 5, 7)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in array:
            writer.write(page, contiguous=False, metadata=None)
    decoder = TiffDecoder(tmp_path / "a.tif")
    np.testing.assert_array_equal(decoder.read((4, ALL, ALL)), array[4])
    decoder.close()


def test_tiff_with_pages_of_two_sizes_shows_the_first_and_says_so(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((5, 7), np.uint8), metadata=None)
        writer.write(np.zeros((8, 9), np.uint8), metadata=None)
    decoder = TiffDecoder(tmp_path / "a.tif")
    assert decoder.shape == (5, 7)
    assert "2 images of different shape" in decoder.notes[0]
    decoder.close()


def test_frame_interval_of_imagej_gives_the_rate(tmp_path):
    options = {"imagej": True, "metadata": {"axes": "TYX", "finterval": 0.25, "tunit": "sec"}}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 5, 7), np.uint8), **options)
    decoder = TiffDecoder(tmp_path / "a.tif")
    assert decoder.fps == pytest.approx(4)
    decoder.close()


FLAVOURS = {
    "ImageJ": {"imagej": True, "metadata": {"axes": "TYX"}},
    "OME": {"ome": True, "metadata": {"axes": "TYX"}},
    "compressed OME": {"ome": True, "metadata": {"axes": "TYX"}, "compression": "zlib"},
    "compressed": {"compression": "zlib"},
}


@pytest.mark.parametrize("options", FLAVOURS.values(), ids=FLAVOURS.keys())
def test_tiff_that_ends_too_early_says_so(tmp_path, rng, options):
    path = tmp_path / "a.tif"
    array = rng.integers(0, 255, (6, 50, 70)).astype(np.uint8)
    tifffile.imwrite(path, array, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    decoder = TiffDecoder(path)
    assert "seems damaged" in decoder.notes[0]
    np.testing.assert_array_equal(decoder.read((0,) * (len(decoder.shape) - 2) + (ALL, ALL)), array[0])
    decoder.close()


def test_unbroken_tiff_that_ends_too_early_raises_at_the_missing_frame_only(tmp_path, rng):
    path = tmp_path / "a.tif"
    array = rng.integers(0, 255, (6, 50, 70)).astype(np.uint8)
    tifffile.imwrite(path, array)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    decoder = TiffDecoder(path)
    np.testing.assert_array_equal(decoder.read((3, ALL, ALL)), array[3])
    with pytest.raises(VideoError, match=r"frame 5 of a\.tif"):
        decoder.read((5, ALL, ALL))
    decoder.close()


@pytest.mark.parametrize("content", [b"II*\x00", b"no tiff" * 99], ids=["header only", "words"])
def test_file_that_is_no_tiff_is_refused(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.tif must be a TIFF file; got .*; check"):
        TiffDecoder(tmp_path / "a.tif")


def write_ome_zarr(path: Path, array: np.ndarray, zarr_format: int, axes: str) -> None:
    group = zarr.create_group(path, zarr_format=zarr_format)
    for level, data in (("0", array), ("1", array[..., ::2, ::2])):
        made = group.create_array(
            level, shape=data.shape, dtype=data.dtype, chunks=(1,) * (data.ndim - 2) + data.shape[-2:]
        )
        made[...] = data
    named = [{"name": letter} for letter in axes.lower()]
    image = {"axes": named, "datasets": [{"path": "0"}, {"path": "1"}], "name": "an image"}
    if zarr_format == 2:
        group.attrs["multiscales"] = [image | {"version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_zarr_gives_its_full_resolution_and_axes(tmp_path, rng, zarr_format):
    array = rng.integers(0, 60000, (3, 2, 4, 6, 8)).astype(np.uint16)
    write_ome_zarr(tmp_path / "a.ome.zarr", array, zarr_format, "TCZYX")
    decoder = ZarrDecoder(tmp_path / "a.ome.zarr")
    assert (decoder.axes, decoder.shape, decoder.dtype) == ("TCZYX", array.shape, np.uint16)
    np.testing.assert_array_equal(decoder.read((2, 1, ALL, ALL, ALL)), array[2, 1])


def test_early_ome_zarr_without_axes_has_five(tmp_path):
    array = np.zeros((3, 1, 1, 6, 8), np.uint8)
    write_ome_zarr(tmp_path / "a.zarr", array, 2, "TCZYX")
    group = zarr.open_group(tmp_path / "a.zarr")
    group.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    assert ZarrDecoder(tmp_path / "a.zarr").axes == "TCZYX"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_zarr_array_is_read(tmp_path, rng, zarr_format):
    array = rng.integers(0, 255, (4, 6, 8)).astype(np.uint8)
    made = zarr.create_array(
        tmp_path / "a.zarr", shape=array.shape, dtype="u1", chunks=(1, 6, 8), zarr_format=zarr_format
    )
    made[...] = array
    decoder = ZarrDecoder(tmp_path / "a.zarr")
    assert decoder.axes is None
    np.testing.assert_array_equal(decoder.read((3, ALL, ALL)), array[3])


def test_dimension_names_of_zarr_give_the_axes(tmp_path):
    names = ("channel", "time", "y", "x")
    zarr.create_array(tmp_path / "a.zarr", shape=(2, 4, 6, 8), dtype="u1", dimension_names=names)
    assert ZarrDecoder(tmp_path / "a.zarr").axes == "CTYX"


def test_bioformats_collection_shows_its_first_image(tmp_path, rng):
    array = rng.integers(0, 255, (3, 6, 8)).astype(np.uint8)
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    write_ome_zarr(tmp_path / "a.zarr" / "0", array, 2, "TYX")
    decoder = ZarrDecoder(tmp_path / "a.zarr")
    np.testing.assert_array_equal(decoder.read((1, ALL, ALL)), array[1])
    assert "first is shown" in decoder.notes[0]


def test_zarr_group_of_several_arrays_is_refused_with_their_names(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    for name in ("left", "right"):
        group.create_array(name, shape=(2, 3), dtype="u1")
    with pytest.raises(VideoError, match="arrays left, right; open the image or array inside"):
        ZarrDecoder(tmp_path / "a.zarr")


def test_folder_called_zarr_without_zarr_is_refused(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(VideoError, match=r"a\.zarr must be a zarr array or group"):
        ZarrDecoder(tmp_path / "a.zarr")


def test_damaged_chunk_raises_at_its_frame_only(tmp_path):
    made = zarr.create_array(tmp_path / "a.zarr", shape=(4, 6, 8), dtype="u1", chunks=(1, 6, 8), zarr_format=2)
    made[...] = 7
    (tmp_path / "a.zarr" / "2.0.0").write_bytes(b"rubbish")
    decoder = ZarrDecoder(tmp_path / "a.zarr")
    assert decoder.read((1, ALL, ALL)).max() == 7
    with pytest.raises(VideoError, match="frame 2"):
        decoder.read((2, ALL, ALL))


def test_array_that_fails_raises_our_error():
    import dask.array as da

    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("disk on fire")

    array = da.zeros((4, 6, 8), chunks=(1, 6, 8)).map_blocks(fail, dtype=float, meta=np.empty((0, 0, 0)))
    with pytest.raises(VideoError, match="disk on fire"):
        ArrayDecoder(array, "the array").read((2, ALL, ALL))


@pytest.mark.parametrize("again", [copy.copy, lambda d: pickle.loads(pickle.dumps(d))], ids=["copied", "pickled"])
def test_another_decoder_reads_on_after_the_first_is_closed(tmp_path, again):
    tifffile.imwrite(tmp_path / "a.tif", np.full((6, 5, 7), 3, np.uint8))
    first = TiffDecoder(tmp_path / "a.tif")
    second = again(first)
    first.close()
    assert second.read((0, ALL, ALL)).max() == 3
    with pytest.raises(VideoError, match="must be open"):
        first.read((0, ALL, ALL))
    second.close()


def test_forgotten_decoder_closes_its_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 5, 7), np.uint8))
    TiffDecoder(tmp_path / "a.tif")
