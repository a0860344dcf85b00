"""Arrays in files, read piece by piece: TIFF, OME-Zarr, and arrays in memory behind one face.

A decoder owns one handle of its own on its file, opened when first needed, and reads under its own lock.
``copy.copy`` and pickle give another decoder of the same file that shares what was learned but not the handle.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from contextlib import contextmanager
from itertools import product
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import VideoError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Index = tuple[int | slice, ...]
"""For each axis a number or ``slice(None)``; nothing else is asked of a decoder."""


class Decoder(ABC):
    """One source of frames as an N-dimensional array of which pieces can be read, from any thread."""

    name: str
    """What to call the source in messages."""
    shape: tuple[int, ...]
    """Size of each axis."""
    dtype: np.dtype[Any]
    """Type of the values as stored; any byte order."""
    axes: str | None = None
    """One letter per axis as the source names them; None where it does not."""
    fps: float | None = None
    """Frames per second, where the source says so."""
    notes: tuple[str, ...] = ()
    """What the user should know, one sentence each."""
    is_quick_anywhere: bool = True
    """Whether any frame is there at once; False where those before it must be decoded too."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._handle: Any = None
        self._is_closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_handle", "_is_closed")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Decoder.__init__(self)
        self.__dict__.update(state)

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files whose bytes tell this source from another; empty where pixels must tell."""
        return ()

    def read(self, index: Index) -> NDArray[Any]:
        """Read a piece.

        Parameters
        ----------
        index
            A number or a full slice for each axis.

        Returns
        -------
        The sliced axes in their own order, dtype :attr:`dtype`.

        Raises
        ------
        VideoError
            When the piece cannot be decoded, or the decoder is closed.
        """
        with self._lock:
            if self._is_closed:
                raise VideoError(f"The video must be open to be read; {self.name} has been closed; open it again.")
            if self._handle is None:
                self._handle = self._open()
            return self._read(self._handle, index)

    def close(self) -> None:
        """Let go of the file; reading raises from now on. Closing twice does nothing."""
        with self._lock:
            self._is_closed = True
            handle, self._handle = self._handle, None
            if handle is not None:
                self._release(handle)

    @abstractmethod
    def _open(self) -> Any:  # noqa: ANN401 - each library has handles of its own type
        """Open a handle."""

    @abstractmethod
    def _read(self, handle: Any, index: Index) -> NDArray[Any]:  # noqa: ANN401
        """Read a piece through ``handle``."""

    def _release(self, handle: Any) -> None:  # noqa: ANN401
        """Close ``handle``."""
        handle.close()


class ArrayDecoder(Decoder):
    """An array in memory or behind numpy's indexing: numpy, dask, zarr."""

    def __init__(self, array: Any, name: str) -> None:  # noqa: ANN401 - anything that indexes like an array
        super().__init__()
        self.name = name
        self.shape = tuple(int(size) for size in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.axes = _dimension_letters(getattr(getattr(array, "metadata", None), "dimension_names", None))
        self._array = array

    def _open(self) -> Any:  # noqa: ANN401
        return self._array

    def _read(self, handle: Any, index: Index) -> NDArray[Any]:  # noqa: ANN401
        try:
            return np.asarray(handle[index])
        except Exception as error:
            raise damaged(self.name, index, error) from error

    def _release(self, handle: Any) -> None:  # noqa: ANN401
        """The array is its maker's; only forget it."""
        self._array = None


class TiffDecoder(Decoder):
    """The first image series of a TIFF file: plain, ImageJ or OME, at full resolution."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.name = path, path.name
        with _logged_errors("tifffile") as complaints:
            series = self._open_series()
        self.axes, self.shape = series.axes, tuple(series.shape)
        self.dtype = series.dtype.newbyteorder(self._handle.byteorder)
        self._offset = series.dataoffset
        self._num_outer = self._count_outer_axes(series)
        tiff = self._handle
        self.fps = _imagej_fps(tiff.imagej_metadata or {})
        if len(tiff.series) > 1 and not tiff.is_lsm:  # the second series of an LSM file is its thumbnails
            self.notes = (f"{self.name} holds {len(tiff.series)} images of different shape: the first is shown.",)
        if complaints:
            self.notes += (f'{self.name} seems damaged, frames may be missing: "{complaints[0]}".',)

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    def _open_series(self) -> Any:  # noqa: ANN401
        try:
            self._handle = self._open()
            return self._handle.series[0]
        except Exception as error:
            self.close()
            raise unreadable(self.path, "a TIFF file", error) from error

    def _open(self) -> Any:  # noqa: ANN401
        import tifffile

        return tifffile.TiffFile(self.path)

    def _count_outer_axes(self, series: Any) -> int:  # noqa: ANN401
        """How many leading axes count planes; each plane is one page, or one stretch of an unbroken file."""
        if self._offset is not None and {"Y", "X"} <= set(series.axes):
            return int(min(series.axes.index("Y"), series.axes.index("X")))
        self._offset = None
        outer = (n for n in range(len(self.shape)) if math.prod(self.shape[:n]) == len(series.pages))
        return max(outer, default=0)

    def _read(self, handle: Any, index: Index) -> NDArray[Any]:  # noqa: ANN401
        outer, inner = index[: self._num_outer], index[self._num_outer :]
        sizes = self.shape[: self._num_outer]
        choices = [range(n) if isinstance(i, slice) else (i,) for i, n in zip(outer, sizes, strict=True)]
        spread = tuple(len(c) for c, i in zip(choices, outer, strict=True) if isinstance(i, slice))
        try:
            planes = [self._plane(handle.series[0], where)[inner] for where in product(*choices)]
        except Exception as error:
            raise damaged(self.name, index, error) from error
        return planes[0] if not spread else np.stack(planes).reshape(*spread, *planes[0].shape)

    def _plane(self, series: Any, where: tuple[int, ...]) -> NDArray[Any]:  # noqa: ANN401
        """One plane; planes that an OME file promises but does not hold are 0, as its standard says."""
        shape = self.shape[self._num_outer :]
        number = int(np.ravel_multi_index(where, self.shape[: self._num_outer])) if where else 0
        if self._offset is not None:
            size = math.prod(shape)
            filehandle = series.keyframe.parent.filehandle
            start = self._offset + number * size * self.dtype.itemsize
            values: NDArray[Any] = filehandle.read_array(self.dtype, count=size, offset=start)
            return values.reshape(shape)
        page = series.pages[number]
        if page is None:
            return np.zeros(shape, self.dtype)
        return np.asarray(page.asarray()).reshape(shape)


class ZarrDecoder(Decoder):
    """A zarr array on disk, or the full-resolution level of an OME-Zarr image (formats 2 and 3)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.name = path, path.name
        self._inner_path = ""
        array = self._find_array()
        self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype)
        if self.axes is None or len(self.axes) != len(self.shape):
            names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
            self.axes = _dimension_letters(names)

    def _find_array(self) -> Any:  # noqa: ANN401
        import zarr

        try:
            node = zarr.open(self.path, mode="r")
        except Exception as error:
            raise unreadable(self.path, "a zarr array or group", error) from error
        if isinstance(node, zarr.Group):
            self._inner_path = self._path_in_group(node)
        return self._open()

    def _path_in_group(self, group: Any) -> str:  # noqa: ANN401
        attributes = dict(group.attrs)
        attributes.update(attributes.get("ome") or {})
        if multiscales := attributes.get("multiscales"):
            self.axes = _ome_axes(multiscales[0])
            return str(multiscales[0]["datasets"][0]["path"])
        if attributes.get("bioformats2raw.layout") and "0" in group:
            self.notes = (f"{self.name} is a collection of images: the first is shown.",)
            return "0/" + self._path_in_group(group["0"])
        arrays = sorted(key for key, _ in group.arrays())
        if len(arrays) == 1:
            return str(arrays[0])
        found = f"arrays {', '.join(arrays[:5])}" if arrays else f"groups {', '.join(sorted(group.group_keys()))[:80]}"
        raise VideoError(
            f"A zarr group must be an OME-Zarr image or hold one array; got {self.name} with {found}; "
            "open the image or array inside it."
        )

    def _open(self) -> Any:  # noqa: ANN401
        import zarr

        try:
            return zarr.open_array(self.path, path=self._inner_path, mode="r")
        except Exception as error:
            raise unreadable(self.path, f'a zarr with an array "{self._inner_path}"', error) from error

    def _read(self, handle: Any, index: Index) -> NDArray[Any]:  # noqa: ANN401
        try:
            return np.asarray(handle[index])
        except Exception as error:
            raise damaged(self.name, index, error) from error

    def _release(self, handle: Any) -> None:  # noqa: ANN401
        """Zarr opens and closes the file of each chunk by itself."""


