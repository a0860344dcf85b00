"""The picture of a timeline as an array: pure numpy, so that a thousand marks cost no call of Qt each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.gui.timeline_state import COLORS, TimelineState, columns
from napari_virst.records import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Shape = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
    """Given x and y, whether a point belongs to a mark that reaches from -1 to 1."""

MARKS_PX, BAND_PX, DOUBT_PX, GAP_PX = 12, 16, 20, 2
HEIGHT_PX = MARKS_PX + BAND_PX + DOUBT_PX + 2 * GAP_PX
_LOCK_PX = 4
_MARK_RADIUS_PX = 4.5
_FINER = 4
"""Points per pixel and axis that decide how much of it a mark covers."""
_FAINT = 60
"""Alpha of the line under the doubts, 0…255."""


@dataclass(frozen=True)
class Ink:
    """What a picture is drawn with."""

    color: tuple[int, int, int]
    """RGB 0…255 of lines: the text's."""
    ratio: float = 1.0
    """Pixels of the screen per pixel of the window."""

    def px(self, length: float) -> int:
        """Pixels of the screen."""
        return round(length * self.ratio)


def draw(state: TimelineState, width: int, ink: Ink) -> NDArray[np.uint8]:
    """Draw a timeline.

    Parameters
    ----------
    state
        With at least one frame.
    width
        Of the widget, in pixels of the window; at least 1.
    ink
        Colour and scale.

    Returns
    -------
    (H, W, 4) uint8
        RGBA, not premultiplied, in pixels of the screen.
    """
    picture = np.zeros((ink.px(HEIGHT_PX), ink.px(width), 4), np.uint8)
    gathered = columns(state, picture.shape[1])
    top, bottom = ink.px(MARKS_PX + GAP_PX), ink.px(MARKS_PX + GAP_PX + BAND_PX)
    picture[top:bottom] = gathered.colors
    picture[bottom - ink.px(_LOCK_PX) : bottom, gathered.locked] = (*ink.color, 255)
    _draw_doubts(picture[bottom + ink.px(GAP_PX) :], gathered.doubts, ink)
    _draw_marks(picture[: ink.px(MARKS_PX)], state, ink)
    return picture


def _draw_doubts(lane: NDArray[np.uint8], doubts: NDArray[np.float64], ink: Ink) -> None:
    """Draw a curve, 0 at the bottom, 1 at the top; nothing where a doubt is NaN."""
    lane[-1] = (*ink.color, _FAINT)
    known = ~np.isnan(doubts)
    y = np.round((len(lane) - 1) * (1 - np.nan_to_num(doubts)))
    before = np.where(np.roll(known, 1), np.roll(y, 1), y)
    before[:1] = y[:1]
    rows = np.arange(len(lane))[:, None]
    is_line = (rows >= np.minimum(y, before)) & (rows < np.maximum(y, before) + max(1, ink.px(1))) & known
    lane[is_line] = (*ink.color, 255)


def _draw_marks(lane: NDArray[np.uint8], state: TimelineState, ink: Ink) -> None:
    model, user = COLORS[Provenance.PROPAGATED][:3], COLORS[Provenance.CORRECTED][:3]
    pinned = tuple(state.pinned & set(state.model_anchors))
    for frames, shape, color in (
        (state.model_anchors, _diamond, model),
        (pinned, _full_diamond, model),
        (state.demoted, _diamond, model),
        (state.demoted, _cross, ink.color),
        (state.excluded, _cross, ink.color),
        (state.user_anchors, _triangle, user),
    ):
        if frames:
            _stamp(lane, _places(frames, state.num_frames, lane.shape[1], ink), _covered(shape, ink), color)


def _places(frames: tuple[int, ...], num_frames: int, width: int, ink: Ink) -> NDArray[np.intp]:
    """Middles of marks, in pixels of the screen."""
    x = ((np.asarray(frames) + 0.5) * width / num_frames).astype(int)
    radius = _radius(ink)
    return np.unique(np.clip(x, min(radius, width // 2), max(width - 1 - radius, width // 2)))


def _stamp(
    lane: NDArray[np.uint8], places: NDArray[np.intp], covered: NDArray[np.float32], color: tuple[int, ...]
) -> None:
    radius, top, width = len(covered) // 2, (len(lane) - len(covered)) // 2, lane.shape[1]
    shown = np.zeros((len(covered), width), np.float32)
    for shift in range(-radius, radius + 1):
        x = places + shift
        x = x[(x >= 0) & (x < width)]
        shown[:, x] = np.maximum(shown[:, x], covered[:, radius + shift, None])
    under = lane[top : top + len(covered)]
    part = shown[..., None]
    rgb = np.asarray(color, np.float32)
    base = np.where(under[..., 3:] == 0, rgb, under[..., :3].astype(np.float32))
    under[..., :3] = base + part * (rgb - base)
    under[..., 3:] = np.maximum(under[..., 3:], part * 255)


def _radius(ink: Ink) -> int:
    return ink.px(_MARK_RADIUS_PX)


@lru_cache(maxsize=32)
def _covered(shape: Shape, ink: Ink) -> NDArray[np.float32]:
    """(N, N) how much of each pixel a mark covers, 0…1."""
    size = 2 * _radius(ink) + 1
    at = ((np.arange(size * _FINER) + 0.5) / (size * _FINER) - 0.5) * 2.2
    inside = shape(at[None], at[:, None])
    return inside.reshape(size, _FINER, size, _FINER).mean(axis=(1, 3), dtype=np.float32)


def _diamond(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(np.abs(x) + np.abs(y) - 0.8) < 0.22)


def _full_diamond(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(x) + np.abs(y) < 1.02)


def _triangle(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((y > -0.85) & (np.abs(x) < (1.05 - y) / 2))


def _cross(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(np.abs(x) - np.abs(y)) < 0.2) & (np.abs(x) + np.abs(y) < 1.7))
