"""Scenes drawn by chance, so that a query of a wanted kind is likely to have one meaning in them."""

# T frames

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_looks import (
    plan_arena,
    plan_background,
    plan_common_look,
    plan_fills,
    plan_floor,
    plan_look,
)
from napari_virst.training.scene_motion import Motion, plan_division, plan_growth, plan_path
from napari_virst.training.scene_objects import (
    GEOMETRIC_SHAPES,
    HELD_OUT_COMBINATIONS,
    STYLES,
    Scene,
    SceneObject,
    shown_fractions,
)
from napari_virst.training.scene_shapes import EXTENT
from napari_virst.training.scene_staging import stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from numpy.typing import NDArray

    from napari_virst.training.scene_looks import Fill

_CALM_KINDS = frozenset({"position", "relation", "rank", "size"})


def plan_scene(
    rng: Random, num_frames: int, kind: str, *, allow_held_out: bool = False, style: str | None = None
) -> Scene:
    """Draw a scene in which a query of a kind is likely to have exactly one meaning, some of them with a little play.

    Parameters
    ----------
    rng, num_frames, kind, allow_held_out, style
        As for ``plan_plain_scene``.
    """
    return stage(rng, plan_plain_scene(rng, num_frames, kind, allow_held_out=allow_held_out, style=style), kind)


def plan_plain_scene(
    rng: Random, num_frames: int, kind: str, *, allow_held_out: bool = False, style: str | None = None
) -> Scene:
    """Draw a scene of objects that each go their own way.

    Parameters
    ----------
    rng
        Source of chance.
    num_frames
        T.
    kind
        One of ``scene_queries.KINDS``.
    allow_held_out
        Whether ``HELD_OUT_COMBINATIONS`` may be shown.
    style
        One of ``STYLES``; drawn by chance if None.
    """
    style = style or _choose_style(rng, kind)
    num_objects = rng.choices((2, 3, 4, 5, 6), (0.1, 0.28, 0.3, 0.2, 0.12))[0]
    if kind in ("relation", "rank", "speed", "reasoning", "time"):
        num_objects = min(5, max(3, num_objects))
    if style == "arena":
        num_objects = min(num_objects, 4)
    camera_T2 = _plan_camera(rng, num_frames)
    radii = _plan_radii(rng, num_objects, kind, style)
    manners = [_fitting(manner, num_frames) for manner in _plan_manners(rng, num_objects, kind, style)]
    floor = 0.0
    if style == "arena":
        fills, floor = plan_arena(rng, num_objects, by_level=kind == "brightness")
    else:
        fills = plan_fills(rng, num_objects, style, kind)
    shapes = _plan_shapes(rng, [fill[0] for fill in fills], style, kind, allow_held_out)
    if style == "arena":
        background = plan_floor(rng, floor)
    else:
        background = plan_background(rng, style, [fill[2] for fill in fills])
    motions = _plan_motions(rng, kind, radii, shapes, manners, num_frames)
    shown_NT = shown_fractions(motions, radii, shapes, camera_T2)
    common = plan_common_look(rng, style, background)
    objects = tuple(
        _make_object(rng, style, shape, fill, radius, motion, camera_T2, shown_T, common)
        for shape, fill, radius, motion, shown_T in zip(shapes, fills, radii, motions, shown_NT, strict=True)
    )
    return Scene(style, objects, camera_T2, background)


def _choose_style(rng: Random, kind: str) -> str:
    weights = {
        "brightness": (0.0, 0.27, 0.35, 0.26, 0.12),
        "colour": (0.88, 0.0, 0.12, 0.0, 0.0),
        "shape": (0.8, 0.08, 0.06, 0.06, 0.0),
        "colour_shape": (1.0, 0.0, 0.0, 0.0, 0.0),
        "division": (0.25, 0.05, 0.4, 0.3, 0.0),
        "change": (0.64, 0.06, 0.15, 0.15, 0.0),
    }.get(kind, (0.54, 0.06, 0.13, 0.13, 0.14))
    return rng.choices(STYLES, weights)[0]