def damaged(name: str, index: Index, error: Exception) -> VideoError:
    """What to say when a piece of an opened source cannot be read."""
    frame = next((item for item in index if not isinstance(item, slice)), 0)
    return VideoError(f"A frame must be readable; got {_reason(error)} at frame {frame} of {name}; repair the file.")


def unreadable(path: Path, wanted: str, error: Exception) -> VideoError:
    """What to say when a file cannot be opened as what its name promises."""
    return VideoError(
        f"{path.name} must be {wanted}; got {_reason(error)}; check that the file is whole and has the right ending."
    )


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return f'"{lines[0][:160]}"' if lines and lines[0] else type(error).__name__


@contextmanager
def _logged_errors(name: str) -> Iterator[list[str]]:
    """What a library logs as an error instead of raising it, such as a TIFF file that ends too early."""
    messages: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    library = logging.getLogger(name)
    library.addHandler(handler)
    try:
        yield messages
    finally:
        library.removeHandler(handler)


def _imagej_fps(metadata: dict[str, Any]) -> float | None:
    if fps := metadata.get("fps"):
        return float(fps)
    interval = metadata.get("finterval")
    is_seconds = metadata.get("tunit", "sec") in ("s", "sec", "second", "seconds")
    return 1 / float(interval) if interval and is_seconds else None


def _ome_axes(multiscale: dict[str, Any]) -> str:
    """Letters of an OME-Zarr image; versions before 0.3 have none, and always five axes."""
    axes = multiscale.get("axes")
    if not axes:
        return "TCZYX"
    return "".join(str(axis["name"] if isinstance(axis, dict) else axis)[:1] for axis in axes).upper()


def _dimension_letters(names: Sequence[str | None] | None) -> str | None:
    """First letters of named dimensions ("time", "y", …); None unless rows and columns are among them."""
    if not names or not all(isinstance(name, str) and name for name in names):
        return None
    letters = "".join(str(name)[0].upper() for name in names)
    return letters if {"Y", "X"} <= set(letters) else None
