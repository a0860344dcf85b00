"""What is true of an object, what is not, and where a person might hesitate."""

# T frames

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_motion import FAST_LENGTH, SLOW_LENGTH, STILL_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_virst.training.scene_objects import SceneObject

Truth = bool | None
"""True, False, or None where a person might hesitate."""

_SEEN_MIN = 0.3
SHOWN_THROUGHOUT = 0.2
"""An object must show at least so much of itself on every frame before its place is spoken of."""


def _threshold(value: float, clearly_not: float, clearly: float) -> Truth:
    """Judge a value by two thresholds with a gap between; `clearly` may be the smaller one."""
    sign = 1 if clearly > clearly_not else -1
    if sign * value >= sign * clearly:
        return True
    return False if sign * value <= sign * clearly_not else None


def both(first: Truth, second: Truth) -> Truth:
    """Whether two things are true together; False is stronger than doubt."""
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


def exists(item: SceneObject) -> Truth:
    """Whether the object can be seen well enough to be spoken of."""
    shown = item.shown_T
    if float(shown.max()) < 0.03:
        return False
    there = shown[shown > 0]
    well = float(shown.max()) >= 0.65 and float(there.mean()) >= _SEEN_MIN
    return True if well and len(there) * 3 >= len(shown) else None


def is_fact(item: SceneObject, fact: str) -> Truth:
    """Whether a key of ``scene_words.FACTS`` is true of an object."""
    topic, _, value = fact.partition(":")
    return _TOPICS[topic](item, value)


def _colour(item: SceneObject, value: str) -> Truth:
    if item.colour is None:
        return None if value in ("white", "gray") or max(item.rgb) - min(item.rgb) > 10 else False
    return item.colour == value


def _size(item: SceneObject, value: str) -> Truth:
    radius_T = item.radius_T
    if value == "small":
        truth = both(_threshold(float(radius_T.max()), 0.095, 0.067), _threshold(float(radius_T.min()), 0.095, 0.067))
        return None if truth and float(item.extent_T.max()) > 0.098 else truth
    return both(_threshold(float(radius_T.min()), 0.07, 0.1), _threshold(float(radius_T.max()), 0.07, 0.1))


def _level(item: SceneObject, value: str) -> Truth:
    if item.level is None:
        return None
    return _threshold(item.level, 0.55, 0.8) if value == "bright" else _threshold(item.level, 0.6, 0.38)


def _form(item: SceneObject, value: str) -> Truth:
    if not item.is_cell or item.motion.divides:
        return None
    return _threshold(item.aspect, 0.6, 0.8) if value == "round" else _threshold(item.aspect, 0.8, 0.6)


def _move(item: SceneObject, value: str) -> Truth:
    motion = item.motion
    if value in ("left", "right", "up", "down"):
        return _goes(item, value)
    if not motion.visible_T.all():
        return None
    if value in ("still", "any"):
        return _is_moving(item, value)
    if motion.manner in ("leave", "enter"):
        return None
    if value == "fast":
        return _threshold(motion.length, 0.24, FAST_LENGTH)
    if value == "slow":
        return both(_threshold(motion.length, 0.3, SLOW_LENGTH), _threshold(motion.length, STILL_LENGTH, 0.12))
    if motion.manner == value:
        return True if motion.length >= 0.24 else None
    return False if motion.manner in ("still", "straight", "diagonal") else None


def _is_moving(item: SceneObject, value: str) -> Truth:
    motion = item.motion
    if motion.manner == "wander":
        return None
    turning = abs(item.spin) > 0.2 and item.shape not in ("circle", "ring")
    if motion.length < 0.1 and (turning or motion.divides or abs(motion.growth - 1) > 0.1):
        return None
    return (
        _threshold(motion.length, 0.1, STILL_LENGTH)
        if value == "still"
        else _threshold(motion.length, STILL_LENGTH, 0.12)
    )


def _goes(item: SceneObject, direction: str) -> Truth:
    motion = item.motion
    if motion.manner in ("still", "wander"):
        return False
    if motion.manner in ("turn", "curve"):
        return None
    down, right = motion.displacement
    along, across = {"left": (-right, down), "right": (right, down), "up": (-down, right), "down": (down, right)}[
        direction
    ]
    if along < 0.4 * abs(across) and along < 0.1:
        return False
    return True if along > 0.12 and along > 2.2 * abs(across) else None


def _change(item: SceneObject, value: str) -> Truth:
    motion = item.motion
    if value == "divide":
        return motion.divides
    if motion.divides:
        return None
    return _threshold(motion.growth, 1.1, 1.45) if value == "grow" else _threshold(motion.growth, 0.9, 0.69)


def _event(item: SceneObject, value: str) -> Truth:
    at_end = value in ("leave", "vanish")
    if item.motion.manner in ("leave", "enter"):
        return at_end == (item.motion.manner == "leave")
    shown_T, visible_T = item.shown_T, item.motion.visible_T
    if not visible_T[-1 if at_end else 0]:
        happens = value in ("vanish", "appear") and bool(shown_T[0 if at_end else -1] > 0.5)
        return happens or None
    return False if shown_T[-1 if at_end else 0] > 0.25 else None


_HALVES = {"left": (1, 1), "right": (1, -1), "top": (0, 1), "bottom": (0, -1)}


def _place(item: SceneObject, value: str) -> Truth:
    seen_T2 = item.centre_T2
    if float(item.shown_T.min()) < SHOWN_THROUGHOUT:
        return None
    if value == "middle":
        away = np.abs(seen_T2 - 0.5)
        if float(away.max()) <= 0.13:
            return True
        return False if bool((away.max(1) > 0.24).all()) else None
    truth: Truth = True
    for word in value.split():
        axis, sign = _HALVES[word]
        depth_T = sign * (0.5 - seen_T2[:, axis])
        truth = both(truth, _side(depth_T, deep=0.12 if " " in value else 0.1))
    return truth


def _side(depth_T: NDArray[np.float64], *, deep: float) -> Truth:
    if float(depth_T.min()) >= deep:
        return True
    return False if float(depth_T.max()) <= -0.02 else None


_TOPICS: dict[str, Callable[[SceneObject, str], Truth]] = {
    "colour": _colour,
    "size": _size,
    "level": _level,
    "form": _form,
    "move": _move,
    "change": _change,
    "event": _event,
    "place": _place,
}


def is_named(item: SceneObject, noun: str) -> Truth:
    """Whether a key of ``scene_words.NOUNS`` fits an object."""
    if noun == "any":
        return True
    return item.shape == noun


def is_related(item: SceneObject, relation: str, other: SceneObject) -> Truth:
    """Whether an object stands left of, right of, above or below another on every frame."""
    if min(float(item.shown_T.min()), float(other.shown_T.min())) < SHOWN_THROUGHOUT:
        return None
    axis, sign = {"left": (1, -1), "right": (1, 1), "above": (0, -1), "below": (0, 1)}[relation]
    step_T2 = item.centre_T2 - other.centre_T2
    along_T, across_T = sign * step_T2[:, axis], np.abs(step_T2[:, 1 - axis])
    if bool((along_T <= 0.03).all()):
        return False
    return True if bool(((along_T >= 0.1) & (across_T <= 1.1 * along_T)).all()) else None