def _plan_camera(rng: Random, num_frames: int) -> NDArray[np.float64]:
    if rng.random() < 0.5:
        return np.zeros((num_frames, 2))
    angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.005, 0.045)
    time = np.linspace(-0.5, 0.5, num_frames)[:, None]
    return time * np.array([math.sin(angle), math.cos(angle)]) * length


def _plan_radii(rng: Random, num: int, kind: str, style: str) -> list[float]:
    largest = 0.15 if num <= 4 else 0.125
    if style == "arena":
        largest = 0.095
    if kind == "rank":
        step = 1.32 if num <= 4 else 1.26
        radii = [0.05 * step**rank * rng.uniform(0.97, 1.03) for rank in range(num)]
        lift = rng.uniform(1, max(1.0, largest / radii[-1]))
        radii = [radius * lift for radius in radii]
        rng.shuffle(radii)
        return radii
    if kind == "size" or rng.random() < 0.4:
        share = rng.choice((0.25, 0.5, 0.75))
        return [
            rng.uniform(0.05, 0.064) if rng.random() < share else rng.uniform(min(0.105, 0.95 * largest), largest)
            for _ in range(num)
        ]
    return [0.05 * (largest / 0.05) ** rng.random() for _ in range(num)]


def _plan_manners(rng: Random, num: int, kind: str, style: str) -> list[str]:
    calm = "wander" if style in ("fluorescence", "phase") and rng.random() < 0.6 else "still"
    if kind in _CALM_KINDS:
        moving = 0.3
    elif kind in ("motion", "speed"):
        moving = rng.choice((0.5, 0.8, 0.9))
    else:
        moving = rng.choice((0.0, 0.4, 0.7))
    manners = []
    for _ in range(num):
        movers = ("straight", "diagonal", "curve", "turn", "leave", "enter")
        weights = (0.62, 0.08, 0.1, 0.1, 0.05, 0.05) if kind not in _CALM_KINDS else (0.9, 0.1, 0, 0, 0, 0)
        manners.append(rng.choices(movers, weights)[0] if rng.random() < moving else calm)
    if kind == "event":
        manners[rng.randrange(num)] = rng.choice(("leave", "enter", "still"))
    if kind == "motion" and rng.random() < 0.3:
        manners = [manner if manner != calm else "straight" for manner in manners]
        manners[rng.randrange(num)] = rng.choice((calm, "curve", "turn", "straight"))
    return manners


def _fitting(manner: str, num_frames: int) -> str:
    """Replace courses that so few frames cannot show."""
    if num_frames < 2:
        return "still"
    return "straight" if num_frames < 3 and manner in ("turn", "curve") else manner


def _plan_shapes(rng: Random, colours: Sequence[str | None], style: str, kind: str, allow_held_out: bool) -> list[str]:
    if style in ("fluorescence", "phase"):
        return ["cell"] * len(colours)
    if style == "arena":
        return ["animal"] * len(colours)
    pool_size = rng.choice({"colour": (1, 2, 2, 3), "shape": (3, 4, 5)}.get(kind, (2, 2, 3, 3, 4)))
    pool = rng.sample(GEOMETRIC_SHAPES, pool_size)
    if kind == "division" and "circle" not in pool:
        pool[0] = "circle"
    shapes = []
    for colour in colours:
        fair = [shape for shape in pool if allow_held_out or (colour, shape) not in HELD_OUT_COMBINATIONS]
        fair = fair or [shape for shape in GEOMETRIC_SHAPES if (colour, shape) not in HELD_OUT_COMBINATIONS]
        shapes.append(rng.choice(fair))
    return shapes


