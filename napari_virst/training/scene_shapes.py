"""Drawing by signed distance: soft geometric shapes and cells, blended into windows of many pictures at once."""

# B scenes, M objects of all scenes, T frames, C colours, H W rows and columns, h w those of a window, K table columns

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_virst.training.scene_animals import ANIMAL_EXTENT, animal_distance
from napari_virst.training.scene_textures import grain_atlas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

SHAPES = ("circle", "square", "triangle", "ring", "star", "bar", "cell", "animal")

# Half-extents and distances that give every shape the area pi, so that "size" means area whatever the shape.
_SQUARE_HALF = math.sqrt(math.pi) / 2
_TRIANGLE_INRADIUS = 0.7777
_RING_MIDDLE, _RING_HALF = 0.926, 0.269
_STAR_TIP, _STAR_NOTCH = 1.541, 0.6936
_BAR_LENGTH, _BAR_WIDTH = 1.585, 0.495
_LOBE_BLEND = 0.3

EXTENT = {
    "circle": 1.0,
    "square": 1.253,
    "triangle": 1.5554,
    "ring": 1.195,
    "star": 1.541,
    "bar": 1.661,
    "cell": 1.15,
    "animal": ANIMAL_EXTENT,
}
"""Distance from the centre to the farthest point of each shape, in units of its radius (the radius of equal area)."""

_WINDOW_STEP_PX = 8


