"""A mask as one closed polygon, for formats that have one row of points per object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INSET_PX = 0.25
_POINTS_AT_ONCE = 64
"""Of one ring, measured against all others: a mask in specks has ten thousand points."""


@dataclass(frozen=True, eq=False)
class MaskPolygon:
    """A polygon, and of what it was made."""

    points: NDArray[np.float64]
    """(N, 2) of (x, y) in pixels from the upper left corner of the mask, so that 0.5 is the middle of a pixel."""
    num_pieces: int
    """Connected pieces (touching at a corner is connected), joined by bridges without width."""
    num_holes: int
    """Joined likewise; filling by even and odd leaves them open."""


def trace_polygon(mask: NDArray[np.bool_]) -> MaskPolygon:
    """Trace a mask as one polygon through the middles of its outermost pixels.

    Filled with its edge, as OpenCV's ``fillPoly`` does, it is the mask again, but for the pixels under bridges.

    Parameters
    ----------
    mask
        (H, W) bool, not empty.
    """
    rings, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    is_hole = hierarchy[0][:, 3] >= 0
    paths = [_with_area(ring[:, 0].astype(np.float64) + 0.5) for ring in rings]
    num_holes = int(np.count_nonzero(is_hole))
    return MaskPolygon(_join(paths), len(paths) - num_holes, num_holes)


def _with_area(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a ring of three points or more; a pixel, or a straight row of them, becomes a box within these pixels."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    if len(ring) > 2 and (high > low).all():
        return ring
    if (high > low).all():
        return np.concatenate([ring, ring[:1]])
    (x0, y0), (x1, y1) = low - _INSET_PX, high + _INSET_PX
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _join(rings: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Join rings by bridges, each to the nearest point of what is joined already, the nearest ring first."""
    first = max(range(len(rings)), key=lambda number: len(rings[number]))
    path = new = rings[first]
    points, ring_of = np.concatenate(rings), np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    squares, nearest = np.full(len(points), np.inf), np.zeros_like(points)
    squares[ring_of == first] = np.nan  # joined
    for _ in range(len(rings) - 1):
        _approach(points, new, squares, nearest)
        closest = int(np.nanargmin(squares))
        number = ring_of[closest]
        start = closest - int(np.argmax(ring_of == number))
        new = np.roll(rings[number], -start, axis=0)
        at = int(np.flatnonzero((path == nearest[closest]).all(axis=1))[0])
        path = np.concatenate([path[: at + 1], new, new[:1], path[at:]])
        squares[ring_of == number] = np.nan
    return path


def _approach(
    points: NDArray[np.float64], new: NDArray[np.float64], squares: NDArray[np.float64], nearest: NDArray[np.float64]
) -> None:
    """Note for every point where ``new`` comes nearer than what was joined before; ``squares`` are of distances."""
    waiting = np.flatnonzero(~np.isnan(squares))
    for start in range(0, len(new), _POINTS_AT_ONCE):
        part = new[start : start + _POINTS_AT_ONCE]
        found = ((points[waiting, None] - part[None]) ** 2).sum(axis=2)
        index = found.argmin(axis=1)
        found = found[np.arange(len(waiting)), index]
        is_nearer = found < squares[waiting]
        squares[waiting[is_nearer]] = found[is_nearer]
        nearest[waiting[is_nearer]] = part[index[is_nearer]]
