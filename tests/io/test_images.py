from __future__ import annotations

import random
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_virst.errors import VideoError
from napari_virst.io._images import FolderDecoder, check_sizes, find_images, natural_key, read_picture

pytestmark = pytest.mark.usefixtures("nothing_left_open")

ALL = slice(None)
SIZE = (12, 16)


def write_images(folder: Path, names: list[str], size: tuple[int, int] = SIZE) -> None:
    """One flat gray image per name, in a shuffled order of writing; its value is its place in ``names``."""
    folder.mkdir(exist_ok=True)
    for value, name in random.Random(0).sample(list(enumerate(names)), len(names)):
        Image.fromarray(np.full(size, value, np.uint8)).save(folder / name)


def open_folder(folder: Path) -> FolderDecoder:
    return FolderDecoder(folder, find_images(folder))


def test_frames_are_sorted_by_the_numbers_in_their_names(tmp_path):
    write_images(tmp_path / "a", ["t1.png", "t2.png", "t09.png", "t10.png", "t100.png"])
    decoder = open_folder(tmp_path / "a")
    assert [int(decoder.read((number, 0, 0))) for number in range(5)] == [0, 1, 2, 3, 4]


@given(st.lists(st.integers(0, 10**9), min_size=1, unique=True))
def test_natural_order_is_the_order_of_numbers(numbers: list[int]):
    names = [Path(f"well3_t{number}.tif") for number in numbers]
    assert sorted(names, key=natural_key) == [Path(f"well3_t{number}.tif") for number in sorted(numbers)]


@given(
    st.lists(st.text(st.characters(exclude_characters="/\x00", exclude_categories=("Cs",)), min_size=1), unique=True)
)
def test_natural_order_takes_any_name(names: list[str]):
    assert len(sorted((Path(name) for name in names), key=natural_key)) == len(names)


def test_other_files_and_hidden_files_are_ignored(tmp_path):
    write_images(tmp_path / "a", ["1.png", "2.png", "._3.png"])
    (tmp_path / "a" / "notes.txt").write_text("hello")
    (tmp_path / "a" / "masks").mkdir()
    assert [path.name for path in find_images(tmp_path / "a")] == ["1.png", "2.png"]


@pytest.mark.parametrize("name", ["1.jpg", "1.JPEG", "1.bmp", "1.webp", "1.png"])
def test_every_type_of_picture_is_read(tmp_path, name):
    Image.fromarray(np.full((*SIZE, 3), (200, 100, 50), np.uint8)).save(tmp_path / name)
    picture = read_picture(tmp_path / name)
    assert picture.shape == (*SIZE, 3)
    np.testing.assert_allclose(picture.mean((0, 1)), (200, 100, 50), atol=4)


PNGS = {
    "gray 8": (np.arange(192, dtype=np.uint8).reshape(SIZE), (*SIZE,)),
    "gray 16": (np.arange(192, dtype=np.uint16).reshape(SIZE) * 300, (*SIZE,)),
    "RGB 16": (np.arange(576, dtype=np.uint16).reshape(*SIZE, 3) * 100, (*SIZE, 3)),
    "RGBA 8": (np.arange(768).astype(np.uint8).reshape(*SIZE, 4), (*SIZE, 3)),
}


@pytest.mark.parametrize(("pixels", "shape"), PNGS.values(), ids=PNGS.keys())
def test_png_keeps_every_bit_and_drops_alpha(tmp_path, pixels, shape):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    picture = read_picture(tmp_path / "a.png")
    assert (picture.shape, picture.dtype) == (shape, pixels.dtype)
    np.testing.assert_array_equal(picture, pixels if pixels.ndim == 2 else pixels[..., :3])


def test_png_with_gray_and_alpha_is_gray(tmp_path):
    Image.new("LA", SIZE[::-1], (77, 10)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.full(SIZE, 77))


