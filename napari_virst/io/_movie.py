"""Movies, frame-exact: an index of time stamps made without decoding, and a player that knows where it stands."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import VideoError
from napari_virst.io._decoders import Decoder, Index, unreadable
from napari_virst.io._frame_cache import FrameCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MOVIE_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ts .mts .m2ts .3gp .ogv .gif .h264 .y4m".split()
)

_CACHE_BYTES = 96 * 2**20
_MAX_BACKFILL = 12
"""Frames kept on the way to the one asked for, so that stepping back does not decode the group of pictures each time."""
_NUM_PROBED = 24
"""Frames decoded at opening to see that the index tells the truth; hidden VP8 frames, for one, come within 24."""


@dataclass(frozen=True)
class MovieIndex:
    """Where the frames of a movie are in time, in the order of display."""

    stamps: tuple[int, ...]
    """Presentation time stamp of each frame, ascending, in the stream's time base; empty where the file has none."""
    keyframes: tuple[int, ...]
    """Frames at which decoding can start, ascending."""
    num_frames: int
    num_lost: int = 0
    """Frames that the file promises at its end but does not hold."""

    @property
    def has_stamps(self) -> bool:
        """Whether frames are found by time; without, only by counting from the start."""
        return bool(self.stamps)


class MovieDecoder(Decoder):
    """One video stream of a movie file as (T, H, W, 3) uint8 RGB, or (T, H, W) uint8 or uint16 where it is gray."""

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
        if self._index.num_lost:
            notes.append(f"{self.name} is cut short: {self._index.num_lost} frames at its end are missing or damaged.")
        if not self._index.has_stamps:
            notes.append(f"{self.name} has no usable time stamps: going back is slow, as it decodes from the start.")
        if player.is_reduced:
            notes.append(f"The colours of {self.name} have more than 8 bits; they are read as 8 bits.")
        if player.quarter_turns:
            notes.append(f"{self.name} is turned by {90 * player.quarter_turns}°, as the file asks for.")
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
        self._pictures = self._decoded()
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

    def last_frame_from(self, keyframe: int) -> int | None:
        """The last frame that can be decoded from ``keyframe`` on; None when not even that one can."""
        if not self._seek(keyframe):
            return None
        return max((number for number, _ in self._pictures), default=None)

    def _seek(self, keyframe: int) -> bool:
        import av

        try:
            self._container.seek(self._index.stamps[keyframe], stream=self._stream, backward=True, any_frame=False)
        except av.error.FFmpegError:
            return False
        # Pictures shown before the keyframe may refer to what was not decoded.
        pictures = ((number, picture) for number, picture in self._decoded(True) if number >= keyframe)
        first = next(pictures, None)
        if first is None:
            return False
        self._pictures, self._next = chain([first], pictures), first[0]
        return True

    def _restart(self) -> None:
        self._container.close()
        self._container, self._stream = open_stream(self._path)
        self._pictures, self._next = self._decoded(), 0

    def _decoded(self, from_keyframe: bool = False) -> Iterator[tuple[int, Any]]:
        """Pictures from here on with their frame numbers; those that are not in the index are left out."""
        stamps = self._index.stamps
        for count, picture in enumerate(decode(self._container, self._stream, from_keyframe)):
            if not self._index.has_stamps:
                yield count, picture
            elif picture.pts is not None:
                number = bisect_left(stamps, picture.pts)
                if number < len(stamps) and stamps[number] == picture.pts:
                    yield number, picture

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


def open_stream(path: Path) -> tuple[Any, Any]:
    """Open the first video stream of ``path`` for decoding on several threads.

    Raises
    ------
    VideoError
        When the file is no movie, has no video, or needs a codec that is not there.
    """
    import av

    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise unreadable(path, "a movie", error) from error
    covers = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    problem = ""
    if not streams:
        problem = f"{path.name} must hold a video; got a file with sound or data only; choose another file."
    elif streams[0].codec_context is None:
        problem = f"{path.name} must use a known codec; got one that FFmpeg cannot decode; convert it to H.264 MP4."
    if problem:
        container.close()
        raise VideoError(problem)
    streams[0].thread_type = "AUTO"
    return container, streams[0]


