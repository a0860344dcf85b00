"""What two objects do with each other: one follows, overtakes, touches or bumps into another."""

# T frames, P points of an outline

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_virst.training.scene_animals import animal_distance
from napari_virst.training.scene_shapes import signed_distance

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_virst.training.scene_objects import SceneObject

_NUM_DIRECTIONS = 360
_OUTLINE_STEP = 6
_CONTACT_MIN, _CONTACT_MAX = -0.03, 0.012
"""Outlines that come so near touch; those that overlap more might as well pass over each other. Sides."""
_APART = 0.02
_SEEN_MIN = 0.3
_CACHED_PAIRS = 256
"""Queries of one scene look at the same pairs again and again."""


@cache
def _profile(shape: str, has_ears: bool) -> NDArray[np.float64]:
    """Farthest point of a shape in every direction, (360,) float64 in radii, counted from +u towards +v; no tail."""
    angle = torch.arange(_NUM_DIRECTIONS) * (2 * math.pi / _NUM_DIRECTIONS)
    radius = torch.linspace(0, 2.6, 261)[:, None]
    right, down = radius * angle.cos(), radius * angle.sin()
    if shape == "animal":
        inside = animal_distance(right, down, 0.0, 0.0, float(has_ears)) < 0
    else:
        inside = signed_distance(shape, right, down) < 0
    return np.asarray((inside * radius).amax(0).double().numpy())


