"""Image files: one image as a video of one frame, and a folder of numbered images as a video."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import VideoError
from napari_virst.io._decoders import Decoder, Index, TiffDecoder, unreadable
from napari_virst.io.axes import LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf8", ".lsm"})
_FAMILIES = {".jpeg": ".jpg", ".tiff": ".tif"}
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
FOLDER_SUFFIXES = PICTURE_SUFFIXES | {".tif", ".tiff"}

_MAX_CHECKED_SIZES = 256
"""How many headers of a folder are compared when it is opened (0.1–0.5 ms each); the rest when they are read."""


class PictureDecoder(Decoder):
    """One PNG, JPEG, BMP or WebP image; no handle stays open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.name = path, path.name
        pixels = read_picture(path)
        self.shape, self.dtype, self.axes = pixels.shape, pixels.dtype, "YXS"[: pixels.ndim]

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    def _open(self) -> Path:
        return self.path

    def _read(self, handle: Path, index: Index) -> NDArray[Any]:
        return np.asarray(read_picture(handle)[index])

    def _release(self, handle: Path) -> None:
        """Nothing is open."""


class FolderDecoder(Decoder):
    """The images of a folder in the order of the numbers in their names, all of one type and size."""

    def __init__(self, folder: Path, paths: tuple[Path, ...]) -> None:
        super().__init__()
        self.path, self.name = folder, folder.name
        self._paths = paths
        check_sizes(paths)
        first = self._file_decoder(0)
        try:
            self.shape, self.dtype = (len(paths), *first.shape), first.dtype
            self.axes = "T" + _axes_within_file(first.axes or "", first.shape)
            self.notes = first.notes
        finally:
            first.close()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image, in order."""
        return self._paths

    def _file_decoder(self, number: int) -> Decoder:
        path = self._paths[number]
        return TiffDecoder(path) if path.suffix.lower() in TIFF_SUFFIXES else PictureDecoder(path)

    def _open(self) -> Path:
        return self.path

    def _read(self, handle: Path, index: Index) -> NDArray[Any]:
        number, *within = index
        if isinstance(number, slice):
            raise VideoError(f"Frames of a folder must be read one at a time; got all of {self.name}.")
        decoder = self._file_decoder(number)
        try:
            if decoder.shape != self.shape[1:] or decoder.dtype != self.dtype:
                raise _changed(self._paths[number], decoder.shape, decoder.dtype, self)
            return decoder.read(tuple(within))
        finally:
            decoder.close()

    def _release(self, handle: Path) -> None:
        """Each file is closed as soon as it is read."""


def find_images(folder: Path) -> tuple[Path, ...]:
    """The images of ``folder`` in natural order; other files are ignored.

    Raises
    ------
    VideoError
        When there are none, or images of several types.
    """
    visible = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    images = [p for p in visible if p.suffix.lower() in FOLDER_SUFFIXES]
    if not images:
        raise _no_images(folder, visible)
    counts: dict[str, int] = {}
    for path in images:
        suffix = path.suffix.lower()
        family = _FAMILIES.get(suffix, suffix)
        counts[family] = counts.get(family, 0) + 1
    if len(counts) > 1:
        found = " and ".join(f"{n} {family}" for family, n in sorted(counts.items()))
        raise VideoError(
            f"The images of a folder must be of one type; got {found} in {folder.name}; "
            "move the files that are not frames to another folder."
        )
    return tuple(sorted(images, key=natural_key))


def natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key by which t2 comes before t10."""
    pieces = re.split(r"(\d+)", path.stem.casefold())
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces if piece], path.name


def read_picture(path: Path) -> NDArray[Any]:
    """Read one PNG, JPEG, BMP or WebP image.

    Returns
    -------
    (H, W) gray or (H, W, 3) RGB, uint8 or uint16; palettes are looked up, alpha is dropped, photographs are upright.

    Raises
    ------
    VideoError
        When the file is not such an image or is damaged.
    """
    try:
        return _read_png(path) if path.suffix.lower() == ".png" else _read_with_pillow(path)
    except Exception as error:
        raise unreadable(path, f"a {path.suffix[1:].upper()} image", error) from error


def _read_png(path: Path) -> NDArray[Any]:
    """Not with Pillow, which cuts 16-bit colour down to 8 bits without a word."""
    import imagecodecs

    pixels: NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
    if pixels.ndim == 3 and pixels.shape[2] in (1, 2):
        return pixels[..., 0]
    return pixels[..., :3] if pixels.ndim == 3 else pixels


def _read_with_pillow(path: Path) -> NDArray[Any]:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        is_gray = upright.mode in ("1", "L", "LA")
        return np.array(upright.convert("L" if is_gray else "RGB"))


def check_sizes(paths: tuple[Path, ...]) -> None:
    """Compare the sizes in the headers of (at most 256, evenly spaced) images.

    Raises
    ------
    VideoError
        When two differ; the message names both.
    """
    every = -(-len(paths) // _MAX_CHECKED_SIZES)
    first = _header_size(paths[0])
    for path in (*paths[::every], paths[-1]):
        size = _header_size(path)
        if size is not None and first is not None and size != first:
            raise VideoError(
                f"The images of a folder must have one size; got {size[0]}×{size[1]} in {path.name} "
                f"after {first[0]}×{first[1]} in {paths[0].name}; crop them or move the odd ones away."
            )


def _header_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as shown; None where Pillow cannot tell, so that reading the frame will."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            is_on_its_side = path.suffix.lower() in (".jpg", ".jpeg") and image.getexif().get(274, 1) >= 5
            return (image.height, image.width) if is_on_its_side else (image.width, image.height)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _axes_within_file(axes: str, shape: tuple[int, ...]) -> str:
    """Several unnamed pages in a file of one frame are its planes."""
    letters = list(axes)
    several = [i for i, letter in enumerate(letters) if shape[i] > 1 and (letter == "T" or letter not in LETTERS)]
    if len(several) == 1 and "Z" not in letters:
        letters[several[0]] = "Z"
    return "".join("Q" if letter == "T" else letter for letter in letters)


def _changed(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], folder: FolderDecoder) -> VideoError:
    return VideoError(
        f"The images of a folder must have one size and type; got {shape} {dtype} in {path.name} "
        f"after {folder.shape[1:]} {folder.dtype} in {folder.files[0].name}; convert it or move it away."
    )


def _no_images(folder: Path, files: Iterable[Path]) -> VideoError:
    wanted = f"{folder.name} must be a folder of PNG, JPEG or TIFF images"
    inner = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    for inside in inner[:20]:
        if any(p.suffix.lower() in FOLDER_SUFFIXES for p in inside.iterdir()):
            return VideoError(f"{wanted}; got none in it, but some in the folder {inside.name} inside; open that one.")
    names = sorted(p.name for p in files)
    if not names:
        return VideoError(f"{wanted}; got no files in it; check the path.")
    return VideoError(f"{wanted}; got other files ({', '.join(names[:3])}…); open a single file by its own path.")
