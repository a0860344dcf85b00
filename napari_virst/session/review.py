"""Which frame of a track to look at next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_virst.evaluation.doubt import Evidence, doubt, worth_of_review
from napari_virst.records import Provenance

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from napari_virst.session.track import Track

_MAX_AREAS_READ = 32
"""In one call: a project opened again with a thousand accepted frames must not have them all read while one waits."""


def doubts(track: Track) -> NDArray[np.float64]:
    """Return (T,) the error 1 - J to be expected of every frame, 0…1; NaN where nothing is known.

    Frames of people have none; see :func:`napari_virst.evaluation.doubt.doubt`.
    """
    users = track.anchors.user_anchors()
    unread = np.flatnonzero(np.isnan(track.masks.areas_px[list(users)]))[:_MAX_AREAS_READ]
    for place in unread.tolist():
        track.masks.area_px(users[place])
    evidence = Evidence(track.last_presence, track.last_iou, track.masks.areas_px, track.agreements)
    expected = doubt(evidence, users)
    expected[track.masks.provenances == Provenance.EMPTY] = np.nan
    return expected


def next_to_review(track: Track, after: int | None = None, passed: Collection[int] = ()) -> int | None:
    """Return the frame whose correction is worth most: doubt × distance to the nearest user anchor.

    Parameters
    ----------
    track
        Which.
    after
        Return the best frame behind this one instead, and the best of all where none is left there.
    passed
        Frames that the person has looked at and left as they were: not suggested again, nor what is near them first.

    Returns
    -------
    int or None
        None where every frame that has a mask belongs to a person or is locked.
    """
    expected = doubts(track)
    worth = worth_of_review(np.nan_to_num(expected, nan=0.0), {*track.anchors.user_anchors(), *passed})
    is_open = ~np.isnan(expected) & ~track.locked
    is_open[[*track.anchors.user_anchors(), *passed]] = False
    frames = np.flatnonzero(is_open)
    behind = frames[frames > after] if after is not None else frames
    candidates = behind if len(behind) else frames
    return int(candidates[np.argmax(worth[candidates])]) if len(candidates) else None
