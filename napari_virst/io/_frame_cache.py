"""A small store of frames that forgets the one not used for longest."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FrameCache:
    """Frames by number, bounded in bytes; always keeps the newest. Not thread-safe: its owner holds a lock.

    Parameters
    ----------
    max_bytes
        How many bytes of pixels may be kept.
    max_frames
        How many frames may be kept; None for as many as fit.
    """

    def __init__(self, max_bytes: int, max_frames: int | None = None) -> None:
        self._max_bytes, self._max_frames = max_bytes, max_frames
        self._num_bytes = 0
        self._frames: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def num_bytes(self) -> int:
        """Bytes of pixels kept at present."""
        return self._num_bytes

    def capacity(self, frame_bytes: int) -> int:
        """How many frames of ``frame_bytes`` bytes fit; at least one."""
        return max(1, self._max_bytes // max(1, frame_bytes))

    def get(self, number: int) -> NDArray[Any] | None:
        """Frame ``number``, or None when it is not kept."""
        if number not in self._frames:
            return None
        self._frames.move_to_end(number)
        return self._frames[number]

    def put(self, number: int, frame: NDArray[Any]) -> None:
        """Keep ``frame``, forgetting the oldest ones where room is short."""
        old = self._frames.pop(number, None)
        self._num_bytes += frame.nbytes - (0 if old is None else old.nbytes)
        self._frames[number] = frame
        while self._is_too_full() and len(self._frames) > 1:
            self._num_bytes -= self._frames.popitem(last=False)[1].nbytes

    def _is_too_full(self) -> bool:
        too_many = self._max_frames is not None and len(self._frames) > self._max_frames
        return too_many or self._num_bytes > self._max_bytes

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._num_bytes = 0
