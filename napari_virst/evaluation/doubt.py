"""How doubtful each frame of a track is, and which one to look at next: pure functions, numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

# Fitted to 1 - J by tests/benchmarks/fit_doubt.py --batches 4 on 48 scenes (seeds from 7100 and 7200 on, 32 frames,
# compact model of step 13150), each annotated twice. On scenes left out: rank correlation with the true error 0.67 over
# all frames and 0.51 within a clip, mean error 0.09; certainty alone reaches 0.76, 0.38 and 0.10. How like its
# neighbours' a mask is added nothing.
_BIAS, _PER_CERTAINTY, _PER_LOG_DISTANCE = 0.15, -1.61, 0.79
_PER_AREA_CHANGE = 0.05
"""Not fitted: with these weights a change of area tells nothing that the model does not know (fitted, it came out at
-0.64 and left the correlations as they are). Small and positive: of frames alike the one that jumped comes first."""
_PER_DISAGREEMENT = 2.0
"""Not fitted: model anchors are few. A language mask that shares nothing with what was followed counts as much as a
fall of the certainty from 0.8 to 0.5."""
_HALF_DISTANCE = 8
"""Frames from an anchor at which half of the loss that distance brings has come: J lost is 0.08 at 2 frames, 0.13 at 5
to 7, 0.16 at 8 to 11, 0.28 beyond 16 (same scenes)."""
_MAX_CANDIDATES = 1000


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of the frames of one track without knowing the truth; NaN where unknown."""

    presence: NDArray[np.floating]
    """(T,) probability that the object is visible, 0…1."""
    predicted_iou: NDArray[np.floating]
    """(T,) the model's own estimate of the IoU of its mask, 0…1."""
    area_px: NDArray[np.floating]
    """(T,) pixels of the mask."""
    agreement: NDArray[np.floating]
    """(T,) on model anchors, IoU of what language says with what was followed into the frame, 0…1."""


def distance_to(fixed: Collection[int], num_frames: int) -> NDArray[np.int64]:
    """Return how far each of ``num_frames`` is from the nearest of ``fixed``, in frames; T where there is none."""
    if not fixed:
        return np.full(num_frames, num_frames, np.int64)
    return np.asarray(np.abs(_nearest(fixed, num_frames) - np.arange(num_frames)), np.int64)


def _nearest(fixed: Collection[int], num_frames: int) -> NDArray[np.int64]:
    frames, ordered = np.arange(num_frames), np.asarray(sorted(fixed), np.int64)
    place = np.searchsorted(ordered, frames)
    after, before = ordered[place.clip(max=len(ordered) - 1)], ordered[(place - 1).clip(0)]
    return np.asarray(np.where(np.abs(after - frames) < np.abs(before - frames), after, before), np.int64)


def doubt(evidence: Evidence, fixed: Collection[int]) -> NDArray[np.float64]:
    """Return (T,) the error 1 - J to be expected of every frame, 0…1; 0 on ``fixed`` frames.

    It falls as the model is more certain of its answer, and rises with the change of area against the nearest fixed
    frame, with the distance to it, and where language and following disagree.
    """
    presence = np.nan_to_num(evidence.presence, nan=0.5)
    iou = np.nan_to_num(evidence.predicted_iou, nan=1.0)
    certainty = np.clip(np.where(presence >= 0.5, presence * iou, 1 - presence), 0.02, 0.98)
    disagreement = np.nan_to_num(1 - evidence.agreement, nan=0.0)
    logit = (
        _BIAS
        + _PER_CERTAINTY * np.log(certainty / (1 - certainty))
        + _PER_AREA_CHANGE * _area_change(evidence.area_px, fixed)
        + _PER_LOG_DISTANCE * np.log1p(distance_to(fixed, len(certainty)))
        + _PER_DISAGREEMENT * disagreement
    )
    expected = 1 / (1 + np.exp(-logit))
    expected[list(fixed)] = 0.0
    return np.asarray(expected, np.float64)


def _area_change(area_px: NDArray[np.floating], fixed: Collection[int]) -> NDArray[np.float64]:
    """(T,) 1 - smaller / larger of the areas of a frame and of the nearest fixed frame; 0 where either is unknown."""
    if not fixed:
        return np.zeros(len(area_px))
    own = area_px + 1.0
    other = own[_nearest(fixed, len(area_px))]
    return np.asarray(np.nan_to_num(1 - np.minimum(own, other) / np.maximum(own, other), nan=0.0), np.float64)


def worth_of_review(doubts: NDArray[np.float64], fixed: Collection[int]) -> NDArray[np.float64]:
    """Return (T,) what fixing each frame is worth: doubt × distance to the nearest fixed frame that it takes away.

    Every frame that would come nearer to a fixed one counts, so that the middle of a doubtful stretch is worth more
    than its edge, and more than a single doubtful frame. Distance counts by the loss it brings, not by its length.
    Of a long video every n-th frame stands for its neighbours.
    """
    num_frames = len(doubts)
    step = -(-num_frames // _MAX_CANDIDATES)
    frames = np.arange(0, num_frames, step)
    before = _loss(distance_to(fixed, num_frames)[frames])
    after = np.minimum(before[:, None], _loss(np.abs(frames[:, None] - frames[None])))
    summed = np.add.reduceat(doubts, frames)
    return np.interp(np.arange(num_frames), frames, summed @ (before[:, None] - after))


def _loss(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(distance / (distance + _HALF_DISTANCE), np.float64)


def frame_to_review(doubts: NDArray[np.float64], fixed: Collection[int], among: Collection[int]) -> int | None:
    """Return the frame of ``among`` that is most worth looking at; None where there is none."""
    if not among:
        return None
    frames = np.asarray(sorted(among))
    return int(frames[np.argmax(worth_of_review(doubts, fixed)[frames])])