def decode(container: Any, stream: Any, from_keyframe: bool = False) -> Iterator[Any]:  # noqa: ANN401 - av types
    """Pictures in the order of display, from the next keyframe on where asked; damaged packets are stepped over."""
    import av

    is_skipping = from_keyframe
    try:
        for packet in container.demux(stream):
            is_skipping = is_skipping and not packet.is_keyframe and packet.size > 0
            if is_skipping:
                continue
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                continue
    except av.error.FFmpegError:
        return  # the file ends in the middle of a packet


def index_movie(path: Path) -> MovieIndex:
    """Find the frames of a movie by reading its packets, and decode a few to see that this tells the truth.

    Raises
    ------
    VideoError
        When the file cannot be opened or holds no frame.
    """
    index, is_suspect = _index_by_packets(path)
    index = _probe_start(path, index)
    if is_suspect and index.has_stamps:
        index = _probe_end(path, index)
    if not index.num_frames:
        raise VideoError(f"{path.name} must hold at least one frame; got none that can be decoded; check the file.")
    return index


def _index_by_packets(path: Path) -> tuple[MovieIndex, bool]:
    """The index, and whether the end of the file looks damaged."""
    import av

    container, stream = open_stream(path)
    packets: list[tuple[int | None, bool]] = []
    num_promised, is_suspect = stream.frames, False
    with container:
        try:
            for packet in container.demux(stream):
                is_suspect = is_suspect or packet.is_corrupt
                if packet.size and not packet.is_discard:
                    packets.append((packet.pts, packet.is_keyframe))
        except av.error.FFmpegError:
            is_suspect = True
    return _index_of(packets, max(0, num_promised - len(packets))), is_suspect or num_promised > len(packets)


def _index_of(packets: list[tuple[int | None, bool]], num_lost: int) -> MovieIndex:
    stamps = sorted({pts for pts, _ in packets if pts is not None})
    if len(stamps) < len(packets):  # some are missing or double
        return MovieIndex((), (), len(packets), num_lost)
    keys = sorted(bisect_left(stamps, pts) for pts, is_key in packets if is_key and pts is not None)
    return MovieIndex(tuple(stamps), tuple(keys), len(stamps), num_lost)


def _probe_start(path: Path, index: MovieIndex) -> MovieIndex:
    """Drop leading frames that refer to what was cut off; count by decoding where the stamps cannot be trusted."""
    container, stream = open_stream(path)
    with container:
        seen = [picture.pts for picture in islice(decode(container, stream), _NUM_PROBED)]
    if index.has_stamps and seen and None not in seen:
        num_cut = bisect_left(index.stamps, seen[0])
        if tuple(seen) == index.stamps[num_cut : num_cut + len(seen)]:
            return _cut(index, num_cut, index.num_frames)
    return _index_by_decoding(path, index)


def _index_by_decoding(path: Path, index: MovieIndex) -> MovieIndex:
    container, stream = open_stream(path)
    with container:
        stamps = [picture.pts for picture in decode(container, stream)]
    if None in stamps or any(b <= a for a, b in zip(stamps, stamps[1:], strict=False)):
        return MovieIndex((), (), len(stamps))
    keys = {index.stamps[key] for key in index.keyframes}
    return MovieIndex(tuple(stamps), tuple(i for i, pts in enumerate(stamps) if pts in keys), len(stamps))


def _probe_end(path: Path, index: MovieIndex) -> MovieIndex:
    """Drop frames at the end that cannot be decoded, going back group by group until one can."""
    player = Player(path, index)
    try:
        for keyframe in reversed(index.keyframes):
            reached = player.last_frame_from(keyframe)
            if reached is not None:
                return _cut(index, 0, reached + 1)
    finally:
        player.close()
    return _cut(index, 0, 0)


def _cut(index: MovieIndex, start: int, stop: int) -> MovieIndex:
    """Keep frames ``start … stop - 1``."""
    keyframes = tuple(key - start for key in index.keyframes if start <= key < stop)
    num_lost = index.num_lost + index.num_frames - stop
    return MovieIndex(index.stamps[start:stop], keyframes, stop - start, num_lost)
