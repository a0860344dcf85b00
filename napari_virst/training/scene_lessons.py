"""Scenes that are asked several queries each, with what is true of every object: what language lessons are made of.

Several queries of one picture cost one drawing and one encoding, and only the words tell them apart.
"""

# B scenes, X queries (of all scenes), T frames, C colours, H W rows and columns, N objects, K topics

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_virst.training.scene_fact_words import FACTS
from napari_virst.training.scene_facts import is_fact
from napari_virst.training.scene_motion import FAST_LENGTH, STILL_LENGTH
from napari_virst.training.scene_nouns import NOUNS, RELATIONS, SUPERLATIVES
from napari_virst.training.scene_objects import COLOURS, GEOMETRIC_SHAPES
from napari_virst.training.scene_phrases import say
from napari_virst.training.scene_plan import plan_scene
from napari_virst.training.scene_queries import KINDS_IN_TIME, propose
from napari_virst.training.scene_render import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_virst.training.scene_objects import Scene, SceneObject
    from napari_virst.training.scene_phrases import Phrase

_SAID = (*FACTS, *SUPERLATIVES, *NOUNS)
ATOMS = (*_SAID, *RELATIONS, "plural", *(f"other {atom}" for atom in _SAID))
"""What a sentence can say, of its object and of the object that this is compared with."""

HAPPENINGS = (
    *("move:straight", "move:curve", "move:turn", "move:stop", "move:start"),
    *("event:return", "event:leave", "event:vanish", "event:enter", "event:appear"),
)
"""Keys of ``FACTS`` that are topics of their own: class 1 where they are true of an object, else 0."""

TOPICS = {
    **{"colour": 11, "shape": 8, "size": 5, "level": 4, "course": 7, "speed": 3, "change": 6, "presence": 4},
    **dict.fromkeys(HAPPENINGS, 2),
}
"""What is told of every object, and into how many classes; -1 where it cannot be said."""

STILL_TOPICS = ("colour", "shape", "size", "level")
"""Topics that one picture shows."""

_SIZE_EDGES = (0.062, 0.078, 0.095, 0.115)
"""Radii, in sides, between the classes of "size"."""

NUM_PLANNED_FRAMES = 16
"""Length, in frames, of the clips that queries about time are judged on."""

_MAX_PLANS = 1000


@dataclass(frozen=True, eq=False)
class AskedScenes:
    """Clips of equal length and size, each with one or more queries."""

    frames: Tensor
    """(B, T, 3, H, W) uint8 RGB."""
    owners: Tensor
    """(B, T, H, W) uint8; 0 background, k + 1 the visible part of object k."""
    facts: Tensor
    """(B, N, K) int64: the class of every object in every topic of ``TOPICS``, -1 unknown or no such object."""
    masks: Tensor
    """(X, T, H, W) bool, the answer to each query."""
    queries: tuple[str, ...]
    """X queries, those of one scene together."""
    kinds: tuple[str, ...]
    """X kinds."""
    scene_of: Tensor
    """(X,) int64, the scene that each query asks about."""
    atoms: Tensor
    """(X, A) float32, 1 for every one of ``ATOMS`` that the query says, whatever its words."""


def asked_scenes(
    num_scenes: int,
    num_queries: int,
    num_frames: int,
    size: int,
    generator: torch.Generator,
    kinds: Sequence[str],
) -> AskedScenes:
    """Draw scenes and ask up to ``num_queries`` different things about each.

    Parameters
    ----------
    num_scenes, num_queries
        B, and the most queries per scene. The first is of the kind that the scene was planned for; the others are of
        whatever kind succeeds.
    num_frames, size
        T, and H = W in pixels. Queries speak of clips of ``NUM_PLANNED_FRAMES``; where T is smaller, one frame is drawn
        from each of T equal parts, as the language side samples a video.
    generator
        Decides everything; its device is where clips are drawn.
    kinds
        To choose from, evenly; a kind given twice comes twice as often. Kinds that need time are left out on one frame.
    """
    kinds = [kind for kind in kinds if num_frames > 1 or kind not in KINDS_IN_TIME]
    rng = Random(_seed_from(generator))
    planned = num_frames if num_frames == 1 else max(num_frames, NUM_PLANNED_FRAMES)
    asked = [_ask(rng, planned, num_queries, kinds) for _ in range(num_scenes)]
    shown = [_thinned(scene, _sampled(rng, planned, num_frames)) for scene, _ in asked]
    frames, owners = render(shown, size, generator)
    rows = [(number, *query) for number, (_, queries) in enumerate(asked) for query in queries]
    masks = [torch.isin(owners[row[0]], torch.tensor([i + 1 for i in row[3]], device=owners.device)) for row in rows]
    return AskedScenes(
        frames,
        owners,
        _facts([scene for scene, _ in asked]),
        torch.stack(masks),
        tuple(row[1] for row in rows),
        tuple(row[2] for row in rows),
        torch.tensor([row[0] for row in rows]),
        torch.tensor([_atoms(row[4]) for row in rows]),
    )