@dataclass(frozen=True)
class Drawables:
    """Every object of a batch of scenes, ready to be drawn; lengths in pixels, angles in radians."""

    scene_M: Tensor
    """(M,) int64, index of the scene."""
    layer_M: Tensor
    """(M,) int64, place in the z-order of its scene; 0 lies lowest."""
    shape_M: Tensor
    """(M,) int64, index into ``SHAPES``."""
    centre_MT2: Tensor
    """(M, T, 2) float32, (y, x)."""
    radius_MT: Tensor
    """(M, T) float32, radius of the disc of equal area."""
    angle_MT: Tensor
    """(M, T) float32."""
    separation_MT: Tensor
    """(M, T) float32, half the distance of the two lobes of a dividing cell, in radii."""
    visible_MT: Tensor
    """(M, T) float32, opacity; 0 while the object does not exist."""
    bend_MT: Tensor
    """(M, T) float32, how an animal bends, radians."""
    look_MK: Tensor
    """(M, len(LOOK)) float32, see ``LOOK``."""

    def rows(self, index: Tensor) -> Drawables:
        """Pick objects by their index, (K,) int64."""
        return Drawables(**{name: value[index] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> Drawables:
        """Move everything to a device."""
        return Drawables(**{name: value.to(device) for name, value in vars(self).items()})


LOOK = (
    "red",
    "green",
    "blue",  # fill, 0...255
    "edge_softness",  # pixels
    "aspect",  # width over height, area kept
    "wobble",  # irregularity of the outline, in radii
    "phase",  # of stripes, wobble and grain
    "stripes",  # relative strength of stripes, and how many in one radius
    "stripe_rate",
    "checks",  # 1 crosses the stripes
    "grain",  # relative strength of a natural texture
    "shade",  # relative darkening from top to bottom
    "dome",  # relative darkening from the middle to the border
    "rim_strength",  # opacity, width (pixels), place (pixels outside the border) and brightness of a contour line
    "rim_width",
    "rim_offset",
    "rim_level",
    "tail",  # of animals: length, 0…1, and 1 with ears
    "ears",
)
"""Names of the columns of ``Drawables.look_MK``."""


def signed_distance(shape: str, u: Tensor, v: Tensor, separation: Tensor | float = 0.0) -> Tensor:
    """Distance to the outline of a shape of area pi around the origin, negative inside.

    Parameters
    ----------
    shape
        One of ``SHAPES``.
    u, v
        Coordinates to the right and downwards, float32, any equal shape, in radii.
    separation
        Half the distance of the two lobes of a cell, in radii; broadcastable to `u`.
    """
    if shape == "circle":
        return torch.hypot(u, v) - 1
    if shape == "square":
        return torch.maximum(u.abs(), v.abs()) - _SQUARE_HALF
    if shape == "triangle":
        return torch.maximum(v, u.abs() * (math.sqrt(3) / 2) - v / 2) - _TRIANGLE_INRADIUS
    if shape == "ring":
        return (torch.hypot(u, v) - _RING_MIDDLE).abs() - _RING_HALF
    if shape == "star":
        return _star_distance(u, v)
    if shape == "bar":
        return torch.maximum(u.abs() - _BAR_LENGTH, v.abs() - _BAR_WIDTH)
    if shape == "animal":
        return animal_distance(u, v, 0.0, 1.0, 1.0)
    return _cell_distance(u, v, separation)


def _star_distance(u: Tensor, v: Tensor) -> Tensor:
    sector = 2 * math.pi / 5
    along, across = _STAR_NOTCH * math.cos(sector / 2) - _STAR_TIP, _STAR_NOTCH * math.sin(sector / 2)
    length = math.hypot(along, across)
    radius = torch.hypot(u, v)
    angle = (torch.remainder(torch.atan2(u, -v) + sector / 2, sector) - sector / 2).abs()
    return ((radius * angle.cos() - _STAR_TIP) * across - radius * angle.sin() * along) / length


def _cell_distance(u: Tensor, v: Tensor, separation: Tensor | float) -> Tensor:
    separation = torch.as_tensor(separation, dtype=u.dtype, device=u.device)
    lobe = 1 - 0.24 * separation.clamp(max=1) - _LOBE_BLEND / 4 * (1 - separation.clamp(max=1))
    left, right = torch.hypot(u + separation, v), torch.hypot(u - separation, v)
    blend = (1 - (left - right).abs() / _LOBE_BLEND).clamp(min=0)
    return torch.minimum(left, right) - blend * blend * (_LOBE_BLEND / 4) - lobe


def draw(objects: Drawables, frames_BTCHW: Tensor, owner_BTHW: Tensor) -> None:
    """Blend objects into pictures, lowest layer first, and write who owns each pixel; both in place.

    Parameters
    ----------
    objects
        What to draw.
    frames_BTCHW
        (B, T, 3, H, W) float32, 0…255, H = W.
    owner_BTHW
        (B, T, H, W) uint8; pixels of layer k become k + 1.
    """
    size = frames_BTCHW.shape[-1]
    patches: list[tuple[int, int, tuple[Tensor, ...]]] = []
    for group, window in _groups_of_equal_window(objects, size):
        patch = _render(group, window, size)
        for row, (layer, scene) in enumerate(zip(group.layer_M.tolist(), group.scene_M.tolist(), strict=True)):
            patches.append((layer, scene, tuple(part[row] for part in patch)))
    for layer, scene, (corner_T2, colour_TChw, alpha_Thw, inside_Thw) in sorted(patches, key=lambda patch: patch[0]):
        window = alpha_Thw.shape[-1]
        for frame, (top, left) in enumerate(corner_T2.tolist()):
            under = frames_BTCHW[scene, frame, :, top : top + window, left : left + window]
            under.lerp_(colour_TChw[frame], alpha_Thw[frame])
            owner_BTHW[scene, frame, top : top + window, left : left + window].masked_fill_(
                inside_Thw[frame], layer + 1
            )


def _groups_of_equal_window(objects: Drawables, size: int) -> Iterator[tuple[Drawables, int]]:
    look = dict(zip(LOOK, objects.look_MK.unbind(1), strict=True))
    extent = torch.tensor([EXTENT[name] for name in SHAPES], device=objects.shape_M.device)[objects.shape_M]
    stretch = torch.maximum(look["aspect"], 1 / look["aspect"]).sqrt()
    reach = objects.radius_MT * (extent * stretch)[:, None] * 1.06 + objects.radius_MT * objects.separation_MT
    halo = 2 + look["edge_softness"] + (look["rim_offset"] + look["rim_width"]) * (look["rim_strength"] > 0)
    needed = 2 * (reach.amax(1) + halo) + 1
    windows = (needed / _WINDOW_STEP_PX).ceil().long().mul(_WINDOW_STEP_PX)
    for window in windows.unique().tolist():
        yield objects.rows((windows == window).nonzero()[:, 0]), min(window, size)


class _Patch(NamedTuple):
    corner: Tensor
    """(M, T, 2) int64, top and left."""
    colour: Tensor
    """(M, T, 3, h, w) float32, 0…255."""
    alpha: Tensor
    """(M, T, h, w) float32, 0…1, contour line included."""
    inside: Tensor
    """(M, T, h, w) bool, within the outline."""


def _render(objects: Drawables, window: int, size: int) -> _Patch:
    corner_MT2 = (objects.centre_MT2 - window / 2).round().clamp(0, size - window)
    offset_MT2 = corner_MT2 - objects.centre_MT2
    steps = torch.arange(window, device=corner_MT2.device, dtype=torch.float32)
    y, x = (offset_MT2[..., 0, None] + steps)[..., None], (offset_MT2[..., 1, None] + steps)[..., None, :]
    scale = (1 / objects.radius_MT)[..., None, None]
    cos, sin = objects.angle_MT.cos()[..., None, None] * scale, objects.angle_MT.sin()[..., None, None] * scale
    u, v = x * cos + y * sin, y * cos - x * sin
    look = {name: column[:, None, None, None] for name, column in zip(LOOK, objects.look_MK.unbind(1), strict=True)}
    distance = _distances_px(objects, u, v, look)
    opacity = objects.visible_MT[..., None, None]
    alpha = (0.5 - distance / look["edge_softness"]).clamp_(0, 1)
    inside = (alpha > 0.5) & (opacity > 0)
    alpha.mul_(opacity)
    colour, alpha = _colours(objects, u, v, distance, alpha, look)
    return _Patch(corner_MT2.long(), colour, alpha, inside)


def _distances_px(objects: Drawables, u: Tensor, v: Tensor, look: dict[str, Tensor]) -> Tensor:
    distance = torch.empty_like(u)
    for number in objects.shape_M.unique().tolist():
        rows = (objects.shape_M == number).nonzero()[:, 0]
        across, down = u[rows], v[rows]
        if SHAPES[number] == "animal":
            bend, tail, ears = objects.bend_MT[rows][..., None, None], look["tail"][rows], look["ears"][rows]
            distance[rows] = animal_distance(across, down, bend, tail, ears)
            continue
        if SHAPES[number] != "cell":
            distance[rows] = signed_distance(SHAPES[number], across, down)
            continue
        stretch = look["aspect"][rows].sqrt()
        across, down = across / stretch, down * stretch
        shape = signed_distance("cell", across, down, objects.separation_MT[rows][..., None, None])
        bumps = (3 * across + look["phase"][rows]).sin() * (3 * down - 2 * look["phase"][rows]).cos()
        distance[rows] = (shape + look["wobble"][rows] * bumps) * torch.minimum(stretch, 1 / stretch)
    return distance.mul_(objects.radius_MT[..., None, None])


def _colours(
    objects: Drawables, u: Tensor, v: Tensor, distance: Tensor, alpha: Tensor, look: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    brightness = 1 + look["shade"] * v.clamp(-1, 1)
    striped = (objects.look_MK[:, LOOK.index("stripes")] > 0).nonzero()[:, 0]
    if len(striped):
        rate, phase = look["stripe_rate"][striped], look["phase"][striped]
        across = torch.where(look["checks"][striped] > 0, (v[striped] * rate).sin(), 1.0)
        brightness[striped] += look["stripes"][striped] * ((u[striped] * rate + phase).sin() * across)
    grainy = (objects.look_MK[:, LOOK.index("grain")] > 0).nonzero()[:, 0]
    if len(grainy):
        brightness[grainy] += look["grain"][grainy] * _grain(u[grainy], v[grainy], look["phase"][grainy])
    domed = (objects.look_MK[:, LOOK.index("dome")] > 0).nonzero()[:, 0]
    if len(domed):
        depth = (-distance[domed] / (0.8 * objects.radius_MT[domed][..., None, None])).clamp(0, 1)
        brightness[domed] *= 1 - look["dome"][domed] * (1 - depth)
    colour = brightness[:, :, None] * objects.look_MK[:, None, :3, None, None]
    rimmed = (objects.look_MK[:, LOOK.index("rim_strength")] > 0).nonzero()[:, 0]
    if len(rimmed):
        away = (distance[rimmed] - look["rim_offset"][rimmed]).abs() / look["rim_width"][rimmed]
        rim = (1.2 - away).clamp(0, 1) * look["rim_strength"][rimmed] * objects.visible_MT[rimmed][..., None, None]
        fill = alpha[rimmed]
        both = rim + fill * (1 - rim)
        share = (rim / both.clamp(min=1e-6))[:, :, None]
        level = look["rim_level"][rimmed][..., None]
        colour[rimmed] = colour[rimmed] * (1 - share) + level * share
        alpha[rimmed] = both
    return colour, alpha


def _grain(u: Tensor, v: Tensor, phase: Tensor) -> Tensor:
    atlas = grain_atlas(u.device)
    side = atlas.shape[-1]
    picture = (phase * 97).long() % atlas.shape[0]
    row, column = ((v + phase * 31) * 22).long() % side, ((u + phase * 53) * 22).long() % side
    return atlas.flatten()[(picture * side + row) * side + column]