def _plan_motions(
    rng: Random, kind: str, radii: Sequence[float], shapes: Sequence[str], manners: Sequence[str], num_frames: int
) -> list[Motion]:
    chosen = rng.randrange(len(radii))
    if kind == "division":
        rounds = [index for index, shape in enumerate(shapes) if shape in ("circle", "cell")]
        chosen = rng.choice(rounds) if rounds else -1
    motions: list[Motion] = []
    for index, (radius, shape, manner) in enumerate(zip(radii, shapes, manners, strict=True)):
        change = "none"
        if kind == "change":
            change = (
                rng.choice(("grow", "shrink")) if index == chosen else rng.choice(("none", "none", "grow", "shrink"))
            )
        elif kind not in ("rank", "size", "division") and rng.random() < 0.06:
            change = rng.choice(("grow", "shrink"))
        divides = index == chosen if kind == "division" else shape == "cell" and rng.random() < 0.05 and kind != "rank"
        if num_frames < 2 or shape == "animal":
            change, divides = "none", False
        gated = kind == "event" and manner == "still" and (index == chosen or rng.random() < 0.15)
        motions.append(
            _best_motion(rng, kind, radius, shape, manner, num_frames, motions, radii, shapes, change, divides, gated)
        )
    return motions


def _best_motion(
    rng: Random,
    kind: str,
    radius: float,
    shape: str,
    manner: str,
    num_frames: int,
    others: Sequence[Motion],
    radii: Sequence[float],
    shapes: Sequence[str],
    change: str,
    divides: bool,
    gated: bool,
) -> Motion:
    growth_T = plan_growth(rng, num_frames, change)
    separation_T = plan_division(rng, num_frames) if divides else np.zeros(num_frames)
    visible_T = _gate(rng, num_frames) if gated else np.ones(num_frames, dtype=bool)
    reach = radius * (EXTENT[shape] + float(separation_T.max())) * float(growth_T.max())
    speed = rng.choice(("slow", "fast")) if kind in ("speed", "motion") else "any"
    speed = "slow" if kind in _CALM_KINDS else speed
    crowd = rng.random() < (0.05 if kind in _CALM_KINDS else 0.2)
    best: tuple[float, NDArray[np.float64], float] | None = None
    for _ in range(2 if crowd else 10):
        centre_T2, length = plan_path(rng, manner, reach, num_frames, speed=speed)
        room = 1.0
        for other, other_radius, other_shape in zip(others, radii, shapes, strict=False):
            gap = np.hypot(*(centre_T2 - other.centre_T2).T) / (reach + other_radius * EXTENT[other_shape] + 0.01)
            room = min(room, float(np.minimum(gap, 1).mean()) * 0.5 + 0.5 * min(1.0, float(gap[0]), float(gap[-1])))
        if best is None or room > best[0]:
            best = (room, centre_T2, length)
        if room >= 0.99:
            break
    assert best is not None
    return Motion(manner, best[1], best[2], growth_T, separation_T, visible_T)


def _gate(rng: Random, num_frames: int) -> NDArray[np.bool_]:
    moment = rng.uniform(0.3, 0.7)
    early = np.linspace(0, 1, num_frames) < moment
    return early if rng.random() < 0.5 else ~early


def _make_object(
    rng: Random,
    style: str,
    shape: str,
    fill: Fill,
    radius: float,
    motion: Motion,
    camera_T2: NDArray[np.float64],
    shown_T: NDArray[np.float64],
    common_look: dict[str, float],
) -> SceneObject:
    colour, level, rgb = fill
    aspect = 1.0
    if shape == "cell":
        aspect = rng.uniform(0.4, 0.55) if rng.random() < 0.3 and not motion.divides else rng.uniform(0.85, 1.0)
    turn = rng.uniform(-0.35, 0.35) if shape in ("square", "triangle", "star") else rng.uniform(-math.pi, math.pi)
    spin = rng.gauss(0, 0.5) if rng.random() < 0.4 else 0.0
    if shape == "bar":
        turn, spin = rng.choice((0, math.pi / 2)) + rng.uniform(-0.4, 0.4), spin * 0.4
    if shape == "animal":
        spin = 0.0
    centre_T2 = motion.centre_T2 + camera_T2
    look = common_look | plan_look(rng, style, radius)
    return SceneObject(shape, colour, level, rgb, radius, aspect, turn, spin, motion, centre_T2, shown_T, look)