def _ask(
    rng: Random, num_frames: int, num_queries: int, kinds: Sequence[str]
) -> tuple[Scene, list[tuple[str, str, tuple[int, ...], Phrase]]]:
    for _ in range(_MAX_PLANS):
        kind = rng.choice(kinds)
        scene = plan_scene(rng, num_frames, kind)
        first = propose(rng, scene, kind)
        if first is not None:
            break
    else:
        raise ValueError(f"Scenes of {num_frames} frames must be able to show one of {tuple(kinds)}; give more frames.")
    found = [(kind, *first)]
    for _ in range(2 * num_queries):
        if len(found) == num_queries:
            break
        other = rng.choice(kinds)
        if other == "absent" and any(name == "absent" for name, *_ in found):
            continue  # it nearly always succeeds, where others fail, and would be a third of all queries
        proposal = propose(rng, scene, other)
        if proposal is not None and all(proposal[0] != phrase for _, phrase, _ in found):
            found.append((other, *proposal))
    shapes = frozenset(item.shape for item in scene.objects)
    return scene, [
        (say(rng, phrase, num_meant=len(meant), shapes_present=shapes), name, meant, phrase)
        for name, phrase, meant in found
    ]


def _sampled(rng: Random, num_planned: int, num_frames: int) -> list[int]:
    edges = [round(part * num_planned / num_frames) for part in range(num_frames + 1)]
    return [rng.randrange(first, last) for first, last in pairwise(edges)]


def _thinned(scene: Scene, frames: list[int]) -> Scene:
    """Keep some frames of a scene."""
    if len(frames) == len(scene.camera_T2):
        return scene
    objects = tuple(_thinned_object(item, frames) for item in scene.objects)
    return replace(scene, objects=objects, camera_T2=scene.camera_T2[frames])


def _thinned_object(item: SceneObject, frames: list[int]) -> SceneObject:
    motion = item.motion
    kept = replace(
        item,
        motion=replace(
            motion,
            centre_T2=motion.centre_T2[frames],
            growth_T=motion.growth_T[frames],
            separation_T=motion.separation_T[frames],
            visible_T=motion.visible_T[frames],
            opacity_T=None if motion.opacity_T is None else motion.opacity_T[frames],
        ),
        centre_T2=item.centre_T2[frames],
        shown_T=item.shown_T[frames],
    )
    kept.__dict__["angle_T"] = item.angle_T[frames]  # a cached property; worked out again it would turn evenly
    return kept


def _atoms(phrase: Phrase) -> list[float]:
    said = {*_said(phrase), *((phrase.relation,) if phrase.relation else ()), *(("plural",) if phrase.plural else ())}
    other = phrase.other
    while other is not None:
        said |= {f"other {atom}" for atom in _said(other)}
        other = other.other
    return [float(atom in said) for atom in ATOMS]


def _said(phrase: Phrase) -> tuple[str, ...]:
    return (phrase.noun, *phrase.facts, *((phrase.superlative,) if phrase.superlative else ()))


def _facts(scenes: Sequence[Scene]) -> Tensor:
    most = max(len(scene.objects) for scene in scenes)
    facts_BNK = torch.full((len(scenes), most, len(TOPICS)), -1, dtype=torch.int64)
    for number, scene in enumerate(scenes):
        rows = [_facts_of(item) for item in scene.objects]
        facts_BNK[number, : len(rows)] = torch.tensor(rows)
    return facts_BNK


def _facts_of(item: SceneObject) -> list[int]:
    shapes = (*GEOMETRIC_SHAPES, "cell")
    motion = item.motion
    return [
        list(COLOURS).index(item.colour) if item.colour else len(COLOURS),
        shapes.index(item.shape) if item.shape in shapes else len(shapes),
        int(np.searchsorted(_SIZE_EDGES, float(item.radius_T.mean()))),
        3 if item.level is None else int(item.level > 0.42) + int(item.level > 0.7),
        _course(item),
        0 if motion.length <= STILL_LENGTH else 1 + int(motion.length >= FAST_LENGTH),
        _change(item),
        _presence(item),
        *(-1 if (truth := is_fact(item, fact)) is None else int(truth) for fact in HAPPENINGS),
    ]


def _course(item: SceneObject) -> int:
    """0 left, 1 right, 2 up, 3 down, 4 still, 5 anything else, 6 spins."""
    if is_fact(item, "move:spin"):
        return 6
    if item.motion.length <= STILL_LENGTH:
        return 4
    down, right = item.motion.displacement
    if max(abs(down), abs(right)) < 0.1 or min(abs(down), abs(right)) * 2 > max(abs(down), abs(right)):
        return 5
    return (1 if right > 0 else 0) if abs(right) > abs(down) else (3 if down > 0 else 2)


def _change(item: SceneObject) -> int:
    """0 none, 1 grows, 2 shrinks, 3 divides, 4 fades, 5 blinks."""
    if item.motion.divides:
        return 3
    if is_fact(item, "change:blink"):
        return 5
    if item.motion.opacity_T is not None:
        return 4 if is_fact(item, "change:fade") else 0
    growth = item.motion.growth
    return 1 if growth > 1.3 else 2 if growth < 0.77 else 0


def _presence(item: SceneObject) -> int:
    """0 there all the time, 1 missing at the start, 2 missing at the end, 3 missing in between."""
    there_T = item.shown_T * item.motion.visible_T > 0.05
    return 1 if not there_T[0] else 2 if not there_T[-1] else 0 if there_T.all() else 3


def _seed_from(source: torch.Generator) -> int:
    return int(torch.randint(1 << 62, (), generator=source, device=source.device))