def _reach(item: SceneObject, direction: NDArray[np.float64], frame: slice | NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of the outline from the centre, in sides; `direction` (T, P) radians, 0 to the right, clockwise."""
    local = direction - item.angle_T[frame, None]
    radius = item.radius_T[frame, None]
    if item.shape == "cell":
        stretch = item.aspect**0.5
        return np.asarray(radius / np.hypot(np.cos(local) / stretch, np.sin(local) * stretch))
    index = np.rint(local * (_NUM_DIRECTIONS / (2 * math.pi))).astype(int) % _NUM_DIRECTIONS
    return np.asarray(radius * _profile(item.shape, item.look.get("ears", 0) > 0)[index])


_AROUND_P = np.arange(0, _NUM_DIRECTIONS, _OUTLINE_STEP) * (2 * math.pi / _NUM_DIRECTIONS)


def gaps(
    first: SceneObject, second: SceneObject, frame: slice | NDArray[np.bool_] = slice(None)
) -> NDArray[np.float64]:
    """Distance between two outlines on every frame, (T,) float64 in sides, negative where they overlap."""
    return np.minimum(_one_sided_gaps(first, second, frame), _one_sided_gaps(second, first, frame))


def _one_sided_gaps(item: SceneObject, other: SceneObject, frame: slice | NDArray[np.bool_]) -> NDArray[np.float64]:
    step_T2 = item.centre_T2[frame] - other.centre_T2[frame]
    around_TP = np.broadcast_to(_AROUND_P, (len(step_T2), len(_AROUND_P)))
    reach_TP = _reach(item, around_TP, frame)
    down_TP = step_T2[:, :1] + reach_TP * np.sin(around_TP)
    right_TP = step_T2[:, 1:] + reach_TP * np.cos(around_TP)
    away_TP = np.hypot(down_TP, right_TP)
    return np.asarray((away_TP - _reach(other, np.arctan2(down_TP, right_TP), frame)).min(1))


@lru_cache(_CACHED_PAIRS)
def touches(item: SceneObject, other: SceneObject) -> bool | None:
    """Whether two outlines meet at some time without lying over each other."""
    discs_T = _distance(item, other) - item.extent_T - other.extent_T
    both_T = item.motion.visible_T & other.motion.visible_T
    if bool((discs_T[both_T] > _APART).all()):
        return False
    if min(float(item.shown_T.min()), float(other.shown_T.min())) < _SEEN_MIN or not both_T.all():
        return None
    if item.motion.divides or other.motion.divides:
        return None
    closest = float(gaps(item, other, discs_T <= _APART).min())
    if closest > 2 * _APART:
        return None if "animal" in (item.shape, other.shape) else False
    return True if _CONTACT_MIN <= closest <= _CONTACT_MAX else None


@lru_cache(_CACHED_PAIRS)
def bumps(item: SceneObject, other: SceneObject) -> bool | None:
    """Whether an object moves until it meets another one, which has been resting."""
    contact = touches(item, other) if item.motion.length > 0.03 else False
    if not contact:
        return contact
    gap_T = gaps(item, other)
    moment = int(np.argmax(gap_T <= _CONTACT_MAX))
    mine, its = _travelled(item, moment), _travelled(other, moment)
    if moment == 0 or mine < 0.03:
        return False
    return True if mine > 0.1 and its < 0.02 and float(gap_T[0]) > 0.06 else None


@lru_cache(_CACHED_PAIRS)
def follows(item: SceneObject, other: SceneObject) -> bool | None:
    """Whether an object goes the same way as another one, behind it, all the time."""
    alike = _same_way(item, other)
    if not alike or min(item.motion.length, other.motion.length) < 0.15:
        return None if alike else alike
    along_T, across_T = _offsets(item, other)
    if bool((along_T > 0.02).any()):
        return False if bool((along_T > 0.02).all()) else None
    near = bool((along_T > -0.5).all()) and bool((across_T < 0.35 * -along_T).all())
    if bool((across_T > -along_T).all()) or bool((along_T < -0.7).all()):
        return False
    return True if near and bool((along_T < -0.07).all()) else None


@lru_cache(_CACHED_PAIRS)
def overtakes(item: SceneObject, other: SceneObject) -> bool | None:
    """Whether an object goes the same way as another one, first behind it, at last ahead of it."""
    if other.motion.length < 0.03 <= item.motion.length:
        return None if _passes_by(item, other) else False
    alike = _same_way(item, other)
    if not alike:
        return alike
    along_T, across_T = _offsets(item, other)
    if along_T[0] > 0.0 or along_T[-1] < -0.02:
        return False
    clear = along_T[0] < -0.06 and along_T[-1] > 0.06
    return True if clear and bool((across_T < 0.4).all()) else None


def _passes_by(item: SceneObject, other: SceneObject) -> bool:
    """Whether an object goes past a resting one, which some would call overtaking, too."""
    way = np.array(item.motion.displacement)
    way = way / max(1e-6, float(np.hypot(*way)))
    step_T2 = item.centre_T2 - other.centre_T2
    along_T, across_T = step_T2 @ way, np.abs(step_T2 @ np.array([-way[1], way[0]]))
    return bool((along_T.min() < -0.02) & (along_T.max() > 0.02) & (across_T.min() < 0.3))


def _same_way(item: SceneObject, other: SceneObject) -> bool | None:
    """Whether both move, in about the same direction."""
    steps = [np.array(one.motion.displacement) for one in (item, other)]
    lengths = [float(np.hypot(*step)) for step in steps]
    if min(lengths) < 0.03 or "wander" in (item.motion.manner, other.motion.manner):
        return False
    cosine = float(steps[0] @ steps[1]) / (lengths[0] * lengths[1])
    if cosine < 0.5:
        return False
    steady = {item.motion.manner, other.motion.manner} <= {"straight", "diagonal"}
    seen = min(float(item.shown_T.min()), float(other.shown_T.min())) >= _SEEN_MIN
    return True if steady and seen and cosine > 0.92 and min(lengths) > 0.07 else None


def _offsets(item: SceneObject, other: SceneObject) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far an object is ahead of another one, and how far to the side, (T,) float64 each, in sides."""
    way = np.array(other.motion.displacement)
    way = way / np.hypot(*way)
    step_T2 = item.centre_T2 - other.centre_T2
    return step_T2 @ way, np.abs(step_T2 @ np.array([-way[1], way[0]]))


def _travelled(item: SceneObject, frame: int) -> float:
    steps = np.diff(item.motion.centre_T2[: frame + 1], axis=0)
    return float(np.hypot(*steps.T).sum())


def _distance(item: SceneObject, other: SceneObject) -> NDArray[np.float64]:
    return np.asarray(np.hypot(*(item.centre_T2 - other.centre_T2).T))


def _inverse(
    rule: Callable[[SceneObject, SceneObject], bool | None],
) -> Callable[[SceneObject, SceneObject], bool | None]:
    return lambda item, other: rule(other, item)


ENCOUNTERS: dict[str, Callable[[SceneObject, SceneObject], bool | None]] = {
    "touches": touches,
    "bumps": bumps,
    "bumped": _inverse(bumps),
    "follows": follows,
    "followed": _inverse(follows),
    "overtakes": overtakes,
    "overtaken": _inverse(overtakes),
}
"""Relations that take time; for an object and the one it is compared with: True, False, or None in doubt."""
