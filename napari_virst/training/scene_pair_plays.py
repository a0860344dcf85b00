"""Little plays of two objects: one follows, overtakes or bumps into the other."""

# T frames

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_casting import extent, playing, roomiest
from napari_virst.training.scene_encounters import gaps
from napari_virst.training.scene_motion import placed

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from numpy.typing import NDArray

    from napari_virst.training.scene_casting import Cast
    from napari_virst.training.scene_objects import Scene, SceneObject


def _pair(rng: Random, scene: Scene) -> tuple[int, int] | None:
    """Draw two objects that leave room to move, of the four smallest."""
    order = sorted(range(len(scene.objects)), key=lambda index: extent(scene.objects[index]))
    small = [index for index in order[:4] if extent(scene.objects[index]) < 0.23]
    if len(small) < 2:
        return None
    first, second = rng.sample(small, 2)
    return first, second


def _way(rng: Random) -> NDArray[np.float64]:
    angle = rng.choice((0.0, 0.5, 1.0, 1.5)) * math.pi + rng.gauss(0, 0.12)
    return np.array([math.sin(angle), math.cos(angle)])


def _follow(rng: Random, scene: Scene) -> Cast:
    pair = _pair(rng, scene)
    if pair is None:
        return {}
    extents = [extent(scene.objects[index]) for index in pair]
    gap = sum(extents) * rng.uniform(1.05, 1.35) + 0.015
    length = min(rng.uniform(0.28, 0.5), 0.96 - gap - sum(extents))
    if length < 0.22:
        return {}
    time_T1 = np.linspace(0, 1, len(scene.camera_T2))[:, None]

    def draft() -> NDArray[np.float64]:
        way = _way(rng)
        ahead_T2 = time_T1 * way * length
        return placed(rng, np.stack([ahead_T2 - gap * way, ahead_T2]), max(extents))

    return _two_go(scene, pair, draft, "straight")


def _two_go(scene: Scene, pair: tuple[int, int], draft: Callable[[], NDArray[np.float64] | None], manner: str) -> Cast:
    courses = roomiest(scene, pair, draft)
    if courses is None:
        return {}
    lengths = [float(np.hypot(*np.diff(course_T2, axis=0).T).sum()) for course_T2 in courses]
    return {
        index: replace(scene.objects[index], motion=playing(scene.objects[index], manner, course_T2, length))
        for index, course_T2, length in zip(pair, courses, lengths, strict=True)
    }


def _overtake(rng: Random, scene: Scene) -> Cast:
    pair = _pair(rng, scene)
    if pair is None:
        return {}
    extents = [extent(scene.objects[index]) for index in pair]
    lane = sum(extents) * 1.04 + 0.015
    slow, fast = rng.uniform(0.1, 0.2), rng.uniform(0.4, 0.6)
    fast = min(fast, 0.95 - 2 * max(extents))
    behind = (fast - slow) * rng.uniform(0.4, 0.6)
    if lane > 0.36 or fast - slow < 0.2:
        return {}
    time_T1 = np.linspace(0, 1, len(scene.camera_T2))[:, None]

    def draft() -> NDArray[np.float64]:
        way = _way(rng)
        beside = np.array([-way[1], way[0]]) * rng.choice((-1, 1)) * lane
        courses = np.stack([time_T1 * way * fast - behind * way + beside, time_T1 * way * slow])
        return placed(rng, courses, max(extents))

    return _two_go(scene, pair, draft, "straight")


def _bump(rng: Random, scene: Scene) -> Cast:
    pair = _pair(rng, scene)
    if pair is None or any(scene.objects[index].motion.divides for index in pair):
        return {}
    last = len(scene.camera_T2) - 1
    moment = rng.randint(max(1, round(0.4 * last)), max(1, round(0.75 * last)))
    before = np.minimum(np.arange(last + 1) / moment, 1)
    after_T = np.clip((np.arange(last + 1) - moment) / max(1, last - moment), 0, None)
    ending = rng.choice(("rest", "back", "push"))
    reach, way = max(extent(scene.objects[index]) for index in pair), _way(rng)
    meeting = _meeting_distance(scene, pair, way)

    def draft() -> NDArray[np.float64] | None:
        """Draw courses (2, T, 2) of the pair's centres (y, x) in sides; None where they do not fit the picture."""
        length = rng.uniform(0.22, 0.42)
        mine = before * length - (after_T * 0.4 * length if ending == "back" else 0)
        its = length + meeting + (after_T * rng.uniform(0.1, 0.18) if ending == "push" else np.zeros(last + 1))
        courses = np.stack([mine[:, None] * way, its[:, None] * way])
        span = np.ptp(courses.reshape(-1, 2), axis=0).max() + 2 * reach
        return placed(rng, courses, reach) if span < 1 else None

    cast = _two_go(scene, pair, draft, "bump")
    if not cast:
        return {}
    mover, target = (cast[index] for index in pair)
    manner = "start" if ending == "push" else "still"
    target = replace(target, spin=0.0, motion=replace(target.motion, manner=manner))
    return {pair[0]: replace(mover, spin=0.0), pair[1]: target}


def _meeting_distance(scene: Scene, pair: tuple[int, int], way: NDArray[np.float64]) -> float:
    """How far apart the centres of two objects are when the first, going some way, just touches the second."""
    mover, target = (scene.objects[index] for index in pair)
    path_T2 = np.stack([-0.01 * way, 0 * way])
    facing = _posed(mover, path_T2)
    facing = replace(facing, motion=replace(facing.motion, manner="bump", length=0.01))
    away = extent(mover) + extent(target)
    for _ in range(5):
        standing = _posed(target, np.stack([away * way, away * way]))
        away -= float(gaps(facing, standing)[-1])
    return away


def _posed(item: SceneObject, centre_T2: NDArray[np.float64]) -> SceneObject:
    motion = playing(item, "still", centre_T2, 0.0)
    return replace(item, spin=0.0, motion=motion, centre_T2=centre_T2, shown_T=np.ones(len(centre_T2)))


PAIR_PLAYS: dict[str, Callable[[Random, Scene], Cast]] = {"follow": _follow, "overtake": _overtake, "bump": _bump}
"""As ``scene_plays.PLAYS``."""
