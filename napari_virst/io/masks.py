"""Masks in and out: one mask from an image file, and whole label stacks as TIFF, frame by frame."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_virst.errors import MaskError, VideoError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

_MAX_LABEL = np.iinfo(np.uint16).max
_BIGTIFF_BYTES = 2**32 - 2**25
"""Classic TIFF addresses 4 GiB; what 32 MiB less cannot hold before compression is written as BigTIFF."""


def read_mask(path: str | Path, shape: tuple[int, int], label: int | None = None) -> NDArray[np.bool_]:
    """Read the mask of one frame.

    Parameters
    ----------
    path
        PNG (gray, palette, or black and colours), TIFF or NPY; 0 or black is background.
    shape
        (H, W) of the video.
    label
        Take only the pixels of this value; None takes all that are not background.

    Returns
    -------
    (H, W) bool. All False where the label does not occur: "not here".

    Raises
    ------
    MaskError
        When the file is missing, damaged, of another kind or of another size.
    """
    path = Path(path)
    values = _read_values(path)
    if label is not None and values.ndim == 3:
        raise MaskError(
            f"A mask must be gray or have a palette to choose label {label}; got the colour image {path.name}; "
            "leave label out or save it with label values."
        )
    if values.shape[:2] != tuple(shape):
        raise MaskError(
            f"A mask must have the size of the video, {shape[1]}×{shape[0]}; got {values.shape[1]}×{values.shape[0]} "
            f"in {path.name}; export it again at the video's size."
        )
    if values.ndim == 3:
        return np.asarray(values.any(axis=2))
    return np.asarray(values != 0 if label is None else values == label)


def values_in_mask(path: str | Path) -> tuple[int | float, ...]:
    """Return the values of a gray or palette mask, ascending, without the background 0; nothing for colours.

    Raises
    ------
    MaskError
        When the file is missing, damaged or of another kind.
    """
    values = _read_values(Path(path))
    return () if values.ndim == 3 else tuple(np.unique(values[values != 0]).tolist())


def write_label_stack(path: str | Path, frames: Iterable[NDArray[Any]], shape: tuple[int, int, int]) -> None:
    """Write labels as a compressed TIFF stack that ImageJ, napari and tifffile open; one frame is in memory at a time.

    Stacks of 4 GiB and more (before compression) become BigTIFF. The file appears only when it is whole; one that
    was there before stays until then.

    Parameters
    ----------
    path
        Where to write.
    frames
        T arrays (H, W) of integers 0…65535, or bool.
    shape
        (T, H, W).

    Raises
    ------
    MaskError
        When the frames do not fit ``shape`` or the values do not fit uint16, or the file cannot be written.
    """
    import tifffile

    path = Path(path)
    is_big = 2 * math.prod(shape) >= _BIGTIFF_BYTES
    temporary = _temporary_beside(path)
    remaining = iter(frames)
    try:
        # ImageJ's own format has no BigTIFF; there, tifffile's metadata carry the axes.
        with tifffile.TiffWriter(temporary, bigtiff=is_big, imagej=not is_big) as writer:
            writer.write(
                _checked_frames(remaining, shape),
                shape=shape if is_big else (shape[0], 1, 1, *shape[1:], 1),  # spelt out, or it mistakes narrow frames
                dtype=np.uint16,
                photometric="minisblack",
                compression="zlib",
                metadata={"axes": "TYX" if is_big else "TZCYXS"},
            )
        if next(remaining, None) is not None:
            raise MaskError(f"Labels must be {shape[0]} frames; got more.")
        os.replace(temporary, path)
    except OSError as error:
        raise MaskError(f"Labels must be written to a file; got {error} for {path}; choose another place.") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_label_stack(path: str | Path) -> LabelStack:
    """Open a TIFF stack of labels; frames are read when they are asked for.

    Raises
    ------
    MaskError
        When the file is missing or no stack of whole numbers.
    """
    return LabelStack(Path(path))


class LabelStack:
    """Labels in a TIFF file as a lazy duck array (T, H, W) uint16, 0 = background. Made by :func:`read_label_stack`.

    Parameters
    ----------
    path
        The TIFF file; a single (H, W) image is a stack of one frame.
    """

    ndim = 3
    dtype = np.dtype(np.uint16)

    def __init__(self, path: Path) -> None:
        from napari_virst.io._decoders import TiffDecoder
        from napari_virst.io.axes import find_layout
        from napari_virst.io.reader import NativeFrames

        if not path.is_file():
            raise MaskError(f"The path of a label stack must exist; got {path}; check its spelling.")
        self.path = path
        try:
            decoder = TiffDecoder(path)
        except VideoError as error:
            raise MaskError(str(error)) from error
        try:
            # Three or four unnamed frames look like the planes of a colour.
            axes = "TYX" if len(decoder.shape) == 3 and (decoder.axes or "").endswith("YX") else None
            self._frames = NativeFrames(decoder, find_layout(decoder.shape, decoder.axes, axes=axes))
            if (
                self._frames.ndim != 3
                or decoder.dtype.kind not in "bui"
                or not {"C", "Z"}.isdisjoint(decoder.axes or "")
            ):
                raise VideoError(
                    f"A label stack must be (T, H, W) whole numbers; got {decoder.axes} {decoder.shape} "
                    f"{decoder.dtype} in {path.name}; save one value per pixel."
                )
        except VideoError as error:
            decoder.close()
            raise MaskError(str(error)) from error

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        num_frames, height, width = self._frames.shape
        return num_frames, height, width

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[np.uint16]]:
        return (self.frame(number) for number in range(len(self)))

    def __enter__(self) -> LabelStack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def frame(self, number: int) -> NDArray[np.uint16]:
        """Frame ``number`` as (H, W) uint16.

        Raises
        ------
        IndexError
            When there is no such frame.
        MaskError
            When it is damaged or a value does not fit uint16.
        """
        try:
            return _as_labels(self._frames.frame(operator.index(number)), f"frame {number} of {self.path.name}").copy()
        except VideoError as error:
            raise MaskError(str(error)) from error

    def __getitem__(self, index: Any) -> NDArray[np.uint16]:  # noqa: ANN401 - numpy's basic indices
        first, *rest = index if isinstance(index, tuple) else (index,)
        if not isinstance(first, slice):
            return np.asarray(self.frame(first)[tuple(rest)])
        frames = [self.frame(number)[tuple(rest)] for number in range(len(self))[first]]
        return np.stack(frames) if frames else np.empty((0, *self.shape[1:]), np.uint16)[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: ANN401
        return np.asarray(self[:], dtype)

    def close(self) -> None:
        """Close the file; reading raises from now on."""
        self._frames.close()


def _read_values(path: Path) -> NDArray[Any]:
    """(H, W) values, or (H, W, C) colours."""
    readers = {".png": _read_png, ".tif": _read_tiff, ".tiff": _read_tiff, ".npy": _read_npy}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise MaskError(f"A mask must be a PNG, TIFF or NPY file; got {path.name}; save it as PNG.")
    if not path.is_file():
        raise MaskError(f"The path of a mask must exist; got {path}; check its spelling.")
    try:
        values = reader(path)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise MaskError(
            f'{path.name} must be a readable {path.suffix[1:].upper()} file; got "{reason}"; save it again.'
        ) from error
    outer = values.ndim - (3 if values.ndim > 2 and values.shape[-1] in (3, 4) else 2)
    if outer > 0 and math.prod(values.shape[:outer]) == 1:
        values = values.reshape(values.shape[outer:])
    is_colour = values.ndim == 3 and values.shape[2] in (3, 4) and path.suffix.lower() != ".npy"
    if not (values.ndim == 2 or is_colour) or values.dtype.kind not in "buif":
        raise MaskError(
            f"A mask must be one (H, W) image; got {values.shape} {values.dtype} in {path.name}; save one frame."
        )
    return values[..., :3] if is_colour else values


def _read_png(path: Path) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as image:
        if image.mode in ("LA", "PA"):
            return np.array(image.getchannel(0))
        return np.array(image)


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    return np.asarray(tifffile.imread(path))


def _read_npy(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, allow_pickle=False))


def _temporary_beside(path: Path) -> Path:
    """Make an empty file of a free name; not by tempfile, whose files nobody else may read."""
    temporary = path.absolute().with_name(f".{path.stem}-{uuid4().hex[:12]}.tif")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise MaskError(f"Labels must be written to a folder that exists; got {path}; choose another place.") from error
    return temporary


def _checked_frames(frames: Iterator[NDArray[Any]], shape: tuple[int, int, int]) -> Iterator[NDArray[np.uint16]]:
    for number in range(shape[0]):
        frame = next(frames, None)
        if frame is None:
            raise MaskError(f"Labels must be {shape[0]} frames; got only {number}.")
        if frame.shape != tuple(shape[1:]):
            raise MaskError(f"Labels must be frames of {tuple(shape[1:])}; got {frame.shape} at frame {number}.")
        yield _as_labels(frame, f"frame {number}")


def _as_labels(frame: NDArray[Any], where: str) -> NDArray[np.uint16]:
    if frame.dtype == np.uint16:
        return np.ascontiguousarray(frame)
    if frame.dtype.kind not in "bui":
        raise MaskError(f"Labels must be whole numbers; got {frame.dtype} at {where}; round them first.")
    if frame.size and (frame.min() < 0 or frame.max() > _MAX_LABEL):
        raise MaskError(f"Labels must be 0…{_MAX_LABEL}; got {frame.min()}…{frame.max()} at {where}; renumber them.")
    return frame.astype(np.uint16)
