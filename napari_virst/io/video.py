"""The front door for videos: a path or an array in, a lazy :class:`Video` out. Wakes no decoder library by itself."""

from __future__ import annotations

import weakref
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_virst.errors import VideoError
from napari_virst.io._containers import open_decoder
from napari_virst.io.axes import ZChoice, find_layout
from napari_virst.io.display import Display, full_range, robust_limits
from napari_virst.io.reader import FrameReader, NativeFrames, spread

if TYPE_CHECKING:
    from types import TracebackType

    from napari_virst.io._decoders import Decoder
    from napari_virst.io.axes import Layout

_NUM_MEASURED_FRAMES = 5


def open_video(
    source: Any,  # noqa: ANN401 - paths and every kind of array
    *,
    axes: str | None = None,
    channel: int | None = None,
    z: ZChoice = None,
    name: str | None = None,
) -> Video:
    """Open a video; frames are read when they are asked for.

    Parameters
    ----------
    source
        Path of a movie, a TIFF (plain, ImageJ, OME), an OME-Zarr image or zarr array, an image, or a folder of
        PNG, JPEG or TIFF images; or a numpy, dask or zarr array of real numbers.
    axes
        One letter per axis of the source, of TCZYXS (S are the samples of RGB). Left out, they come from the
        file, else from the shape: (H, W), (T, H, W), and a trailing 3 or 4 is RGB(A).
    channel
        The channel to show, from 0. Left out, the first; of an RGB video, all as colour.
    z
        The plane to show, from 0, or "max" or "mean" to project. Left out, the middle plane; and where there is no
        time axis the planes are the frames.
    name
        What to call the video; the file's name without its ending where left out.

    Returns
    -------
    The open video; what was chosen for you is in :attr:`Video.notes`.

    Raises
    ------
    VideoError
        When the source is missing, of an unknown kind, damaged, empty, or its axes cannot be told.
    """
    decoder = open_decoder(source)
    try:
        layout = find_layout(decoder.shape, decoder.axes, axes=axes, channel=channel, z=z)
        return Video(decoder, layout, Path(source) if isinstance(source, (str, Path)) else None, name)
    except BaseException:
        decoder.close()
        raise


class Video:
    """One open video. Made by :func:`open_video`; close it, or use it in a ``with`` statement.

    Parameters
    ----------
    decoder
        Where pixels come from; owned by the video from now on.
    layout
        Where the frames lie in it.
    path
        The file or folder; None for arrays.
    name
        What to call the video; None takes the path's stem.
    """

    def __init__(self, decoder: Decoder, layout: Layout, path: Path | None, name: str | None = None) -> None:
        self._decoder, self._layout = decoder, layout
        self._eyes = NativeFrames(decoder, layout)
        self._path = path
        self._name = name or (name_of(path) if path is not None else "video")
        self._readers: weakref.WeakSet[FrameReader] = weakref.WeakSet()
        self._lock = Lock()
        self._dask: Any = None
        self._default_display: Display | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Video {self.name!r}: {self.num_frames} frames of {self.width}×{self.height}, {self.dtype}>"

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """What to call the video."""
        return self._name

    @property
    def path(self) -> Path | None:
        """The file or folder it was opened from, as given; None for arrays."""
        return self._path

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return self.num_frames, self.height, self.width

    @property
    def num_frames(self) -> int:
        """T."""
        return self._eyes.shape[0]

    @property
    def height(self) -> int:
        """H, in pixels."""
        return self._eyes.shape[1]

    @property
    def width(self) -> int:
        """W, in pixels."""
        return self._eyes.shape[2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values of :attr:`dask`: the stored one in native byte order, uint8 for bool."""
        return self._eyes.dtype

    @property
    def fps(self) -> float | None:
        """Frames per second; None where the source does not say."""
        return self._decoder.fps

    @property
    def axes(self) -> str:
        """One letter per axis of the source, as found or given, e.g. "TCZYX"."""
        return self._layout.axes

    @property
    def is_rgb(self) -> bool:
        """Whether frames are colour, (H, W, 3)."""
        return self._layout.is_rgb

    @property
    def num_channels(self) -> int:
        """How many channels ``channel=`` can choose from; 3 for colour, 1 where there is no choice."""
        return 3 if self.is_rgb else self._layout.size("C")

    @property
    def notes(self) -> tuple[str, ...]:
        """What was chosen for the user and what is odd about the file, one sentence each."""
        return self._decoder.notes + self._layout.notes

    @property
    def fingerprint(self) -> str:
        """Hash of samples of the content and of the channel and plane shown; survives moving or copying the file."""
        return self._eyes.content_fingerprint

    @property
    def dask(self) -> Any:  # noqa: ANN401 - dask's types are not annotated
        """Dask array (T, H, W) or (T, H, W, 3) of :attr:`dtype`, one frame a chunk, for the eyes."""
        import dask.array as da

        with self._lock:
            if self._dask is None:
                chunks = (1, *self._eyes.shape[1:])
                # napari caches chunks by name across layers, so a name must never come twice.
                token = f"video-{uuid4().hex}"
                # Inlined, a frame of a 100 000-frame video comes after 10 ms of dask's work; else after 0.4 s.
                options = {"asarray": False, "fancy": False, "inline_array": True}
                self._dask = da.from_array(self._eyes, chunks=chunks, name=token, **options)
            return self._dask

    def reader(self, display: Display | None = None) -> FrameReader:
        """Frames as RGB for the work, through a decoder handle of their own.

        Parameters
        ----------
        display
            How values become colours; None takes :meth:`default_display`.

        Raises
        ------
        VideoError
            When the video was closed.
        """
        chosen = self.default_display() if display is None else display
        with self._lock:
            if self._is_closed:
                raise VideoError(f"The video must be open to be read; {self.name} has been closed; open it again.")
            reader = FrameReader(self._eyes.again(), chosen)
            self._readers.add(reader)
            return reader

    def default_display(self) -> Display:
        """Gray with contrast limits that show the video well, for the eyes and the model alike.

        uint8 and integer RGB: the whole range of the dtype. bool: 0…1. Float RGB: 0…1 unless its values leave that
        range. All else: from five frames spread over the video, ignoring NaN and infinities and the 0.02 % darkest
        and brightest values of each, so that hot pixels do not blacken the rest.
        """
        if self._default_display is None:
            self._default_display = Display(self._measured_limits())
        return self._default_display

    def _measured_limits(self) -> tuple[float, float]:
        if self._decoder.dtype == np.bool_:
            return 0.0, 1.0
        if self.dtype == np.uint8 or (self.is_rgb and self.dtype.kind in "ui"):
            return full_range(self.dtype)
        sampled = (self._eyes.frame(number) for number in spread(self.num_frames, _NUM_MEASURED_FRAMES))
        low, high = robust_limits(sampled, self.dtype)
        is_unit_colour = self.is_rgb and low >= 0 and high <= 1
        return (0.0, 1.0) if is_unit_colour else (low, high)

    def close(self) -> None:
        """Let go of every file, those of the readers too; reading raises from now on. Closing twice does nothing."""
        with self._lock:
            self._is_closed = True
            readers = list(self._readers)
            self._dask = None
        for reader in readers:
            reader.close()
        self._eyes.close()


def name_of(path: Path) -> str:
    """Name a video after its file or folder, without the ending.

    Examples
    --------
    >>> name_of(Path("cells.ome.tif"))
    'cells'
    """
    name = path.absolute().name
    for ending in (".ome.tif", ".ome.tiff", ".ome.zarr"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name if path.is_dir() and path.suffix.lower() != ".zarr" else Path(name).stem
