"""What is true of an object, what is not, and where a person might hesitate."""

# T frames

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_encounters import ENCOUNTERS
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


def _throughout(first: Truth, last: Truth) -> Truth:
    """Whether something that may change is true all the time; what is so at one time and not at another is in doubt."""
    return first if first == last else None


@lru_cache(256)
def exists(item: SceneObject) -> Truth:
    """Whether the object can be seen well enough to be spoken of."""
    shown = item.shown_T
    if float(shown.max()) < 0.03:
        return False
    there = shown[shown > 0]
    well = float(shown.max()) >= 0.65 and float(there.mean()) >= _SEEN_MIN
    return True if well and len(there) * 3 >= len(shown) else None


@lru_cache(2048)
def is_fact(item: SceneObject, fact: str) -> Truth:
    """Whether a key of ``scene_fact_words.FACTS`` is true of an object."""
    topic, _, value = fact.partition(":")
    return _TOPICS[topic](item, value)


def _colour(item: SceneObject, value: str) -> Truth:
    if item.colour is None:
        return None if value in ("white", "gray") or max(item.rgb) - min(item.rgb) > 10 else False
    return item.colour == value


def _size(item: SceneObject, value: str) -> Truth:
    smallest, largest = float(item.radius_T.min()), float(item.radius_T.max())
    if value == "small":
        truth = _throughout(_threshold(smallest, 0.095, 0.067), _threshold(largest, 0.095, 0.067))
        return None if truth and float(item.extent_T.max()) > 0.098 else truth
    return _throughout(_threshold(smallest, 0.07, 0.1), _threshold(largest, 0.07, 0.1))


def fades(item: SceneObject) -> bool:
    """Whether the object is not equally clear to see all the time."""
    return item.motion.opacity_T is not None


def _level(item: SceneObject, value: str) -> Truth:
    if item.level is None or fades(item):
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
    if value == "spin":
        return _spins(item)
    if not motion.visible_T.all():
        return None
    if value in ("still", "any"):
        return _is_moving(item, value)
    if value in ("stop", "start"):
        return _pauses(item, at_end=value == "stop")
    if motion.manner in ("leave", "enter", "return", "bump"):
        return None
    if value in ("fast", "slow") and motion.manner in ("stop", "start"):
        return None
    if value == "straight":
        return _goes_straight(item)
    if value == "fast":
        return _threshold(motion.length, 0.24, FAST_LENGTH)
    if value == "slow":
        return both(_threshold(motion.length, 0.3, SLOW_LENGTH), _threshold(motion.length, STILL_LENGTH, 0.12))
    if motion.manner == value:
        return True if motion.length >= 0.24 else None
    return False if motion.manner in ("still", "straight", "diagonal", "stop", "start") else None


SYMMETRY = {"square": 90.0, "triangle": 120.0, "star": 72.0, "bar": 180.0, "cell": 180.0, "animal": 360.0}
"""After how many degrees a shape looks as before; round ones are left out."""

FULL_TURN = 2 * math.pi


def can_spin(item: SceneObject, spin: float) -> bool:
    """Whether a turn of some radians along the clip could be seen from frame to frame."""
    if item.shape not in SYMMETRY or (item.is_cell and item.aspect > 0.6):
        return False
    step = abs(math.degrees(spin)) / max(1, len(item.shown_T) - 1)
    return step <= 0.55 * SYMMETRY[item.shape]


def _spins(item: SceneObject) -> Truth:
    turn = abs(item.spin)
    if turn <= 0.75 or item.motion.divides:
        return False
    seen = float(item.shown_T.min()) > _SEEN_MIN and not fades(item)
    on_the_spot = item.motion.length <= STILL_LENGTH and item.motion.manner != "wander"
    return True if turn >= 0.74 * FULL_TURN and can_spin(item, item.spin) and seen and on_the_spot else None


def _pauses(item: SceneObject, *, at_end: bool) -> Truth:
    motion = item.motion
    if motion.manner == "wander" or motion.length <= STILL_LENGTH:
        return False
    if motion.manner in ("leave", "enter", "return"):
        return None
    before, after = motion.pauses if at_end else motion.pauses[::-1]
    if after < 0.1:
        return False
    return True if after >= 0.33 and before < 0.1 and motion.length >= 0.1 and float(item.shown_T.min()) > 0.2 else None


