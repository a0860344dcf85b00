"""When a re-run may end early: its answers agree again with what the track holds. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_virst.engine.pointers import cosine

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
    known_pointer
        Frame and mask to the object pointer (C,) with which that mask was answered, None where it is not known: then
        masks alone are looked at, as with models that have no pointers.
    min_cosine
        From which cosine on two pointers agree.
    """

    def __init__(
        self,
        known_mask: Callable[[int], NDArray[np.bool_] | None],
        num_frames: int,
        min_iou: float,
        known_pointer: Callable[[int, NDArray[np.bool_]], NDArray[np.float32] | None] | None = None,
        min_cosine: float = -1.0,
    ) -> None:
        self._known_mask, self._num_frames, self._min_iou = known_mask, num_frames, min_iou
        self._known_pointer, self._min_cosine = known_pointer, min_cosine
        self._count = 0

    def restart(self) -> None:
        """Forget what was counted, at the start of a leg."""
        self._count = 0

    def reached(self, frame: int, mask: NDArray[np.bool_], pointer: NDArray[np.float32] | None = None) -> bool:
        """Count a frame, and tell whether enough have agreed in a row.

        Parameters
        ----------
        frame
            Its number.
        mask
            (H, W) bool, what the re-run says of it.
        pointer
            (C,) object pointer of the re-run; None where the model has none.
        """
        known = self._known_mask(frame)
        if known is None:
            self._count = 0
            return False
        union = int(np.count_nonzero(known | mask))
        if union:
            agree = int(np.count_nonzero(known & mask)) >= self._min_iou * union
            self._count = self._count + 1 if agree and self._pointers_agree(frame, known, pointer) else 0
        return self._count >= self._num_frames

    def _pointers_agree(self, frame: int, known: NDArray[np.bool_], pointer: NDArray[np.float32] | None) -> bool:
        if pointer is None or self._known_pointer is None:
            return True
        held = self._known_pointer(frame, known)
        return held is None or cosine(held, pointer) >= self._min_cosine
