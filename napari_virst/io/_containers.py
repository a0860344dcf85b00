"""Which decoder opens what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_virst.errors import VideoError
from napari_virst.io._decoders import ArrayDecoder, Decoder, TiffDecoder, ZarrDecoder
from napari_virst.io._images import PICTURE_SUFFIXES, TIFF_SUFFIXES, FolderDecoder, PictureDecoder, find_images
from napari_virst.io._movie import MOVIE_SUFFIXES, MovieDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")

READABLE_SUFFIXES = tuple(sorted(MOVIE_SUFFIXES | TIFF_SUFFIXES | PICTURE_SUFFIXES | {".zarr"}))
"""The endings of files that can be opened, lower case, with their dot."""


def open_decoder(source: Any) -> Decoder:  # noqa: ANN401 - paths and every kind of array
    """Find the decoder for a path or an array.

    Raises
    ------
    VideoError
        When the path does not exist or is of no known kind, or its file is damaged.
    """
    if isinstance(source, (str, Path)):
        return _open_path(_existing(source))
    if not all(hasattr(source, attribute) for attribute in ("shape", "dtype", "__getitem__")):
        raise VideoError(f"A video must be a path or an array; got {type(source).__name__}; open its file instead.")
    decoder = ArrayDecoder(source, "the array")
    if decoder.dtype.kind not in "buif":
        raise VideoError(f"The values of a video must be real numbers; got {decoder.dtype}; convert them first.")
    return decoder


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a zarr store by its name or what is in it."""
    return folder.suffix.lower() == ".zarr" or any((folder / name).exists() for name in _ZARR_FILES)


def _existing(source: str | Path) -> Path:
    if "://" in str(source):
        raise VideoError(f"A video must be a file or folder on this computer; got {source}; download it first.")
    if not str(source).strip():
        raise VideoError('The path of a video must be given; got ""; type the name of a file or folder.')
    path = Path(source).expanduser().absolute()
    if not path.exists():
        raise VideoError(f"The path of a video must exist; got {source}; check its spelling.")
    return path


def _open_path(path: Path) -> Decoder:
    if path.is_dir():
        if is_zarr(path):
            return ZarrDecoder(path)
        return FolderDecoder(path, find_images(path))
    if not path.stat().st_size:
        raise VideoError(f"The file of a video must hold data; got {path.name} with 0 bytes; copy it again.")
    makers: tuple[tuple[frozenset[str], Callable[[Path], Decoder]], ...] = (
        (TIFF_SUFFIXES, TiffDecoder),
        (PICTURE_SUFFIXES, PictureDecoder),
        (MOVIE_SUFFIXES, MovieDecoder),
    )
    for suffixes, maker in makers:
        if path.suffix.lower() in suffixes:
            return maker(path)
    raise VideoError(
        f"A video must be a movie, a TIFF, a zarr, an image or a folder of images; got {path.name}; "
        f"convert it to one of {' '.join(READABLE_SUFFIXES)}."
    )
