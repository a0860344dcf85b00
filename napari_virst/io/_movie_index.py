"""Where the frames of a movie are: time stamps and keyframes, found without decoding more than a few frames."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from napari_virst.errors import VideoError
from napari_virst.io._decoders import unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
    num_damaged: int = 0
    """Frames within it that cannot be decoded: left out, so that those after them have lower numbers."""

    @property
    def has_stamps(self) -> bool:
        """Whether frames are found by time; without, only by counting from the start."""
        return bool(self.stamps)


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


def decode(
    container: Any,  # noqa: ANN401 - av types
    stream: Any,  # noqa: ANN401
    from_keyframe: bool = False,
    on_damage: Callable[[], object] = lambda: None,
) -> Iterator[Any]:
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
                on_damage()
    except av.error.FFmpegError:
        return  # the file ends in the middle of a packet


def number_pictures(pictures: Iterator[Any], index: MovieIndex) -> Iterator[tuple[int, Any]]:
    """Pictures with their frame numbers; those that are not in the index are left out."""
    for count, picture in enumerate(pictures):
        if not index.has_stamps:
            yield count, picture
        elif picture.pts is not None:
            number = bisect_left(index.stamps, picture.pts)
            if number < len(index.stamps) and index.stamps[number] == picture.pts:
                yield number, picture


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
    damaged: list[None] = []
    with container:
        stamps = [picture.pts for picture in decode(container, stream, on_damage=lambda: damaged.append(None))]
    if None in stamps or any(b <= a for a, b in pairwise(stamps)):
        return MovieIndex((), (), len(stamps), index.num_lost, len(damaged))
    keys = {index.stamps[key] for key in index.keyframes}
    keyframes = tuple(i for i, pts in enumerate(stamps) if pts in keys)
    return MovieIndex(tuple(stamps), keyframes, len(stamps), index.num_lost, len(damaged))


def _probe_end(path: Path, index: MovieIndex) -> MovieIndex:
    """Drop frames at the end that cannot be decoded, going back group by group until one can."""
    import av

    container, stream = open_stream(path)
    with container:
        for keyframe in reversed(index.keyframes):
            try:
                container.seek(index.stamps[keyframe], stream=stream, backward=True, any_frame=False)
            except av.error.FFmpegError:
                continue
            numbers = [number for number, _ in number_pictures(decode(container, stream, True), index)]
            if numbers:
                return _cut(index, 0, max(numbers) + 1)
    return _cut(index, 0, 0)


def _cut(index: MovieIndex, start: int, stop: int) -> MovieIndex:
    """Keep frames ``start … stop - 1``."""
    keyframes = tuple(key - start for key in index.keyframes if start <= key < stop)
    num_lost = index.num_lost + index.num_frames - stop
    return replace(
        index, stamps=index.stamps[start:stop], keyframes=keyframes, num_frames=stop - start, num_lost=num_lost
    )
