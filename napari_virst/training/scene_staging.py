"""Little plays: what single objects, pairs or groups do in some scenes, staged into scenes already planned."""

# T frames, N objects

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_encounters import gaps
from napari_virst.training.scene_facts import FULL_TURN, SYMMETRY, can_spin
from napari_virst.training.scene_motion import (
    Motion,
    placed,
    plan_blinks,
    plan_crossing,
    plan_fading,
    plan_path,
    plan_pause,
    plan_return,
)
from napari_virst.training.scene_objects import shown_fractions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from numpy.typing import NDArray

    from napari_virst.training.scene_objects import Scene, SceneObject

Cast = dict[int, "SceneObject"]
"""Objects that play, by their index in the scene."""

_FEWEST_FRAMES = 4
_MOTION_PLAYS = {"spin": 1.0, "stop": 1.0, "start": 1.0}
_CHANGE_PLAYS = {"fade": 1.0, "blink": 1.0}
_PAIR_PLAYS = {"follow": 1.0, "overtake": 1.0, "bump": 1.2}
_TIME_PLAYS = {"pop_up": 1.0, "enter": 1.0, "vanish": 0.7, "leave": 1.2, "return": 1.6}
_ALL_PLAYS = _MOTION_PLAYS | _CHANGE_PLAYS | _PAIR_PLAYS | _TIME_PLAYS

_PLAYBILL: dict[str, tuple[float, dict[str, float]]] = {
    "motion": (0.5, _MOTION_PLAYS),
    "change": (0.6, _CHANGE_PLAYS),
    "relation": (0.45, _PAIR_PLAYS),
    "time": (1.0, _TIME_PLAYS),
    "reasoning": (0.65, _PAIR_PLAYS | {"leave": 0.4, "stop": 0.2, "spin": 0.3, "fade": 0.2}),
    "event": (0.1, _TIME_PLAYS),
    "speed": (0.0, {}),
    "division": (0.0, {}),
    "rank": (0.0, {}),
    "size": (0.0, {}),
    "position": (0.0, {}),
}
"""How often scenes of a kind are given a play, and which, by weight."""


def stage(rng: Random, scene: Scene, kind: str) -> Scene:
    """Give some scenes a play, by their kind; scenes of fewer than 4 frames stay as they are.

    Parameters
    ----------
    rng
        Source of chance.
    scene
        Already planned.
    kind
        One of ``scene_queries.KINDS``.
    """
    share, plays = _PLAYBILL.get(kind, (0.08, _ALL_PLAYS))
    if len(scene.camera_T2) < _FEWEST_FRAMES or not plays or rng.random() >= share:
        return scene
    play = rng.choices(list(plays), list(plays.values()))[0]
    cast = _PLAYS[play](rng, scene)
    return _recast(scene, cast) if cast else scene


def _recast(scene: Scene, cast: Cast) -> Scene:
    """Put players into a scene, those that fade lowest, and look again how much of each object can be seen."""
    items = [cast.get(index, item) for index, item in enumerate(scene.objects)]
    items.sort(key=lambda item: item.motion.opacity_T is None)
    motions = [item.motion for item in items]
    shown_NT = shown_fractions(
        motions, [item.radius for item in items], [item.shape for item in items], scene.camera_T2
    )
    seen = [
        replace(
            item,
            shown_T=shown_T if item.motion.opacity_T is None else shown_T * (item.motion.opacity_T > 0),
            centre_T2=item.motion.centre_T2 + scene.camera_T2,
        )
        for item, shown_T in zip(items, shown_NT, strict=True)
    ]
    return replace(scene, objects=tuple(seen))


def _playing(
    item: SceneObject, manner: str, centre_T2: NDArray[np.float64], length: float, **changes: object
) -> Motion:
    num_frames = len(centre_T2)
    plain = Motion(
        manner, centre_T2, length, np.ones(num_frames), np.zeros(num_frames), np.ones(num_frames, dtype=bool)
    )
    return replace(plain, growth_T=np.full(num_frames, float(item.motion.growth_T.mean())), **changes)  # type: ignore[arg-type]


