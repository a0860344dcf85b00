"""When a re-run may end early: its answers agree again with what the track holds. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Convergence:
    """Counts consecutive frames on which a re-run says what the track holds.

    A frame on which both say "not here" is no evidence either way: while an object is hidden, two memories that differ
    look alike. A frame for which the track holds nothing starts the count anew.

    Parameters
    ----------
    known_mask
        Frame to the mask (H, W) bool that the track holds, None where it holds none.
    num_frames
        How many frames must agree.
    min_iou
        From which IoU on two masks agree.
    """

    def __init__(self, known_mask: Callable[[int], NDArray[np.bool_] | None], num_frames: int, min_iou: float) -> None:
        self._known_mask, self._num_frames, self._min_iou = known_mask, num_frames, min_iou
        self._count = 0

    def restart(self) -> None:
        """Forget what was counted, at the start of a leg."""
        self._count = 0

    def reached(self, frame: int, mask: NDArray[np.bool_]) -> bool:
        """Count a frame, and tell whether enough have agreed in a row."""
        known = self._known_mask(frame)
        if known is None:
            self._count = 0
            return False
        union = int(np.count_nonzero(known | mask))
        if union:
            agree = int(np.count_nonzero(known & mask)) >= self._min_iou * union
            self._count = self._count + 1 if agree else 0
        return self._count >= self._num_frames
