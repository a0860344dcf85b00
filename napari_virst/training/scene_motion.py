"""How objects of a scene move, grow, divide, come and go along a clip; and facts of it that words can name."""

# T frames

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray

DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Unit steps (y, x)."""

MANNERS = (
    "still",
    "straight",
    "diagonal",
    "curve",
    "turn",
    "wander",
    "leave",
    "enter",
    "stop",
    "start",
    "bump",
    "return",
)

FAST_LENGTH, SLOW_LENGTH, STILL_LENGTH = 0.36, 0.19, 0.025
"""Path lengths, in sides of the picture over the whole clip: at least / at most / at most."""


@dataclass(frozen=True, eq=False)
class Motion:
    """The course of one object; lengths in sides of the picture, without the camera's own motion."""

    manner: str
    """One of ``MANNERS``."""
    centre_T2: NDArray[np.float64]
    """(T, 2) float64, (y, x)."""
    length: float
    """Length of the path."""
    growth_T: NDArray[np.float64]
    """(T,) float64, factor on the radius; 1 for most."""
    separation_T: NDArray[np.float64]
    """(T,) float64, half the distance of the two halves of a dividing object, in radii; 0 for most."""
    visible_T: NDArray[np.bool_]
    """(T,) bool, False while the object does not exist."""
    opacity_T: NDArray[np.float64] | None = None
    """(T,) float64, 0…1, of an object that fades; None for all others."""

    @property
    def displacement(self) -> tuple[float, float]:
        """From the first place to the last, (y, x)."""
        step = self.centre_T2[-1] - self.centre_T2[0]
        return float(step[0]), float(step[1])

    @property
    def growth(self) -> float:
        """Last radius over first."""
        return float(self.growth_T[-1] / self.growth_T[0])

    @property
    def divides(self) -> bool:
        """Whether one becomes two."""
        return bool(self.separation_T[-1] > 0)

    @cached_property
    def pauses(self) -> tuple[float, float]:
        """Shares of the clip during which the object rests at the beginning and at the end."""
        resting = np.hypot(*np.diff(self.centre_T2, axis=0).T) < 0.004
        if resting.all():
            return 1.0, 1.0
        return float(np.argmin(resting)) / len(resting), float(np.argmin(resting[::-1])) / len(resting)


@lru_cache(64)
def clip_time(num_frames: int) -> NDArray[np.float64]:
    """Time along the clip, (T,) float64 from 0 to 1, read-only."""
    time_T = np.linspace(0.0, 1.0, num_frames) if num_frames > 1 else np.zeros(1)
    time_T.setflags(write=False)
    return time_T


def plan_path(
    rng: Random, manner: str, radius: float, num_frames: int, *, speed: str = "any"
) -> tuple[NDArray[np.float64], float]:
    """Draw a course that stays inside the picture, except where the manner says otherwise.

    Parameters
    ----------
    rng
        Source of chance.
    manner
        One of ``MANNERS``.
    radius
        Of the object, in sides.
    num_frames
        T.
    speed
        "slow", "fast" or "any".

    Returns
    -------
    centre_T2 : NDArray
        (T, 2) float64, (y, x) in sides of the picture.
    length : float
        Of the path, in sides.
    """
    time = clip_time(num_frames)[:, None]
    if manner == "still":
        return np.repeat(np.array([_inside(rng, radius)]), num_frames, axis=0), 0.0
    if manner in ("leave", "enter"):
        return _over_the_border(rng, time, radius, entering=manner == "enter")
    low, high = {"slow": (0.13, SLOW_LENGTH), "fast": (FAST_LENGTH, 0.55), "any": (0.15, 0.5)}[speed]
    length = rng.uniform(low, high)
    if manner == "wander":
        return _wander(rng, time, radius), 0.08
    heading = _heading(rng, manner)
    along = np.array([math.sin(heading), math.cos(heading)])
    if manner == "turn":
        turning = rng.uniform(0.4, 0.6)
        bend = np.minimum(time / turning, (1 - time) / (1 - turning))
        course = bend * along * (length / 2)
    elif manner == "curve":
        sweep = rng.choice((-1, 1)) * rng.uniform(1.8, 4.2)
        angles = heading + sweep * time
        course = np.concatenate([np.sin(angles), np.cos(angles)], axis=1) * (length / abs(sweep))
    else:
        course = (time - 0.5) * along * length
    return placed(rng, course, radius), length


def _heading(rng: Random, manner: str) -> float:
    if manner == "straight":
        return rng.choice((0.0, 0.5, 1.0, 1.5)) * math.pi + rng.gauss(0, 0.09)
    if manner == "diagonal":
        return (rng.choice((0.25, 0.75, 1.25, 1.75)) + rng.uniform(-0.05, 0.05)) * math.pi
    return rng.uniform(0, 2 * math.pi)


def _inside(rng: Random, radius: float) -> tuple[float, float]:
    border = min(0.45, radius * 1.1 + 0.02)
    return rng.uniform(border, 1 - border), rng.uniform(border, 1 - border)


