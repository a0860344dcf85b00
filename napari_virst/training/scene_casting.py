"""How objects are given a part in a little play: a course of their own, with room around it."""

# T frames, N objects

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_motion import Motion, plan_path, plan_pause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from numpy.typing import NDArray

    from napari_virst.training.scene_objects import Scene, SceneObject

Cast = dict[int, "SceneObject"]
"""Objects that play, by their index in the scene."""


def playing(item: SceneObject, manner: str, centre_T2: NDArray[np.float64], length: float, **changes: object) -> Motion:
    """Make the motion of an object in a play; what `changes` do not name is plain, and it keeps its mean growth."""
    num_frames = len(centre_T2)
    plain = Motion(
        manner, centre_T2, length, np.ones(num_frames), np.zeros(num_frames), np.ones(num_frames, dtype=bool)
    )
    return replace(plain, growth_T=np.full(num_frames, float(item.motion.growth_T.mean())), **changes)  # type: ignore[arg-type]


def extent(item: SceneObject) -> float:
    """Farthest point from the centre when the object neither grows nor divides, in sides."""
    return float((item.extent_T - item.radius_T * item.motion.separation_T).mean())


def roomiest(
    scene: Scene, indices: Sequence[int], draft: Callable[[], NDArray[np.float64] | None], tries: int = 8
) -> NDArray[np.float64] | None:
    """Draw courses (N, T, 2) for some objects several times and keep those farthest from all others; None if none."""
    others = [item for index, item in enumerate(scene.objects) if index not in indices]
    reach = np.array([extent(scene.objects[index]) for index in indices])[:, None]
    best: tuple[float, NDArray[np.float64] | None] = (-1.0, None)
    for _ in range(tries):
        course_NT2 = draft()
        if course_NT2 is None:
            continue
        room = 1.0
        for other in others:
            away = course_NT2 - other.motion.centre_T2
            gap_NT = np.hypot(away[..., 0], away[..., 1]) / (reach + extent(other) + 0.01)
            room = min(room, float(gap_NT.min()))
        if room > best[0]:
            best = (room, course_NT2)
        if room >= 1:
            break
    return best[1]


def alone(rng: Random, scene: Scene, index: int, manner: str) -> tuple[NDArray[np.float64], float]:
    """Draw a course (T, 2) in a manner for one object, with room around it, and say how long it is."""
    item, num_frames = scene.objects[index], len(scene.camera_T2)
    lengths: dict[bytes, float] = {}

    def draft() -> NDArray[np.float64]:
        """Draw a course (1, T, 2) of centres (y, x) in sides; a roomier one may be taken instead."""
        reach = extent(item)
        if manner in ("stop", "start"):
            course_T2, length = plan_pause(rng, num_frames, reach, at_end=manner == "stop")
        else:
            course_T2, length = plan_path(rng, manner, reach, num_frames)
        lengths[course_T2.tobytes()] = length
        return course_T2[None]

    found = roomiest(scene, [index], draft)
    assert found is not None
    return found[0], lengths[found[0].tobytes()]
