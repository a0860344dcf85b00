"""Which frames to look at: pure functions from what is known of a track."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_virst.records import Provenance

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_UNCERTAIN = 12
MIN_DOUBT = 0.2


def doubt(presence: NDArray[np.float32], predicted_iou: NDArray[np.float32]) -> NDArray[np.float64]:
    """Say how little the model trusts its own answers.

    Parameters
    ----------
    presence : array of shape (T,)
        Probability that the object is visible, 0…1; NaN where unknown.
    predicted_iou : array of shape (T,)
        The model's estimate of the IoU of its mask, 0…1; NaN where unknown.

    Returns
    -------
    array of shape (T,)
        0…1; 1 where nothing is known. Where the object is said to be absent, the mask's estimate does not count.
    """
    is_there = presence >= 0.5
    certainty = np.where(is_there, presence * np.nan_to_num(predicted_iou, nan=1.0), 1 - presence)
    return 1.0 - np.nan_to_num(certainty.astype(np.float64), nan=0.0)


def frames_to_review(
    provenances: NDArray[np.uint8], presence: NDArray[np.float32], predicted_iou: NDArray[np.float32]
) -> tuple[int, ...]:
    """Choose the frames worth a look: all that a person changed, and the most doubtful ones, spread over time.

    Parameters
    ----------
    provenances, presence, predicted_iou : arrays of shape (T,)
        One :class:`Provenance`, probability and estimate per frame.

    Returns
    -------
    tuple of int
        Sorted. At most 12 doubtful frames, no two nearer than 1/24 of the video.
    """
    users = provenances >= Provenance.CORRECTED
    doubts = np.where(users | (provenances == Provenance.EMPTY), 0.0, doubt(presence, predicted_iou))
    min_distance = max(1, len(provenances) // (2 * MAX_UNCERTAIN))
    chosen: list[int] = []
    for frame in np.argsort(-doubts, kind="stable").tolist():
        if doubts[frame] < MIN_DOUBT or len(chosen) == MAX_UNCERTAIN:
            break
        if all(abs(frame - other) >= min_distance for other in chosen):
            chosen.append(frame)
    return tuple(sorted({*chosen, *np.flatnonzero(users).tolist()}))


def neighbour(frames: tuple[int, ...], frame: int, direction: int) -> int | None:
    """Give the nearest of ``frames`` after ``frame`` (direction +1) or before it (-1), going round at the ends.

    Examples
    --------
    >>> neighbour((3, 8), 3, 1), neighbour((3, 8), 8, 1), neighbour((), 3, 1)
    (8, 3, None)
    """
    if not frames:
        return None
    if direction > 0:
        return min((one for one in frames if one > frame), default=frames[0])
    return max((one for one in frames if one < frame), default=frames[-1])