def placed(rng: Random, course: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Shift a course, (..., 2) float64, by chance to where an object of a radius stays inside the picture."""
    flat = course.reshape(-1, 2)
    lowest, highest = flat.min(0), flat.max(0)
    border = radius * 1.05 + 0.015
    place = []
    for axis in (0, 1):
        first, last = border - lowest[axis], 1 - border - highest[axis]
        place.append(rng.uniform(first, last) if first < last else (first + last) / 2)
    return course + np.array(place)


def _wander(rng: Random, time: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    phases = np.array([rng.uniform(0, 2 * math.pi) for _ in range(4)])
    waves = np.sin(2 * math.pi * time * np.array([0.6, 0.6]) + phases[:2]) + 0.5 * np.sin(8.0 * time + phases[2:])
    return placed(rng, waves * 0.018, radius)


def _over_the_border(
    rng: Random, time: NDArray[np.float64], radius: float, *, entering: bool
) -> tuple[NDArray[np.float64], float]:
    inner, outer = rng.uniform(radius + 0.08, 0.45), -(1.75 * radius + 0.06)
    hidden = rng.uniform(0.15, 0.3)
    share = np.clip(time[:, 0] / (1 - hidden), 0, 1)
    course = np.stack([inner + (outer - inner) * share, np.full(len(share), rng.uniform(0.2, 0.8))], axis=1)
    course[:, 1] += rng.gauss(0, 0.03) * share
    course = course[::-1] if entering else course
    if rng.random() < 0.5:
        course = course * (-1, 1) + (1, 0)
    if rng.random() < 0.5:
        course = course[:, ::-1]
    return np.ascontiguousarray(course), inner - outer


def plan_growth(rng: Random, num_frames: int, change: str) -> NDArray[np.float64]:
    """Factor on the radius along the clip, (T,) float64, for change "grow", "shrink" or "none"; mean about 1."""
    if change == "none":
        return np.ones(num_frames)
    half = 0.5 * math.log(rng.uniform(1.55, 2.1))
    course = np.exp((2 * clip_time(num_frames) - 1) * half)
    return course if change == "grow" else course[::-1].copy()


def plan_division(rng: Random, num_frames: int) -> NDArray[np.float64]:
    """Half the distance of the daughters along the clip, (T,) float64 in radii: first 0, at last well apart."""
    start, end = rng.uniform(0.1, 0.35), rng.uniform(0.65, 0.9)
    return np.clip((clip_time(num_frames) - start) / (end - start), 0, 1) * rng.uniform(1.0, 1.35)


def plan_pause(rng: Random, num_frames: int, radius: float, *, at_end: bool) -> tuple[NDArray[np.float64], float]:
    """Draw a straight course with a rest of at least 35 % of the clip at its end, or at its beginning.

    Returns
    -------
    centre_T2 : NDArray
        (T, 2) float64; `num_frames` must be at least 4.
    length : float
        Of the path, in sides.
    """
    last = num_frames - 1
    first, latest = max(1, round(0.35 * last)), max(1, math.floor(0.65 * last))
    moving = rng.randint(min(first, latest), latest)
    share = np.clip(np.arange(num_frames) / moving, 0, 1)
    share = share if at_end else 1 - share[::-1]
    length, heading = rng.uniform(0.24, 0.5), _heading(rng, "straight")
    return placed(rng, share[:, None] * np.array([math.sin(heading), math.cos(heading)]) * length, radius), length


def plan_crossing(rng: Random, num_frames: int, radius: float, first: int, last: int) -> NDArray[np.float64]:
    """Draw a course from outside, where it waits until frame `first`, to a place inside, reached at frame `last`.

    Returns
    -------
    NDArray
        (T, 2) float64.
    """
    share_T = np.clip((np.arange(num_frames) - first) / max(1, last - first), 0, 1)
    inner, outer = rng.uniform(radius + 0.05, max(radius + 0.06, 0.4)), -(1.1 * radius + 0.04)
    course = np.stack([outer + (inner - outer) * share_T, np.full(num_frames, rng.uniform(0.15, 0.85))], axis=1)
    if rng.random() < 0.5:
        course = course * (-1, 1) + (1, 0)
    return np.ascontiguousarray(course[:, ::-1] if rng.random() < 0.5 else course)


def plan_return(rng: Random, num_frames: int, radius: float) -> NDArray[np.float64]:
    """Draw a course over the border and back again, (T, 2) float64; `num_frames` must be at least 4."""
    away = max(1, round(rng.uniform(0.2, 0.35) * num_frames))
    leaving = rng.randint(1, num_frames - away - 1)
    out_T2 = plan_crossing(rng, num_frames, radius, leaving + away - 1, num_frames - 1)
    slide_T = np.clip((leaving - np.arange(num_frames)) / leaving, 0, 1)[:, None]
    return out_T2 + slide_T * (out_T2[-1] - out_T2[0])


def plan_blinks(rng: Random, num_frames: int) -> NDArray[np.bool_]:
    """Draw at least two times out of sight, (T,) bool with both ends in sight; `num_frames` must be at least 5."""
    num = 2 if num_frames < 7 or rng.random() < 0.6 else 3
    edges = sorted(rng.sample(range(1, num_frames), 2 * num))
    visible_T = np.ones(num_frames, dtype=bool)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        visible_T[start:end] = False
    return visible_T


def plan_fading(rng: Random, num_frames: int) -> NDArray[np.float64]:
    """Draw a fall of opacity from 1 to nearly or altogether nothing, (T,) float64; what can hardly be seen is 0."""
    end = rng.choice((rng.uniform(0.2, 0.3), -0.05))
    start, stop = rng.uniform(0.05, 0.3), rng.uniform(0.75, 1.0)
    opacity_T = 1 + (end - 1) * np.clip((clip_time(num_frames) - start) / (stop - start), 0, 1)
    return np.where(opacity_T < 0.16, 0.0, opacity_T)