def _goes_straight(item: SceneObject) -> Truth:
    motion = item.motion
    if motion.manner in ("still", "curve", "turn", "wander"):
        return False
    return True if motion.manner in ("straight", "diagonal") and motion.length >= 0.15 else None


def _is_moving(item: SceneObject, value: str) -> Truth:
    motion = item.motion
    if motion.manner == "wander" or fades(item):
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
    if value == "fade":
        return _fades_away(item)
    if value == "blink":
        return _blinks(item)
    if value == "divide":
        return both(motion.divides, _is_seen(item))
    if motion.divides:
        return None
    growth = _threshold(motion.growth, 1.1, 1.45) if value == "grow" else _threshold(motion.growth, 0.9, 0.69)
    return both(growth, _is_seen(item))


def _is_seen(item: SceneObject) -> Truth:
    """True where the object can be seen well all the time, so that what becomes of it can be seen; else in doubt."""
    seen = bool(item.motion.visible_T.all()) and not fades(item) and float(item.shown_T.min()) > _SEEN_MIN
    return True if seen else None


def _fades_away(item: SceneObject) -> Truth:
    opacity_T = item.motion.opacity_T
    if opacity_T is None:
        return False if item.motion.visible_T.all() else None
    there = item.shown_T[opacity_T > 0]
    return True if opacity_T[-1] <= 0.35 and len(there) >= 3 and float(there.min()) > _SEEN_MIN else None


def _blinks(item: SceneObject) -> Truth:
    visible_T = item.motion.visible_T
    if visible_T.all():
        return False
    switches = int(np.count_nonzero(np.diff(visible_T)))
    if switches <= 1:
        return False
    there = item.shown_T[visible_T]
    return True if switches >= 4 and visible_T[0] and visible_T[-1] and float(there.min()) > _SEEN_MIN else None


def _returns(item: SceneObject) -> Truth:
    shown_T = item.shown_T
    if item.motion.manner == "turn":
        return None
    if float(shown_T.min()) > 0.15:
        return False
    away_T = shown_T < 0.03
    if item.motion.manner in ("leave", "enter") or int(np.count_nonzero(np.diff(item.motion.visible_T))) == 1:
        return False
    spells = sum(bool(after and not before) for before, after in pairwise(away_T))
    out_T = ~item.motion.visible_T if item.motion.manner != "return" else away_T
    once = spells == 1 and bool((out_T | ~away_T).all()) and bool(out_T.any())
    return True if once and shown_T[0] > 0.5 and shown_T[-1] > 0.5 else None


def _event(item: SceneObject, value: str) -> Truth:
    if value == "return":
        return _returns(item)
    at_end = value in ("leave", "vanish")
    if item.motion.manner == "return" or int(np.count_nonzero(np.diff(item.motion.visible_T))) > 1:
        return None
    if fades(item) and at_end:
        return True if value == "vanish" and item.motion.opacity_T[-1] == 0 else None  # type: ignore[index]
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
    """Whether a key of ``scene_nouns.NOUNS`` fits an object."""
    if noun == "any":
        return True
    return item.shape == noun


@lru_cache(1024)
def is_related(item: SceneObject, relation: str, other: SceneObject) -> Truth:
    """Whether an object stands left of, right of, above or below another on every frame, or meets it as told."""
    if relation in ENCOUNTERS:
        return ENCOUNTERS[relation](item, other)
    if min(float(item.shown_T.min()), float(other.shown_T.min())) < SHOWN_THROUGHOUT:
        return None
    axis, sign = {"left": (1, -1), "right": (1, 1), "above": (0, -1), "below": (0, 1)}[relation]
    step_T2 = item.centre_T2 - other.centre_T2
    along_T, across_T = sign * step_T2[:, axis], np.abs(step_T2[:, 1 - axis])
    if bool((along_T <= 0.03).all()):
        return False
    return True if bool(((along_T >= 0.1) & (across_T <= 1.1 * along_T)).all()) else None
