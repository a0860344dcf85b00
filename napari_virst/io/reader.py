"""Frames of one video, read one at a time from any thread: as stored, and as RGB for the model."""

from __future__ import annotations

import copy
import hashlib
import operator
import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import VideoError
from napari_virst.io._frame_cache import FrameCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from napari_virst.io._decoders import Decoder
    from napari_virst.io.axes import Layout
    from napari_virst.io.display import Display

_CACHE_BYTES = 64 * 2**20

_CACHE_FRAMES = 512
"""Small frames would fill the store for thousands of frames, and memory would seem to grow with the video: 67 MB from
100 to 10 000 frames of 96 × 128."""

_NUM_PIXEL_FRAMES = 4
"""Frames that are decoded for a hash of pixels while a window waits: of 1080p PNG images 0.3 s; sixteen took 1.1 s."""

_SAMPLE_BYTES = 2**16
_NUM_SAMPLED_FILES = 8
_NUM_SAMPLED_FRAMES = 16
_WHOLE_ARRAY_BYTES = 64 * 2**20


class NativeFrames:
    """Frames in their own dtype, as a duck array: (T, H, W) or (T, H, W, 3).

    Parameters
    ----------
    decoder
        Where pixels come from; owned by this object from now on.
    layout
        Where the frames lie in it.
    """

    def __init__(self, decoder: Decoder, layout: Layout) -> None:
        self._decoder, self._layout = decoder, layout
        self.shape: tuple[int, ...] = (layout.size("T"), *layout.frame_shape)
        self.ndim = len(self.shape)
        self.dtype: np.dtype[Any] = layout.frame_dtype(decoder.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def frame(self, number: int) -> NDArray[Any]:
        """Frame ``number`` as (H, W) or (H, W, 3); perhaps shared or read-only.

        Raises
        ------
        IndexError
            When there is no such frame.
        VideoError
            When it cannot be decoded, or the decoder is closed.
        """
        number = operator.index(number)
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} is outside 0…{len(self) - 1}")
        return self._layout.arrange(self._decoder.read(self._layout.index(number)))

    def __getitem__(self, index: Any) -> NDArray[Any]:  # noqa: ANN401 - numpy's basic indices
        first, *rest = index if isinstance(index, tuple) else (index,)
        if not isinstance(first, slice):
            return np.asarray(self.frame(first)[tuple(rest)])
        numbers = range(len(self))[first]
        frames = [self.frame(number)[tuple(rest)] for number in numbers]
        return np.stack(frames) if frames else np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]

    def again(self) -> NativeFrames:
        """The same frames through a decoder handle of their own."""
        return NativeFrames(copy.copy(self._decoder), self._layout)

    def close(self) -> None:
        """Close the decoder."""
        self._decoder.close()

    @property
    def content_fingerprint(self) -> str:
        """Hash of samples of the content and of what is shown of it; the same after the file was moved or copied."""
        state = hashlib.blake2b(repr((self.shape, self.dtype.str, self._layout.choices)).encode(), digest_size=16)
        if self._decoder.files:
            for piece in _samples_of_files(self._decoder.files):
                state.update(piece)
        else:
            is_small = self.dtype.itemsize * int(np.prod(self.shape)) <= _WHOLE_ARRAY_BYTES
            for number in spread(len(self), len(self) if is_small else _NUM_SAMPLED_FRAMES):
                state.update(np.ascontiguousarray(self.frame(number)).tobytes())
        return state.hexdigest()

    @property
    def pixels_fingerprint(self) -> str:
        """Hash of sampled frames, the same for a file and an array of what is in it; of a movie's file, its content."""
        if not self._decoder.is_quick_anywhere:
            return self.content_fingerprint
        state = hashlib.blake2b(repr((self.shape, self.dtype.str)).encode(), digest_size=16)
        for number in spread(len(self), _NUM_PIXEL_FRAMES):
            with suppress(VideoError):  # a damaged frame must not keep anybody from the others
                state.update(np.ascontiguousarray(self.frame(number), self.dtype).tobytes())
        return state.hexdigest()

    @property
    def time_fingerprint(self) -> str:
        """Hash of when the files were last written, for changes that the samples miss; the same after a move."""
        times_s = [int(path.stat().st_mtime) for path in self._decoder.files]
        return hashlib.blake2b(repr(times_s).encode(), digest_size=8).hexdigest()


class FrameReader:
    """The frames of a video as RGB, satisfying :class:`napari_virst.engine.protocol.Frames`.

    Any number of threads may read; each reader has a decoder handle of its own and keeps some frames (64 MiB, 512).
    Readers can be pickled and opened again on another process that sees the same files.

    Parameters
    ----------
    frames
        What is read; owned by this reader from now on.
    display
        How values become colours.
    """

    def __init__(self, frames: NativeFrames, display: Display) -> None:
        self._frames, self._display = frames, display
        self._fingerprint: str | None = None
        self._start()

    def _start(self) -> None:
        self._lock = Lock()
        self._cache = FrameCache(_CACHE_BYTES, _CACHE_FRAMES)

    def __getstate__(self) -> dict[str, Any]:
        return {"_frames": self._frames, "_display": self._display, "_fingerprint": self._fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        num_frames, height, width = self._frames.shape[:3]
        return num_frames, height, width, 3

    @property
    def display(self) -> Display:
        """How values become colours."""
        return self._display

    @property
    def fingerprint(self) -> str:
        """Hash of samples of the content, of when it was last written, and of the display settings."""
        if self._fingerprint is None:
            parts = (self._frames.content_fingerprint, self._frames.time_fingerprint, self._display.fingerprint)
            self._fingerprint = hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()
        return self._fingerprint

    def pixels_fingerprint(self) -> str:
        """Hash of sampled frames as stored, the same for a file and an array of what is in it."""
        with self._lock:
            return self._frames.pixels_fingerprint

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """Frame ``frame`` as (H, W, 3) uint8 RGB; the caller's own copy.

        Raises
        ------
        IndexError
            When there is no such frame; negative numbers are none.
        VideoError
            When it cannot be decoded, or the video was closed.
        """
        number = operator.index(frame)
        with self._lock:
            rgb = self._cache.get(number)
            if rgb is None:
                rgb = self._display.to_rgb(self._frames.frame(number))
                self._cache.put(number, rgb)
            return rgb.copy()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; reading raises from now on. Closing twice does nothing."""
        with self._lock:
            self._cache.clear()
            self._frames.close()


def spread(size: int, count: int) -> list[int]:
    """Up to ``count`` numbers spread evenly over ``0 … size - 1``, first and last among them."""
    return sorted({round(position) for position in np.linspace(0, size - 1, min(size, max(count, 1)))})


def _samples_of_files(files: tuple[Path, ...]) -> Iterator[bytes]:
    """Names and sizes of all files, and the head, middle and tail of a few."""
    yield str(len(files)).encode()
    if len(files) > 1:
        yield repr([(path.name, path.stat().st_size) for path in files]).encode()
    for number in spread(len(files), _NUM_SAMPLED_FILES):
        with files[number].open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            yield str(size).encode()
            for start in sorted({0, max(0, size // 2), max(0, size - _SAMPLE_BYTES)}):
                file.seek(start)
                yield file.read(_SAMPLE_BYTES)
