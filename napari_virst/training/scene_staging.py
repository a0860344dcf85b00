"""Which scenes are given a little play, and which; staged into scenes already planned."""

# T frames, N objects

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_virst.training.scene_objects import shown_fractions
from napari_virst.training.scene_pair_plays import PAIR_PLAYS
from napari_virst.training.scene_plays import PLAYS

if TYPE_CHECKING:
    from random import Random

    from napari_virst.training.scene_casting import Cast
    from napari_virst.training.scene_objects import Scene

_FEWEST_FRAMES = 4
# How often each play is given among those of its sort.
_MOTION_WEIGHTS = {"spin": 1.0, "stop": 1.0, "start": 1.0}
_CHANGE_WEIGHTS = {"fade": 1.0, "blink": 1.0}
_PAIR_WEIGHTS = {"follow": 1.0, "overtake": 1.0, "bump": 1.2}
_TIME_WEIGHTS = {"pop_up": 1.0, "enter": 1.0, "vanish": 0.7, "leave": 1.2, "return": 1.6}
_ALL_WEIGHTS = _MOTION_WEIGHTS | _CHANGE_WEIGHTS | _PAIR_WEIGHTS | _TIME_WEIGHTS

_PLAYBILL: dict[str, tuple[float, dict[str, float]]] = {
    "motion": (0.5, _MOTION_WEIGHTS),
    "change": (0.6, _CHANGE_WEIGHTS),
    "relation": (0.45, _PAIR_WEIGHTS),
    "time": (1.0, _TIME_WEIGHTS),
    "reasoning": (0.65, _PAIR_WEIGHTS | {"leave": 0.4, "stop": 0.2, "spin": 0.3, "fade": 0.2}),
    "event": (0.1, _TIME_WEIGHTS),
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
    share, plays = _PLAYBILL.get(kind, (0.08, _ALL_WEIGHTS))
    if len(scene.camera_T2) < _FEWEST_FRAMES or not plays or rng.random() >= share:
        return scene
    play = rng.choices(list(plays), list(plays.values()))[0]
    cast = (PLAYS | PAIR_PLAYS)[play](rng, scene)
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
