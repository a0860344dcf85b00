"""Little plays of objects that have nothing to do with each other: they spin, rest, fade, blink, come and go."""

# T frames

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_casting import alone, extent, playing, roomiest
from napari_virst.training.scene_facts import FULL_TURN, SYMMETRY, can_spin
from napari_virst.training.scene_motion import plan_blinks, plan_crossing, plan_fading, plan_return

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from numpy.typing import NDArray

    from napari_virst.training.scene_casting import Cast
    from napari_virst.training.scene_motion import Motion
    from napari_virst.training.scene_objects import Scene


def _spin(rng: Random, scene: Scene) -> Cast:
    num_steps = len(scene.camera_T2) - 1
    able = [index for index, item in enumerate(scene.objects) if can_spin(item, 0.75 * FULL_TURN)]
    if not able:
        return {}
    index = rng.choice(able)
    item = scene.objects[index]
    most = min(1.6 * FULL_TURN, 0.5 * math.radians(SYMMETRY[item.shape]) * num_steps)
    spin = rng.choice((-1, 1)) * rng.uniform(0.75 * FULL_TURN, max(0.75 * FULL_TURN, most))
    centre_T2, length = alone(rng, scene, index, "still")
    cast = {
        number: replace(other, spin=0.3 * other.spin) for number, other in enumerate(scene.objects) if number != index
    }
    return cast | {index: replace(item, spin=spin, motion=playing(item, "still", centre_T2, length))}


def _pause(manner: str) -> Callable[[Random, Scene], Cast]:
    """Build a play in which one object stops, or starts."""

    def play(rng: Random, scene: Scene) -> Cast:
        index = rng.randrange(len(scene.objects))
        item = scene.objects[index]
        centre_T2, length = alone(rng, scene, index, manner)
        return {index: replace(item, motion=playing(item, manner, centre_T2, length))}

    return play


def _fade(rng: Random, scene: Scene) -> Cast:
    index = rng.randrange(len(scene.objects))
    item, num_frames = scene.objects[index], len(scene.camera_T2)
    manner = rng.choice(("still", "still", "straight"))
    centre_T2, length = alone(rng, scene, index, manner)
    opacity_T = plan_fading(rng, num_frames)
    motion = playing(item, manner, centre_T2, length, opacity_T=opacity_T, visible_T=opacity_T > 0)
    return {index: replace(item, motion=motion)}


def _blink(rng: Random, scene: Scene) -> Cast:
    num_frames = len(scene.camera_T2)
    if num_frames < 5:
        return {}
    index = rng.randrange(len(scene.objects))
    item, manner = scene.objects[index], rng.choice(("still", "still", "straight"))
    centre_T2, length = alone(rng, scene, index, manner)
    motion = playing(item, manner, centre_T2, length, visible_T=plan_blinks(rng, num_frames))
    return {index: replace(item, motion=motion)}


def _moments(rng: Random, num: int, first: int, last: int, num_frames: int) -> list[int] | None:
    """Draw frames that lie clearly apart."""
    gap = max(1, math.ceil(0.13 * (num_frames - 1)))
    room = last - first - gap * (num - 1)
    if room < 0:
        return None
    places = sorted(rng.randint(0, room) for _ in range(num))
    moments = [first + place + gap * number for number, place in enumerate(places)]
    rng.shuffle(moments)
    return moments


def _in_order(play: str) -> Callable[[Random, Scene], Cast]:
    """Build a play in which two or three objects come, or go, one after the other."""
    arriving, over_border = play in ("pop_up", "enter"), play in ("enter", "leave")

    def stage_order(rng: Random, scene: Scene) -> Cast:
        """Let the players come or go one after the other."""
        num_frames = len(scene.camera_T2)
        indices = _players(rng, scene, play)
        trip = max(2, round(0.4 * num_frames)) if over_border else 0
        latest = num_frames - trip if over_border else num_frames - math.ceil(num_frames / 3)
        moments = _moments(rng, len(indices), 1, latest, num_frames)
        if moments is None:
            return {}
        cast: Cast = {}
        for index, moment in zip(indices, moments, strict=True):
            item = scene.objects[index]
            if over_border:
                motion = _crossing(rng, scene, index, moment - 1, moment - 1 + trip, entering=arriving)
            else:
                manner = rng.choice(("still", "still", "straight"))
                centre_T2, length = alone(rng, scene, index, manner)
                visible_T = np.arange(num_frames) >= moment
                motion = playing(item, manner, centre_T2, length, visible_T=visible_T if arriving else visible_T[::-1])
            cast[index] = replace(item, motion=motion)
        return cast

    return stage_order


def _players(rng: Random, scene: Scene, play: str) -> list[int]:
    """Two or three objects, first of all those that come or go anyway, unless in the same way as the play has it."""
    indices = list(range(len(scene.objects)))
    rng.shuffle(indices)
    restless = ("leave", "enter")
    indices.sort(key=lambda index: scene.objects[index].motion.manner not in restless)
    return indices[: rng.choice((2, 2, 3))]


def _crossing(rng: Random, scene: Scene, index: int, first: int, last: int, *, entering: bool) -> Motion:
    item, num_frames = scene.objects[index], len(scene.camera_T2)

    def draft() -> NDArray[np.float64]:
        return plan_crossing(rng, num_frames, extent(item), first, last)[None]

    found = roomiest(scene, [index], draft)
    assert found is not None
    course_T2 = found[0] if entering else np.ascontiguousarray(found[0][::-1])
    length = float(np.hypot(*(course_T2[-1] - course_T2[0])))
    return playing(item, "enter" if entering else "leave", course_T2, length)


def _return(rng: Random, scene: Scene) -> Cast:
    """One object goes and comes back; at times another one goes for good, or comes late."""
    num_frames = len(scene.camera_T2)
    index, other = rng.sample(range(len(scene.objects)), 2)
    item = scene.objects[index]
    if rng.random() < 0.55:
        found = roomiest(scene, [index], lambda: plan_return(rng, num_frames, extent(item))[None])
        assert found is not None
        motion = playing(item, "return", found[0], 0.5)
    else:
        away = max(1, round(rng.uniform(0.2, 0.4) * num_frames))
        first = rng.randint(1, num_frames - 1 - away)
        visible_T = ~((np.arange(num_frames) >= first) & (np.arange(num_frames) < first + away))
        manner = rng.choice(("still", "still", "straight"))
        centre_T2, length = alone(rng, scene, index, manner)
        motion = playing(item, manner, centre_T2, length, visible_T=visible_T)
    cast = {index: replace(item, motion=motion)}
    trip = max(2, round(0.4 * num_frames))
    if rng.random() < 0.5:
        start = rng.randint(0, num_frames - 1 - trip)
        distractor = _crossing(rng, scene, other, start, start + trip, entering=rng.random() < 0.3)
        cast[other] = replace(scene.objects[other], motion=distractor)
    return cast


PLAYS: dict[str, Callable[[Random, Scene], Cast]] = {
    "spin": _spin,
    "stop": _pause("stop"),
    "start": _pause("start"),
    "fade": _fade,
    "blink": _blink,
    "return": _return,
} | {play: _in_order(play) for play in ("pop_up", "enter", "vanish", "leave")}
"""Each takes objects of a scene and gives them back with their parts; none where the scene does not allow it."""
