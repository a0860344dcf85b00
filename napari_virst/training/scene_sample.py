"""The clip to try the program on: a clean scene in which one object is out of sight for a while."""

# T frames

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_facts import exists
from napari_virst.training.scene_meaning import meaning
from napari_virst.training.scene_motion import plan_path
from napari_virst.training.scene_objects import COLOURS, HELD_OUT_COMBINATIONS, Background, shown_fractions
from napari_virst.training.scene_phrases import Phrase, say_plainly
from napari_virst.training.scene_plan import plan_plain_scene

if TYPE_CHECKING:
    from napari_virst.training.scene_objects import Scene, SceneObject

_PALETTE = ("red", "cyan", "white")
"""One colour for each object, far apart: shapes of one colour, yellow beside red, green beside cyan, and blue on a dark
ground are beyond the bundled model of today (see its card)."""
_MAX_PLANS = 20_000
_BACKGROUND = Background((38.0, 42.0, 52.0), (10.0, -8.0))


def plan_sample(seed: int, num_frames: int) -> tuple[Scene, tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Look for a scene of plain objects, one of them outside for a while, with a query for each.

    Returns
    -------
    scene : Scene
        With a quiet background and plain objects.
    queries : tuple of str
        At least four.
    meant : tuple of tuple of int
        Objects of ``scene.objects`` that each query refers to.
    """
    rng = Random(seed)
    for _ in range(_MAX_PLANS):
        scene = plan_plain_scene(rng, num_frames, "motion", style="geometric")
        if len(scene.objects) != len(_PALETTE):
            continue
        scene = _with_one_leaving(rng, scene)
        if not _is_pretty(scene):
            continue
        palette = rng.sample(_PALETTE, len(scene.objects))
        dressed = [_plain(item, colour) for item, colour in zip(scene.objects, palette, strict=True)]
        if any((item.colour, item.shape) in HELD_OUT_COMBINATIONS for item in dressed):
            continue
        scene = replace(scene, background=_BACKGROUND, objects=tuple(dressed))
        found = _ask(scene)
        if found is not None:
            return scene, *found
    raise ValueError(f"A seed must lead to a scene with several queries; got {seed}; give another one.")


def _with_one_leaving(rng: Random, scene: Scene) -> Scene:
    """Send the object that lies lowest in the z-order out of the picture."""
    first, *others = scene.objects
    num_frames = len(scene.camera_T2)
    reach = float(first.extent_T.max())
    motion = replace(first.motion, manner="leave", visible_T=np.ones(num_frames, dtype=bool))
    centre_T2, length = plan_path(rng, "leave", reach, num_frames)
    motion = replace(motion, centre_T2=centre_T2, length=length)
    motions = [motion, *(item.motion for item in others)]
    shapes = [item.shape for item in scene.objects]
    shown_NT = shown_fractions(motions, [item.radius for item in scene.objects], shapes, scene.camera_T2)
    moved = zip(scene.objects, motions, shown_NT, strict=True)
    objects = [
        replace(item, motion=motion, centre_T2=motion.centre_T2 + scene.camera_T2, shown_T=shown_T)
        for item, motion, shown_T in moved
    ]
    return replace(scene, objects=tuple(objects))


def _is_pretty(scene: Scene) -> bool:
    items = scene.objects
    if not all(item.motion.growth == 1 and item.motion.visible_T.all() and exists(item) for item in items):
        return False
    varied = len({item.shape for item in items}) >= 3 and min(item.radius for item in items) > 0.058
    moving = sum(item.motion.length > 0.15 for item in items)
    roomy = all(float(item.shown_T[item.shown_T > 0].mean()) > 0.75 for item in items)
    return varied and roomy and moving >= 2 and float((items[0].shown_T == 0).mean()) >= 0.1


def _ask(scene: Scene) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]] | None:
    """Ask for every object by colour and shape, the one that leaves last."""
    order = [*range(1, len(scene.objects)), 0]
    phrases = [Phrase(scene.objects[i].shape, (f"colour:{scene.objects[i].colour}",)) for i in order]
    if any(meaning(scene, phrase) != (i,) for phrase, i in zip(phrases, order, strict=True)):
        return None
    return tuple(say_plainly(phrase) for phrase in phrases), tuple((i,) for i in order)


def _plain(item: SceneObject, colour: str) -> SceneObject:
    look = {"edge_softness": 1.0, "shade": 0.1, "dome": 0.12}
    spin = min(0.4, max(-0.4, item.spin))
    return replace(item, colour=colour, rgb=COLOURS[colour], look=look, spin=spin)
