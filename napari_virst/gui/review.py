"""Going through the frames worth a look, and saying in words why they are: pure, no Qt."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FAR_FRAMES = 8
"""Half of the accuracy that distance to a correction costs is lost by then; see evaluation/doubt.py."""


@dataclass(frozen=True)
class Clues:
    """What is known of one frame without knowing the truth; NaN where unknown."""

    presence: float
    """Probability that the object is visible, 0…1."""
    predicted_iou: float
    """The model's estimate of the IoU of its mask, 0…1."""
    agreement: float
    """IoU of what language says with what was followed into the frame, 0…1."""
    area_ratio: float
    """Area of the mask over that of the nearest correction."""
    distance: int | None
    """Frames to the nearest correction; None where there is none."""


def reasons(clues: Clues, at_most: int = 2) -> str:
    """Say why a frame is in doubt, the strongest reasons first; empty where nothing speaks against it.

    Examples
    --------
    >>> reasons(Clues(presence=0.9, predicted_iou=0.9, agreement=0.1, area_ratio=1.0, distance=3))
    'language and following disagree'
    >>> reasons(Clues(presence=0.3, predicted_iou=0.9, agreement=math.nan, area_ratio=math.nan, distance=None))
    'object may be gone, no correction yet'
    """
    ratio = clues.area_ratio
    found = [
        ("language and following disagree", clues.agreement < 0.5),
        ("object may be gone", clues.presence < 0.5),
        ("unsure whether the object is here", 0.5 <= clues.presence < 0.8),
        ("outline uncertain", clues.presence >= 0.5 and clues.predicted_iou < 0.8),
        ("much smaller than where you last corrected", ratio < 0.6),
        ("much larger than where you last corrected", ratio > 1.67),
        ("no correction yet", clues.distance is None),
        ("far from any correction", clues.distance is not None and clues.distance > _FAR_FRAMES),
    ]
    return ", ".join([text for text, is_so in found if is_so][:at_most])


def suggestion(frame: int, doubt: float, why: str) -> str:
    """Say why a frame is suggested.

    Examples
    --------
    >>> suggestion(37, 0.414, "far from any correction"), suggestion(37, math.nan, "")
    ('Frame 37, doubt 0.41: far from any correction.', 'Frame 37: worth a look.')
    """
    number = f", doubt {doubt:.2f}" if math.isfinite(doubt) else ""
    return f"Frame {frame}{number}: {why or 'worth a look'}."


@dataclass
class Tour:
    """The frames suggested so far for one track, to go back and forth in; begun anew with every revision of masks."""

    revision: int = -1
    _stops: list[int] = field(default_factory=list)
    _place: int = -1

    def at(self, revision: int) -> Tour:
        """Give the tour for masks of this revision: this one, or a new one."""
        return self if revision == self.revision else Tour(revision)

    def forward(self, suggest: Callable[[tuple[int, ...]], int | None]) -> int | None:
        """Give the next stop; ``suggest`` finds a new one, given those made already, or None.

        Without any left the tour is over, and the next call begins it anew.
        """
        if self._place + 1 < len(self._stops):
            self._place += 1
            return self._stops[self._place]
        frame = suggest(tuple(self._stops))
        if frame is None:
            self._stops, self._place = [], -1
            return None
        self._stops.append(frame)
        self._place = len(self._stops) - 1
        return frame

    def back(self, frame_in_view: int) -> int | None:
        """Give the stop before, or the present one where the person has gone elsewhere; None at the beginning."""
        if self._place >= 0 and self._stops[self._place] != frame_in_view:
            return self._stops[self._place]
        if self._place <= 0:
            return None
        self._place -= 1
        return self._stops[self._place]

    @property
    def stop(self) -> int | None:
        """The frame suggested last."""
        return self._stops[self._place] if self._place >= 0 else None
