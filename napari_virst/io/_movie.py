"""Movies, frame by frame in any order: a decoder, and a player that knows where in the file it stands."""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import VideoError
from napari_virst.io._decoders import Decoder, Index
from napari_virst.io._frame_cache import FrameCache
from napari_virst.io._movie_index import decode, index_movie, number_pictures, open_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.io._movie_index import MovieIndex

MOVIE_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}
    | {".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".gif", ".h264", ".y4m"}
)

_CACHE_BYTES = 96 * 2**20
_MAX_BACKFILL = 12
"""Frames kept on the way to the one asked for, so that stepping back need not decode a whole group each time."""


class MovieDecoder(Decoder):
    """One video stream of a movie file as (T, H, W, 3) uint8 RGB, or (T, H, W) uint8 or uint16 where it is gray."""

    is_quick_anywhere = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.name = path, path.name
        self._index = index_movie(path)
        player = self._handle = self._open()
        try:
            pixels = player.frame(0)
        except VideoError:
            self.close()
            raise
        self.shape, self.dtype = (self._index.num_frames, *pixels.shape), pixels.dtype
        self.axes = "TYXS"[: len(self.shape)]
        self.fps, self.notes = player.fps, self._describe(player)

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    def _describe(self, player: Player) -> tuple[str, ...]:
        notes = []
        if num_damaged := self._index.num_damaged:
            notes.append(
                f"{self.name} is damaged: {num_damaged} frame{'s' * (num_damaged > 1)} within it cannot be read; they "
                "are left out, and frames after them have lower numbers than elsewhere."
            )
        if self._index.num_lost:
            notes.append(f"{self.name} is cut short: {self._index.num_lost} frames at its end are missing or damaged.")
        if not self._index.has_stamps:
            notes.append(f"{self.name} has no usable time stamps: going back is slow, as it decodes from the start.")
        if player.is_reduced:
            notes.append(f"The colours of {self.name} have more than 8 bits; they are read as 8 bits.")
        if player.quarter_turns:
            notes.append(f"{self.name} was filmed on its side; it is turned as the file asks for.")
        return tuple(notes)

    def _open(self) -> Player:
        return Player(self.path, self._index)

    def _read(self, handle: Player, index: Index) -> NDArray[Any]:
        number, *within = index
        if isinstance(number, slice):
            raise VideoError(f"Frames of a movie must be read one at a time; got all of {self.name}.")
        pixels = handle.frame(number)
        if pixels.shape != self.shape[1:]:
            raise VideoError(
                f"A movie must keep its size; got {pixels.shape[1]}×{pixels.shape[0]} at frame {number} of {self.name} "
                f"after {self.shape[2]}×{self.shape[1]}; cut it there or scale it to one size."
            )
        return np.asarray(pixels[tuple(within)])


class Player:
    """An open movie and the place in it; decodes onward where it can and seeks where it must. Not thread-safe."""

    def __init__(self, path: Path, index: MovieIndex) -> None:
        self._path, self._index = path, index
        self._cache = FrameCache(_CACHE_BYTES)
        self._container, self._stream = open_stream(path)
        self._pictures = self._numbered()
        self._next = 0
        frame_bytes = 3 * self._stream.codec_context.width * self._stream.codec_context.height
        self._num_backfill = min(_MAX_BACKFILL, self._cache.capacity(frame_bytes) // 2)
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate or 0) or None
        self.quarter_turns = 0
        self.is_reduced = False

    def close(self) -> None:
        """Close the file and forget the frames."""
        self._pictures = iter(())
        self._cache.clear()
        self._container.close()

    def frame(self, number: int) -> NDArray[Any]:
        """Frame ``number``: (H, W, 3) uint8, or (H, W) uint8 or uint16; shared, not to be written to.

        Raises
        ------
        VideoError
            When it is damaged.
        """
        if (pixels := self._cache.get(number)) is not None:
            return pixels
        self._approach(number)
        self._decode_up_to(number)
        pixels = self._cache.get(number)
        if pixels is None:
            raise VideoError(
                f"Every frame must be decodable; got damaged data at frame {number} of {self._path.name}; "
                "repair the file, for example by encoding it again with ffmpeg."
            )
        return pixels

    def _decode_up_to(self, number: int) -> None:
        for reached, picture in self._pictures:
            self._next = reached + 1
            if reached >= number - self._num_backfill:
                self._cache.put(reached, self._pixels(picture))
            if reached >= number:
                return
        self._next = self._index.num_frames + 1  # ran out: only a seek can go on from here

    def _approach(self, number: int) -> None:
        """Stand at or before ``number``, on the nearest keyframe unless the way from here is as short."""
        keyframes = self._index.keyframes
        nearest = bisect_right(keyframes, number) - 1
        if self._next <= number and (nearest < 0 or keyframes[nearest] <= self._next):
            return
        if self._index.has_stamps:
            # A container may land on a later keyframe than asked for (it seeks by decoding time), so go back further.
            for keyframe in reversed(keyframes[max(0, nearest - 2) : nearest + 1]):
                if self._seek(keyframe) and self._next <= number:
                    return
        self._restart()

    def _seek(self, keyframe: int) -> bool:
        import av

        try:
            self._container.seek(self._index.stamps[keyframe], stream=self._stream, backward=True, any_frame=False)
        except av.error.FFmpegError:
            return False
        # Pictures shown before the keyframe may refer to what was not decoded.
        pictures = (item for item in self._numbered(from_keyframe=True) if item[0] >= keyframe)
        first = next(pictures, None)
        if first is None:
            return False
        self._pictures, self._next = chain([first], pictures), first[0]
        return True

    def _restart(self) -> None:
        self._container.close()
        self._container, self._stream = open_stream(self._path)
        self._pictures, self._next = self._numbered(), 0

    def _numbered(self, from_keyframe: bool = False) -> Iterator[tuple[int, Any]]:
        return number_pictures(decode(self._container, self._stream, from_keyframe), self._index)

    def _pixels(self, picture: Any) -> NDArray[Any]:  # noqa: ANN401 - av.VideoFrame
        name = picture.format.name
        is_gray = name.startswith("gray")
        bits = max(component.bits for component in picture.format.components)
        target = ("gray" if bits <= 8 else "gray16le") if is_gray else "rgb24"
        self.is_reduced = bits > 8 and not is_gray
        self.quarter_turns = round(picture.rotation / 90) % 4
        pixels = np.ascontiguousarray(np.rot90(picture.to_ndarray(format=target), self.quarter_turns))
        pixels.flags.writeable = False
        return pixels
