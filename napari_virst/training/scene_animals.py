"""Animals in an arena seen from above: their silhouette, how it bends, and the floor they walk on."""

# M objects, T frames

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray
    from torch import Tensor

ANIMAL_EXTENT = 2.35
"""Distance from the middle of the body to the tip of the longest tail, in radii of the disc of equal area."""

_AREA_RADIUS = 1.098
"""Radius of the disc that has the area of the silhouette below; measured."""
_BODY_LENGTH, _BODY_WIDTH = 1.3, 0.72
_HEAD_AT, _HEAD_LENGTH, _HEAD_WIDTH = 1.42, 0.6, 0.44
_EAR_BACK, _EAR_SIDE, _EAR_RADIUS = 0.22, 0.4, 0.2
_TAIL_ROOT, _TAIL_LENGTH, _TAIL_WIDTH = 1.15, 1.3, 0.11


def _norm(u: Tensor, v: Tensor) -> Tensor:
    """Length; half the time that torch.hypot takes."""
    return (u * u).addcmul_(v, v).sqrt_()


def animal_distance(u: Tensor, v: Tensor, bend: Tensor | float, tail: Tensor | float, ears: Tensor | float) -> Tensor:
    """Distance to the outline of an animal that faces +u, about in radii, negative inside.

    Parameters
    ----------
    u, v
        Coordinates along and across the body, float32, any equal shape, in radii.
    bend
        How far the tail and, the other way, the head are turned, in radians; broadcastable to `u`.
    tail
        Length of the tail, 0…1; broadcastable to `u`.
    ears
        1 with ears, 0 without; broadcastable to `u`.
    """
    u, v = u * _AREA_RADIUS, v * _AREA_RADIUS
    bend, tail, ears = (torch.as_tensor(value, dtype=u.dtype, device=u.device) for value in (bend, tail, ears))
    turn = 0.7 * bend
    body = (_norm(u / _BODY_LENGTH, v / _BODY_WIDTH) - 1) * _BODY_WIDTH
    along, across = u - 0.9, v
    along, across = along * turn.cos() + across * turn.sin(), across * turn.cos() - along * turn.sin()
    along = along - (_HEAD_AT - 0.9)
    width = _HEAD_WIDTH * (1 - 0.35 * (along / _HEAD_LENGTH).clamp(0, 1))
    head = (_norm(along / _HEAD_LENGTH, across / width) - 1) * width
    pinna = _norm(along + _EAR_BACK, across.abs() - _EAR_SIDE) - _EAR_RADIUS * ears + 9 * (ears <= 0)
    length = (_TAIL_LENGTH * tail).clamp(min=1e-3)
    share = ((-u - _TAIL_ROOT) / length).clamp(0, 1)
    curve = bend * _TAIL_LENGTH * share * share
    thick = _TAIL_WIDTH * (1 - 0.55 * share)
    whip = _norm((v - curve) * 0.8, -u - _TAIL_ROOT - share * length) - thick + 9 * (tail <= 0)
    return torch.minimum(torch.minimum(body, head), torch.minimum(pinna, whip)) / _AREA_RADIUS


def headings(centre_T2: NDArray[np.float64], resting: float, *, constant: bool) -> NDArray[np.float64]:
    """Where an animal faces: along its way, and as it last did while it rests.

    Parameters
    ----------
    centre_T2
        (T, 2) float64, (y, x) in sides of the picture.
    resting
        Angle of an animal that never moves, radians.
    constant
        Whether it keeps facing the way it first went.

    Returns
    -------
    NDArray
        (T,) float64, radians, 0 to the right, growing clockwise as seen.
    """
    step_T2 = np.gradient(centre_T2, axis=0) if len(centre_T2) > 1 else np.zeros((1, 2))
    moving = np.hypot(*step_T2.T) > 0.003
    if not moving.any():
        return np.full(len(centre_T2), resting)
    angle_T = np.arctan2(step_T2[:, 0], step_T2[:, 1])
    if constant:
        return np.full(len(centre_T2), angle_T[moving][0])
    frames = np.arange(len(angle_T))
    last = np.maximum.accumulate(np.where(moving, frames, -1))
    angle_T = np.unwrap(angle_T[np.where(last < 0, frames[moving][0], last)])
    padded = np.pad(angle_T, 1, mode="edge")
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3)


def plan_animal_look(rng: Random) -> dict[str, float]:
    """Draw tail, ears and gait, and the little shading that a silhouette has."""
    parts = rng.choices(((1.0, 1.0), (1.0, 0.0), (0.0, 1.0)), (0.5, 0.3, 0.2))[0]
    return {
        "tail": parts[0] * rng.uniform(0.6, 1.0),
        "ears": parts[1],
        "wag": rng.uniform(0.15, 0.5),
        "wag_turns": rng.uniform(0.7, 2.5),
        "edge_softness": rng.uniform(1.0, 2.2),
        "phase": rng.uniform(0, 6.3),
        "grain": rng.choice((0.0, 0.0, 0.0, rng.uniform(0.02, 0.1))),
        "dome": rng.choice((0.0, 0.0, rng.uniform(0.05, 0.25))),
    }


def bends(look: dict[str, float], num_frames: int) -> NDArray[np.float64]:
    """How an animal bends along the clip, (T,) float64 in radians; 0 for all that is no animal."""
    time_T = np.linspace(0, 1, num_frames)
    swing = np.sin(2 * math.pi * look.get("wag_turns", 0.0) * time_T + look.get("phase", 0.0))
    return np.asarray(look.get("wag", 0.0) * swing)


def plan_silhouettes(rng: Random, num: int, *, by_level: bool) -> tuple[list[tuple[float | None, float]], float]:
    """Draw how light animals and floor are.

    Returns
    -------
    animals : list of (float or None, float)
        Level for brightness words, None where these are not fair; and gray value, 0…255.
    floor : float
        Gray value, 0…255.
    """
    if by_level or rng.random() < 0.2:
        levels = [rng.choice((rng.uniform(0.85, 1.0), rng.uniform(0.1, 0.24))) for _ in range(num)]
        return [(level, 250 * level) for level in levels], rng.uniform(125, 145)
    if rng.random() < 0.6:
        tone, floor = rng.uniform(8, 55), rng.uniform(140, 235)
    else:
        tone, floor = rng.uniform(190, 245), rng.uniform(15, 90)
    return [(None, tone + rng.uniform(-7, 7)) for _ in range(num)], floor