def test_palette_of_a_png_is_looked_up(tmp_path):
    image = Image.fromarray(np.eye(12, 16, dtype=np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture[0, 0].tolist() == [200, 100, 50]
    assert picture[0, 1].tolist() == [10, 20, 30]


def test_photograph_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (16, 12)).save(tmp_path / "1.jpg", exif=exif)
    Image.new("RGB", (12, 16)).save(tmp_path / "2.jpg")
    decoder = open_folder(tmp_path)
    assert decoder.shape == (2, 16, 12, 3)
    decoder.read((0, ALL, ALL, ALL))


def test_folder_of_sixteen_bit_tiffs(tmp_path, rng):
    array = rng.integers(0, 60000, (3, *SIZE)).astype(np.uint16)
    for number, frame in enumerate(array):
        tifffile.imwrite(tmp_path / f"t{number}.tif", frame)
    decoder = open_folder(tmp_path)
    assert (decoder.shape, decoder.axes, decoder.dtype) == ((3, *SIZE), "TYX", np.uint16)
    np.testing.assert_array_equal(decoder.read((2, ALL, ALL)), array[2])


def test_pages_of_a_tiff_in_a_folder_are_planes(tmp_path, rng):
    array = rng.integers(0, 60000, (3, 5, *SIZE)).astype(np.uint16)
    for number, stack in enumerate(array):
        tifffile.imwrite(tmp_path / f"t{number}.tif", stack, compression="zlib")
    decoder = open_folder(tmp_path)
    assert decoder.axes == "TZYX"
    np.testing.assert_array_equal(decoder.read((2, 4, ALL, ALL)), array[2, 4])


def test_changing_size_is_refused_with_both_names(tmp_path):
    write_images(tmp_path / "a", ["1.png"])
    write_images(tmp_path / "a", ["2.png"], size=(20, 30))
    with pytest.raises(VideoError, match=r"must have one size; got 30×20 in 2\.png after 16×12 in 1\.png"):
        open_folder(tmp_path / "a")


def test_changing_size_that_the_headers_hide_is_refused_when_read(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_virst.io._images._header_size", lambda path: None)
    write_images(tmp_path / "a", ["1.png"])
    write_images(tmp_path / "a", ["2.png"], size=(20, 30))
    decoder = open_folder(tmp_path / "a")
    with pytest.raises(VideoError, match=r"one size and type; got \(20, 30\) uint8 in 2\.png"):
        decoder.read((1, ALL, ALL))


def test_first_and_last_sizes_are_compared_however_many_there_are(tmp_path, monkeypatch):
    sizes = {Path("0.png"): (16, 12), Path("999.png"): (30, 20)}
    monkeypatch.setattr("napari_virst.io._images._header_size", lambda path: sizes.get(path, (16, 12)))
    with pytest.raises(VideoError, match=r"999\.png"):
        check_sizes(tuple(Path(f"{number}.png") for number in range(1000)))


def test_mixed_types_are_refused_with_their_counts(tmp_path):
    write_images(tmp_path / "a", ["1.png", "2.png", "1.jpg"])
    with pytest.raises(VideoError, match=r"must be of one type; got 1 \.jpg and 2 \.png in a"):
        open_folder(tmp_path / "a")


def test_two_spellings_of_one_type_are_one_type(tmp_path):
    write_images(tmp_path / "a", ["1.jpg", "2.JPEG"])
    assert open_folder(tmp_path / "a").shape[0] == 2


@pytest.mark.parametrize(
    ("made", "message"),
    [
        pytest.param([], "got no files in it", id="empty"),
        pytest.param(["a.txt", "video.mp4"], r"got other files \(a.txt, video.mp4", id="other files"),
        pytest.param(["frames/1.png"], "some in the folder frames inside; open that one", id="images one folder down"),
    ],
)
def test_folder_without_images_says_what_is_there(tmp_path, made, message):
    for name in made:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(VideoError, match=message):
        find_images(tmp_path)


def test_damaged_image_raises_with_its_name(tmp_path):
    write_images(tmp_path / "a", ["1.png", "2.png"])
    content = (tmp_path / "a" / "2.png").read_bytes()
    (tmp_path / "a" / "2.png").write_bytes(content[: len(content) // 2])
    decoder = open_folder(tmp_path / "a")
    with pytest.raises(VideoError, match=r"2\.png must be a PNG image"):
        decoder.read((1, ALL, ALL))