def _extent(item: SceneObject) -> float:
    """Farthest point from the centre when the object neither grows nor divides, in sides."""
    return float((item.extent_T - item.radius_T * item.motion.separation_T).mean())


def _roomiest(
    scene: Scene, indices: Sequence[int], draft: Callable[[], NDArray[np.float64] | None], tries: int = 8
) -> NDArray[np.float64] | None:
    """Draw courses (N, T, 2) for some objects several times and keep those farthest from all others."""
    others = [item for index, item in enumerate(scene.objects) if index not in indices]
    reach = np.array([_extent(scene.objects[index]) for index in indices])[:, None]
    best: tuple[float, NDArray[np.float64] | None] = (-1.0, None)
    for _ in range(tries):
        course_NT2 = draft()
        if course_NT2 is None:
            continue
        room = 1.0
        for other in others:
            away = course_NT2 - other.motion.centre_T2
            gap_NT = np.hypot(away[..., 0], away[..., 1]) / (reach + _extent(other) + 0.01)
            room = min(room, float(gap_NT.min()))
        if room > best[0]:
            best = (room, course_NT2)
        if room >= 1:
            break
    return best[1]


def _alone(rng: Random, scene: Scene, index: int, manner: str) -> tuple[NDArray[np.float64], float]:
    item, num_frames = scene.objects[index], len(scene.camera_T2)
    lengths: dict[bytes, float] = {}

    def draft() -> NDArray[np.float64]:
        reach = _extent(item)
        if manner in ("stop", "start"):
            course_T2, length = plan_pause(rng, num_frames, reach, at_end=manner == "stop")
        else:
            course_T2, length = plan_path(rng, manner, reach, num_frames)
        lengths[course_T2.tobytes()] = length
        return course_T2[None]

    found = _roomiest(scene, [index], draft)
    assert found is not None
    return found[0], lengths[found[0].tobytes()]


def _spin(rng: Random, scene: Scene) -> Cast:
    num_steps = len(scene.camera_T2) - 1
    able = [index for index, item in enumerate(scene.objects) if can_spin(item, 0.75 * FULL_TURN)]
    if not able:
        return {}
    index = rng.choice(able)
    item = scene.objects[index]
    most = min(1.6 * FULL_TURN, 0.5 * math.radians(SYMMETRY[item.shape]) * num_steps)
    spin = rng.choice((-1, 1)) * rng.uniform(0.75 * FULL_TURN, max(0.75 * FULL_TURN, most))
    centre_T2, length = _alone(rng, scene, index, "still")
    cast = {
        number: replace(other, spin=0.3 * other.spin) for number, other in enumerate(scene.objects) if number != index
    }
    return cast | {index: replace(item, spin=spin, motion=_playing(item, "still", centre_T2, length))}


def _pause(manner: str) -> Callable[[Random, Scene], Cast]:
    def play(rng: Random, scene: Scene) -> Cast:
        index = rng.randrange(len(scene.objects))
        item = scene.objects[index]
        centre_T2, length = _alone(rng, scene, index, manner)
        return {index: replace(item, motion=_playing(item, manner, centre_T2, length))}

    return play


def _fade(rng: Random, scene: Scene) -> Cast:
    index = rng.randrange(len(scene.objects))
    item, num_frames = scene.objects[index], len(scene.camera_T2)
    manner = rng.choice(("still", "still", "straight"))
    centre_T2, length = _alone(rng, scene, index, manner)
    opacity_T = plan_fading(rng, num_frames)
    motion = _playing(item, manner, centre_T2, length, opacity_T=opacity_T, visible_T=opacity_T > 0)
    return {index: replace(item, motion=motion)}


def _blink(rng: Random, scene: Scene) -> Cast:
    num_frames = len(scene.camera_T2)
    if num_frames < 5:
        return {}
    index = rng.randrange(len(scene.objects))
    item, manner = scene.objects[index], rng.choice(("still", "still", "straight"))
    centre_T2, length = _alone(rng, scene, index, manner)
    motion = _playing(item, manner, centre_T2, length, visible_T=plan_blinks(rng, num_frames))
    return {index: replace(item, motion=motion)}


