"""What is in a scene: objects with their looks and courses, a camera and a background, before any pixel is drawn."""

# N objects, T frames, K sample points

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_animals import headings
from napari_virst.training.scene_motion import clip_time
from napari_virst.training.scene_shapes import EXTENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_virst.training.scene_motion import Motion

RGB = tuple[float, float, float]

COLOURS: dict[str, RGB] = {
    "red": (222, 36, 36),
    "green": (44, 176, 56),
    "blue": (44, 76, 228),
    "yellow": (240, 224, 52),
    "orange": (246, 136, 24),
    "purple": (140, 50, 190),
    "cyan": (52, 216, 224),
    "pink": (250, 150, 196),
    "white": (246, 246, 246),
    "gray": (128, 128, 128),
}
"""Mean fill of each colour word, 0…255."""

GEOMETRIC_SHAPES = ("circle", "square", "triangle", "ring", "star", "bar")

HELD_OUT_COMBINATIONS = frozenset(
    {
        ("red", "star"),
        ("blue", "triangle"),
        ("yellow", "ring"),
        ("green", "square"),
        ("purple", "circle"),
        ("cyan", "bar"),
    }
)
"""(colour, shape) pairs that scenes for training neither show nor name."""

STYLES = ("geometric", "gray", "fluorescence", "phase", "arena")


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object and everything a query may say of it. Lengths in sides of the picture."""

    shape: str
    """A geometric shape, "cell" or "animal"."""
    colour: str | None
    """A word of ``COLOURS``; None where no colour word is fair."""
    level: float | None
    """Brightness among the objects of a scene without colours, 0…1; None where brightness words are not fair."""
    rgb: RGB
    """Fill, 0…255."""
    radius: float
    """Of the disc of equal area, before growth."""
    aspect: float
    """Width over height of a cell."""
    angle: float
    """At the first frame, radians."""
    spin: float
    """Turn along the whole clip, radians."""
    motion: Motion
    centre_T2: NDArray[np.float64]
    """(T, 2) float64, (y, x) in the picture, camera included."""
    shown_T: NDArray[np.float64]
    """(T,) float64, about how much of the object is inside the picture and not covered, 0…1."""
    look: dict[str, float]
    """The remaining columns of ``scene_shapes.LOOK``, lengths in pixels at 128 × 128; and how an animal wags."""

    @cached_property
    def radius_T(self) -> NDArray[np.float64]:
        """(T,) float64, radius of the disc of equal area."""
        return self.radius * self.motion.growth_T

    @cached_property
    def extent_T(self) -> NDArray[np.float64]:
        """(T,) float64, distance from the centre to the farthest point."""
        stretch = max(self.aspect, 1 / self.aspect) ** 0.5
        return self.radius_T * (EXTENT[self.shape] * stretch + self.motion.separation_T)

    @cached_property
    def angle_T(self) -> NDArray[np.float64]:
        """(T,) float64, radians; animals face the way they go."""
        turn_T = self.spin * clip_time(len(self.shown_T))
        if self.shape != "animal" or self.motion.length == 0:
            return self.angle + turn_T
        return headings(self.motion.centre_T2, self.angle, constant=self.motion.manner == "bump") + turn_T

    @property
    def is_cell(self) -> bool:
        """Whether the object belongs to a microscope scene."""
        return self.shape == "cell"

    @property
    def general_noun(self) -> str:
        """The key of ``scene_nouns.NOUNS`` that fits every object of its scene."""
        return self.shape if self.shape in ("cell", "animal") else "any"


@dataclass(frozen=True, eq=False)
class Scene:
    """One clip before drawing."""

    style: str
    """One of ``STYLES``."""
    objects: tuple[SceneObject, ...]
    """From the lowest to the highest in the z-order."""
    camera_T2: NDArray[np.float64]
    """(T, 2) float64, shift of everything, (y, x) in sides."""
    background: Background


@dataclass(frozen=True)
class Background:
    """Weights of the layers a background is mixed from; colours 0…255."""

    base: RGB
    gradient: tuple[float, float] = (0.0, 0.0)
    """Rise of brightness downwards and to the right."""
    clouds: float = 0.0
    """Strength of slow noise."""
    cloud_cells: int = 3
    picture: float = 0.0
    """Strength of a piece of a photograph."""
    stripes: float = 0.0
    stripe_period_px: float = 12.0
    """At 128 × 128."""


_POINTS_K2 = np.array(
    [(0.0, 0.0)]
    + [(0.45 * math.sin(a), 0.45 * math.cos(a)) for a in (0.3, 1.87, 3.44, 5.01)]
    + [(0.82 * math.sin(a), 0.82 * math.cos(a)) for a in np.arange(8) * math.pi / 4]
)


def shown_fractions(
    motions: Sequence[Motion], radii: Sequence[float], shapes: Sequence[str], camera_T2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much of each object can be seen, taking every object for a disc.

    Parameters
    ----------
    motions, radii, shapes
        One each per object, from the lowest to the highest in the z-order.
    camera_T2
        (T, 2) float64, shift of everything, (y, x) in sides.

    Returns
    -------
    NDArray
        (N, T) float64, 0…1.
    """
    centre_NT2 = np.stack([motion.centre_T2 for motion in motions]) + camera_T2
    visible_NT = np.stack([motion.visible_T for motion in motions])
    radius_NT = np.array(radii)[:, None] * np.stack([motion.growth_T for motion in motions])
    reach_NT = radius_NT * (1 + np.stack([motion.separation_T for motion in motions]))
    points_NTK2 = centre_NT2[:, :, None] + reach_NT[..., None, None] * _POINTS_K2
    seen_NTK = ((points_NTK2 > 0) & (points_NTK2 < 1)).all(-1) & visible_NT[..., None]
    hide_NT = reach_NT * np.array([min(1.25, EXTENT[shape]) for shape in shapes])[:, None]
    for upper in range(1, len(motions)):
        away = points_NTK2[:upper] - centre_NT2[upper, :, None]
        covered = (away**2).sum(-1) < (hide_NT[upper, :, None] ** 2)
        seen_NTK[:upper] &= ~(covered & visible_NT[upper, :, None])
    return seen_NTK.mean(-1)
