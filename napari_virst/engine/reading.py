"""Reads the next frames of a video while the present one is followed. No torch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames

THREAD_NAME = "napari-virst frame reader"
NUM_FRAMES_AHEAD = 3


class ReadAhead:
    """A thread that reads frames in a known order, a few ahead of whoever asks; use it as a context.

    Leaving the context ends the thread within the frame that it is reading. Frames may be asked for in that order with
    gaps: what lies in a gap is let go, and not read if its turn has not come.

    Parameters
    ----------
    frames
        The video.
    order
        Frames that will be asked for, each at most once.
    wanted
        Whether a frame must be read at all; asked in the thread when its turn comes.
    num_frames_ahead
        Most frames read and not yet asked for.
    """

    def __init__(
        self,
        frames: Frames,
        order: Sequence[int],
        wanted: Callable[[int], bool] = lambda frame: True,
        num_frames_ahead: int = NUM_FRAMES_AHEAD,
    ) -> None:
        self._frames, self._order, self._wanted, self._num_ahead = frames, order, wanted, num_frames_ahead
        self._positions = {frame: position for position, frame in enumerate(order)}
        self._next = 0
        """Position in ``order`` that is read next; everything before it was read or let go."""
        self._ready: dict[int, NDArray[np.uint8] | Exception] = {}
        self._reading: int | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._read_all, name=THREAD_NAME, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join()

    def take(self, frame: int) -> NDArray[np.uint8]:
        """Return a frame (H, W, 3) uint8, from the thread where it is in the order, else read here and now.

        Raises
        ------
        VideoError
            When the frame cannot be decoded.
        """
        position = self._positions.get(frame)
        with self._changed:
            if position is not None and not self._closed:
                self._let_go(position)
                self._changed.wait_for(lambda: frame in self._ready or self._is_behind(frame, position))
            found = self._ready.pop(frame, None)
            self._changed.notify_all()
        if isinstance(found, Exception):
            raise found
        return self._frames[frame] if found is None else found

    def _let_go(self, position: int) -> None:
        """Forget what comes before ``position`` in the order."""
        for frame in [f for f in self._ready if self._positions[f] < position]:
            del self._ready[frame]
        self._next = max(self._next, position)
        self._changed.notify_all()

    def _is_behind(self, frame: int, position: int) -> bool:
        """Whether the thread has passed a frame without keeping it, or is gone."""
        return self._closed or (self._next > position and self._reading != frame)

    def _read_all(self) -> None:
        while (frame := self._claim()) is not None:
            found: NDArray[np.uint8] | Exception | None
            try:
                found = self._frames[frame] if self._wanted(frame) else None
            except Exception as error:  # noqa: BLE001 - raised again where the frame is taken
                found = error
            with self._changed:
                self._reading = None
                if found is not None and not self._closed:
                    self._ready[frame] = found
                self._changed.notify_all()

    def _claim(self) -> int | None:
        """Wait for room, and return the frame to read; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._ready) < self._num_ahead)
            if self._closed or self._next >= len(self._order):
                return None
            self._reading = self._order[self._next]
            self._next += 1
            return self._reading