def _pair(rng: Random, scene: Scene) -> tuple[int, int] | None:
    """Draw two objects that leave room to move, of the four smallest."""
    order = sorted(range(len(scene.objects)), key=lambda index: _extent(scene.objects[index]))
    small = [index for index in order[:4] if _extent(scene.objects[index]) < 0.23]
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
    extents = [_extent(scene.objects[index]) for index in pair]
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
    courses = _roomiest(scene, pair, draft)
    if courses is None:
        return {}
    lengths = [float(np.hypot(*np.diff(course_T2, axis=0).T).sum()) for course_T2 in courses]
    return {
        index: replace(scene.objects[index], motion=_playing(scene.objects[index], manner, course_T2, length))
        for index, course_T2, length in zip(pair, courses, lengths, strict=True)
    }


def _overtake(rng: Random, scene: Scene) -> Cast:
    pair = _pair(rng, scene)
    if pair is None:
        return {}
    extents = [_extent(scene.objects[index]) for index in pair]
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
    reach, way = max(_extent(scene.objects[index]) for index in pair), _way(rng)
    meeting = _meeting_distance(scene, pair, way)

    def draft() -> NDArray[np.float64] | None:
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
    away = _extent(mover) + _extent(target)
    for _ in range(5):
        standing = _posed(target, np.stack([away * way, away * way]))
        away -= float(gaps(facing, standing)[-1])
    return away


def _posed(item: SceneObject, centre_T2: NDArray[np.float64]) -> SceneObject:
    motion = _playing(item, "still", centre_T2, 0.0)
    return replace(item, spin=0.0, motion=motion, centre_T2=centre_T2, shown_T=np.ones(len(centre_T2)))


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
                centre_T2, length = _alone(rng, scene, index, manner)
                visible_T = np.arange(num_frames) >= moment
                motion = _playing(item, manner, centre_T2, length, visible_T=visible_T if arriving else visible_T[::-1])
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
        return plan_crossing(rng, num_frames, _extent(item), first, last)[None]

    found = _roomiest(scene, [index], draft)
    assert found is not None
    course_T2 = found[0] if entering else np.ascontiguousarray(found[0][::-1])
    length = float(np.hypot(*(course_T2[-1] - course_T2[0])))
    return _playing(item, "enter" if entering else "leave", course_T2, length)


def _return(rng: Random, scene: Scene) -> Cast:
    """One object goes and comes back; at times another one goes for good, or comes late."""
    num_frames = len(scene.camera_T2)
    index, other = rng.sample(range(len(scene.objects)), 2)
    item = scene.objects[index]
    if rng.random() < 0.55:
        found = _roomiest(scene, [index], lambda: plan_return(rng, num_frames, _extent(item))[None])
        assert found is not None
        motion = _playing(item, "return", found[0], 0.5)
    else:
        away = max(1, round(rng.uniform(0.2, 0.4) * num_frames))
        first = rng.randint(1, num_frames - 1 - away)
        visible_T = ~((np.arange(num_frames) >= first) & (np.arange(num_frames) < first + away))
        manner = rng.choice(("still", "still", "straight"))
        centre_T2, length = _alone(rng, scene, index, manner)
        motion = _playing(item, manner, centre_T2, length, visible_T=visible_T)
    cast = {index: replace(item, motion=motion)}
    trip = max(2, round(0.4 * num_frames))
    if rng.random() < 0.5:
        start = rng.randint(0, num_frames - 1 - trip)
        distractor = _crossing(rng, scene, other, start, start + trip, entering=rng.random() < 0.3)
        cast[other] = replace(scene.objects[other], motion=distractor)
    return cast


_PLAYS: dict[str, Callable[[Random, Scene], Cast]] = {
    "spin": _spin,
    "stop": _pause("stop"),
    "start": _pause("start"),
    "fade": _fade,
    "blink": _blink,
    "follow": _follow,
    "overtake": _overtake,
    "bump": _bump,
    "return": _return,
} | {play: _in_order(play) for play in ("pop_up", "enter", "vanish", "leave")}
