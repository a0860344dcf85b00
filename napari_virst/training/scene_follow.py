"""Clips of one object to follow: cut-outs that move, bend and hide each other, seen by a window that goes along."""

# B scenes, M objects, T frames, H W rows and columns, G side of a coarse grid, P side of a canvas, C colours

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from napari_virst.training.scene_cutouts import (
    FLUORESCENCE,
    NATURAL,
    chance,
    cut_outs,
    natural_textures,
    normal,
)
from napari_virst.training.scene_render import add_noise, soften
from napari_virst.training.scene_textures import smooth_noise

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_OTHERS = 4
_COARSE = 15
_REACH = 1.12
_MIN_TARGET_PX = 40
_GRAY = 127.0
_CALM_SHARE, _BARS_SHARE, _COARSE_SHARE = 0.35, 0.2, 0.28
_COARSEST_RATIO = 0.17
_FRAMED_SHARE = 0.55
"""How many objects have the size that a window 1.7 times their box gives them; the others are of any size."""


@dataclass(frozen=True)
class _Course:
    """How objects lie on each frame; lengths in sides of the picture, angles in radians."""

    centre_MT2: Tensor
    """(M, T, 2) as (x, y), 0…1 inside the picture."""
    half_MT: Tensor
    """(M, T) half-side of the canvas."""
    angle_MT: Tensor
    shear_MT: Tensor
    aspect_M: Tensor
    wave_MT: Tensor
    """(M, T) phase of the elastic waves."""
    bend_MT2: Tensor
    """(M, T, 2) angles of two limbs."""


@dataclass(frozen=True)
class _Cast:
    """Which objects play in which scene."""

    scene_M: Tensor
    layer_M: Tensor
    """(M,) int64, place in the z-order of the scene."""
    is_target_M: Tensor


def draw_clips(num_scenes: int, num_frames: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw clips whose target covers at least 40 pixels (at 128 × 128) of frame 0.

    Returns
    -------
    frames_BTCHW : Tensor
        (B, T, 3, H, W) uint8 RGB.
    masks_BTHW : Tensor
        (B, T, H, W) bool.
    """
    frames, masks = _draw_once(num_scenes, num_frames, size, generator)
    while True:
        hidden = (masks[:, 0].sum((1, 2)) < _MIN_TARGET_PX * (size / 128) ** 2).nonzero()[:, 0]
        if not len(hidden):
            return frames, masks
        frames[hidden], masks[hidden] = _draw_once(len(hidden), num_frames, size, generator)


def _draw_once(num: int, num_frames: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    device = generator.device
    weights = torch.tensor([0.19, 0.21, 0.6], device=device)
    styles_B = torch.multinomial(weights, num, replacement=True, generator=generator)
    calm_B = chance(generator, num) < _CALM_SHARE
    cast = _choose_cast(styles_B, generator)
    course, window_BT3 = _plan_courses(cast, styles_B, calm_B, num_frames, generator)
    canvas_M4PP = _canvases(cast, styles_B, generator)
    frames = _background(styles_B, calm_B, window_BT3, size, generator)
    masks = torch.zeros(num, num_frames, size, size, dtype=torch.bool, device=device)
    softness_M = (0.8 + 1.4 * chance(generator, num))[cast.scene_M]
    elastic_M5 = _elastic_waves(cast, calm_B, generator)
    patches: list[tuple[int, int, bool, Tensor, Tensor, Tensor]] = []
    for rows, window in _groups_of_equal_window(course, size):
        part = _Course(**{name: value[rows] for name, value in vars(course).items()})
        corner, colour, alpha = _render(canvas_M4PP[rows], part, elastic_M5[rows], softness_M[rows], window, size)
        for number, row in enumerate(rows.tolist()):
            place = int(cast.layer_M[row]), int(cast.scene_M[row]), bool(cast.is_target_M[row])
            patches.append((*place, corner[number], colour[number], alpha[number]))
    for _, scene, is_target, corner_T2, colour_TChw, alpha_Thw in sorted(patches, key=lambda patch: patch[0]):
        _paste(frames[scene], masks[scene], is_target, corner_T2, colour_TChw, alpha_Thw)
    _photograph(frames, styles_B, calm_B, generator)
    _coarsen(frames, masks, generator)
    _add_bars(frames, masks, window_BT3, generator)
    return frames.clamp_(0, 255).byte(), masks


def _choose_cast(styles_B: Tensor, generator: torch.Generator) -> _Cast:
    num = len(styles_B)
    most = torch.where(styles_B == NATURAL, 4, _MAX_OTHERS + 1)
    others_B = (chance(generator, num) * most).long() + (styles_B != NATURAL)
    others_B = others_B.clamp(max=_MAX_OTHERS)
    plays = torch.arange(_MAX_OTHERS + 1, device=styles_B.device)[None] <= others_B[:, None]
    scene_M, role_M = plays.nonzero().unbind(1)
    order = chance(generator, num, _MAX_OTHERS + 1)
    order[:, 0] += 0.25
    easy = chance(generator, num) < 0.3
    order[easy, 0] = 2.0
    layer = order.argsort(1).argsort(1)
    return _Cast(scene_M, layer[scene_M, role_M], role_M == 0)


def _plan_courses(
    cast: _Cast, styles_B: Tensor, calm_B: Tensor, num_frames: int, generator: torch.Generator
) -> tuple[_Course, Tensor]:
    scene_M, is_target_M = cast.scene_M, cast.is_target_M
    num, calm_M = len(scene_M), calm_B[scene_M]
    framed = chance(generator, len(styles_B)) < _FRAMED_SHARE
    size_B = 0.2 * (0.85 / 0.2) ** chance(generator, len(styles_B))
    size_B = torch.where(framed, 0.42 + 0.38 * chance(generator, len(styles_B)), size_B)
    similar = (styles_B[scene_M] != NATURAL) | (chance(generator, num) < 0.3)
    free = 0.12 * (0.7 / 0.12) ** chance(generator, num)
    size_M = torch.where(similar, size_B[scene_M] * (0.2 * normal(generator, num)).exp(), free)
    size_M = torch.where(is_target_M, size_B[scene_M], size_M)
    pace = torch.tensor([0.008, 0.03, 0.07], device=styles_B.device)
    pace_B = pace[
        torch.multinomial(torch.tensor([0.35, 0.45, 0.2], device=pace.device), len(styles_B), True, generator=generator)
    ]
    pace_B = torch.where(calm_B, 0.3 * pace_B, pace_B) * (0.5 + size_B)
    pace_M = pace_B[scene_M] * torch.where(is_target_M, 1.0, 0.3 + 1.2 * chance(generator, num))
    start_M2 = _places(cast, size_B, size_M, generator)
    speed_MT2 = _drifting(normal(generator, num, 2), num_frames, generator, calm_M) * pace_M[:, None, None]
    leaves = is_target_M & ~calm_M & (chance(generator, num) < 0.08)
    away = torch.where(chance(generator, num, 2) < 0.5, -1.0, 1.0) * (0.1 + 0.25 * chance(generator, num, 2))
    speed_MT2 = torch.where(leaves[:, None, None], away[:, None].expand_as(speed_MT2), speed_MT2)
    path_MT2 = start_M2[:, None] + _sums(speed_MT2)
    window_BT3 = _plan_windows(path_MT2[is_target_M], calm_B, leaves[is_target_M], num_frames, generator)
    shift_MT2, zoom_MT = window_BT3[scene_M][..., :2], window_BT3[scene_M][..., 2]
    quiet = torch.where(calm_M, 0.25, 1.0)[:, None]
    turn_MT = _sums(_drifting(normal(generator, num, 1), num_frames, generator, calm_M)[..., 0] * 0.12 * quiet)
    grow_MT = _sums((0.05 * normal(generator, num, 1) * quiet).expand(num, num_frames))
    shear_MT = 0.1 * normal(generator, num, 1) + _sums(0.03 * normal(generator, num, num_frames) * quiet)
    waves_MT = _sums((0.6 * normal(generator, num, 1) * quiet).expand(num, num_frames))
    phase, rate = 2 * math.pi * chance(generator, num, 1, 2), (0.9 * chance(generator, num, 1, 2)) * quiet[..., None]
    time = torch.arange(num_frames, device=scene_M.device)[None, :, None]
    course = _Course(
        centre_MT2=(path_MT2 - shift_MT2 - 0.5) * zoom_MT[..., None] + 0.5,
        half_MT=(size_M / 2 / 0.8)[:, None] * grow_MT.exp() * zoom_MT,
        angle_MT=2 * math.pi * chance(generator, num, 1) + turn_MT,
        shear_MT=shear_MT,
        aspect_M=(0.12 * normal(generator, num)).exp(),
        wave_MT=waves_MT,
        bend_MT2=0.7 * (phase + rate * time).sin() * (chance(generator, num, 1, 1) < 0.6),
    )
    return course, window_BT3


def _places(cast: _Cast, size_B: Tensor, size_M: Tensor, generator: torch.Generator) -> Tensor:
    """Start points (M, 2): targets near the middle, others mostly beside them."""
    tries = 5
    scene_M = cast.scene_M
    target_B2 = 0.5 + 0.1 * normal(generator, len(size_B), 2)
    spots = -0.05 + 1.1 * chance(generator, len(scene_M), tries, 2)
    away = (spots - target_B2[scene_M][:, None]).norm(dim=-1)
    clear = away > (0.42 * (size_M + size_B[scene_M]))[:, None]
    clear |= chance(generator, len(scene_M), tries) < 0.12
    first = torch.where(clear.any(1), clear.float().argmax(1), away.argmax(1))
    chosen = spots.gather(1, first[:, None, None].expand(-1, 1, 2))[:, 0]
    return torch.where(cast.is_target_M[:, None], target_B2[scene_M], chosen)


def _drifting(first_M2: Tensor, num_frames: int, generator: torch.Generator, calm_M: Tensor) -> Tensor:
    """Velocities (M, T, 2) that forget their start slowly and change by chance."""
    speeds = [first_M2]
    change = torch.where(calm_M, 0.1, 0.35)[:, None]
    for _ in range(num_frames - 1):
        speeds.append(0.85 * speeds[-1] + change * normal(generator, *first_M2.shape) * (speeds[-1].abs() + 0.3))
    return torch.stack(speeds, 1)


def _sums(steps_MT: Tensor) -> Tensor:
    """Sum over frames along dimension 1; 0 on the first frame."""
    return torch.cat([torch.zeros_like(steps_MT[:, :1]), steps_MT[:, :-1].cumsum(1)], 1)


def _plan_windows(
    target_BT2: Tensor, calm_B: Tensor, leaves_B: Tensor, num_frames: int, generator: torch.Generator
) -> Tensor:
    """Shift (x, y) and zoom of the window, (B, T, 3): it goes along with the target, not quite steadily."""
    num = len(target_BT2)
    follow = torch.where(chance(generator, num, 1, 1) < 0.6, 0.5 + 0.5 * chance(generator, num, 1, 1), 0.0)
    follow = torch.where(leaves_B[:, None, None], 0.0, follow)
    shake = (
        torch.tensor([0.0, 0.012, 0.03], device=target_BT2.device)[
            torch.randint(3, (num,), generator=generator, device=target_BT2.device)
        ][:, None, None]
        * torch.where(calm_B, 0.5, 1.0)[:, None, None]
    )
    shift = follow * (target_BT2 - target_BT2[:, :1]) + shake * normal(generator, num, num_frames, 2)
    zoom = (1.2 * shake * normal(generator, num, num_frames, 1)).exp()
    return torch.cat([shift, zoom], -1)


def _canvases(cast: _Cast, styles_B: Tensor, generator: torch.Generator) -> Tensor:
    """Colours and distance fields of all objects, (M, 4, P, P); some others look like the target."""
    styles_M = styles_B[cast.scene_M]
    canvas = cut_outs(styles_M, generator)
    targets = cast.is_target_M.nonzero()[:, 0]
    target_M = targets[cast.scene_M]
    alike = ~cast.is_target_M & (styles_M == NATURAL) & (chance(generator, len(styles_M)) < 0.35)
    same_shape = alike & (chance(generator, len(styles_M)) < 0.5)
    canvas[alike, :3] = canvas[target_M[alike], :3].roll(17, dims=3)
    canvas[same_shape] = canvas[target_M[same_shape]]
    return canvas


def _elastic_waves(cast: _Cast, calm_B: Tensor, generator: torch.Generator) -> Tensor:
    """(M, 5): strength in half-sides of the canvas, and the phases of four waves."""
    strength = 0.05 * normal(generator, len(cast.scene_M), 1).abs() * torch.where(calm_B, 0.6, 1.0)[cast.scene_M, None]
    return torch.cat([strength, 2 * math.pi * chance(generator, len(cast.scene_M), 4)], 1)


def _groups_of_equal_window(course: _Course, size: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of objects and the side of the window that holds each of them, in steps of an eighth of the picture."""
    stretch = torch.maximum(course.aspect_M, 1 / course.aspect_M) * (1 + course.shear_MT.abs().amax(1))
    reach = course.half_MT.amax(1) * stretch * _REACH
    windows = (16 * reach).ceil().long().clamp(1, 8) * size // 8
    for window in windows.unique().tolist():
        yield (windows == window).nonzero()[:, 0], window


def _render(
    canvas_M4PP: Tensor, course: _Course, elastic_M5: Tensor, softness_M: Tensor, window: int, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return corner (M, T, 2) int64 as (top, left), colour (M, T, 3, h, w) and alpha (M, T, h, w) float32."""
    num, num_frames = course.half_MT.shape
    corner_MT2 = (course.centre_MT2.flip(-1) * size - window / 2).round().clamp(0, size - window)
    grid = _local_grid(course, corner_MT2, elastic_M5, window, size)
    seen = functional.grid_sample(canvas_M4PP, grid, padding_mode="border", align_corners=True)
    seen = seen.view(num, 4, num_frames, window, window)
    outside = (grid.abs().amax(-1).view(num, num_frames, window, window) - 1).clamp_(min=0)
    distance = (seen[:, 3] + outside) * (course.half_MT * size)[..., None, None]
    alpha = (0.5 - distance / softness_M[:, None, None, None]).clamp_(0, 1)
    return corner_MT2.long(), seen[:, :3].transpose(1, 2), alpha


def _local_grid(course: _Course, corner_MT2: Tensor, elastic_M5: Tensor, window: int, size: int) -> Tensor:
    """Where in its canvas each pixel of each window looks, (M, T * h, w, 2) as (x, y), -1…1 inside the canvas."""
    axis = torch.linspace(0.5, window - 0.5, _COARSE, device=corner_MT2.device)
    y = ((corner_MT2[..., 0, None] + axis) / size - course.centre_MT2[..., 1, None])[..., None]
    x = ((corner_MT2[..., 1, None] + axis) / size - course.centre_MT2[..., 0, None])[..., None, :]
    scale = (1 / course.half_MT)[..., None, None]
    cos, sin = course.angle_MT.cos()[..., None, None] * scale, course.angle_MT.sin()[..., None, None] * scale
    stretch = course.aspect_M[:, None, None, None]
    u, v = (x * cos + y * sin) * stretch, (y * cos - x * sin) / stretch
    u = u - course.shear_MT[..., None, None] * v
    u, v = _bent(u, v, course.bend_MT2[..., 0], 0.28)
    u, v = _bent(u, v, course.bend_MT2[..., 1], -0.28)
    wave = course.wave_MT[..., None, None]
    amplitude, first, second, third, fourth = elastic_M5[:, :, None, None, None].unbind(1)
    du = (3.1 * v + wave + first).sin() + 0.5 * (5.3 * u - wave + second).sin()
    dv = (2.9 * u - wave + third).sin() + 0.5 * (5.9 * v + wave + fourth).sin()
    local = torch.stack([u + amplitude * du, v + amplitude * dv], 2).flatten(0, 1)
    local = local.contiguous(memory_format=torch.channels_last)
    fine = functional.interpolate(local, size=(window, window), mode="bilinear", align_corners=True)
    return fine.permute(0, 2, 3, 1).reshape(len(course.half_MT), -1, window, 2)


def _bent(u: Tensor, v: Tensor, angle_MT: Tensor, pivot: float) -> tuple[Tensor, Tensor]:
    """Turn what lies beyond a pivot on the u axis about that pivot, softly."""
    share = ((u - pivot) * math.copysign(5.0, pivot)).sigmoid() * angle_MT[..., None, None]
    cos, sin = share.cos(), share.sin()
    return pivot + (u - pivot) * cos - v * sin, (u - pivot) * sin + v * cos


def _paste(
    frames_TCHW: Tensor, mask_THW: Tensor, is_target: bool, corner_T2: Tensor, colour_TChw: Tensor, alpha_Thw: Tensor
) -> None:
    """Blend one object into its scene, and keep the target's mask; both in place."""
    window = alpha_Thw.shape[-1]
    inside_Thw = alpha_Thw > 0.5
    for frame, (top, left) in enumerate(corner_T2.tolist()):
        frames_TCHW[frame, :, top : top + window, left : left + window].lerp_(colour_TChw[frame], alpha_Thw[frame])
        mask_THW[frame, top : top + window, left : left + window].masked_fill_(inside_Thw[frame], is_target)


def _background(styles_B: Tensor, calm_B: Tensor, window_BT3: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Pictures for natural scenes, dark or gray fields for cells, moved by the window; (B, T, 3, H, W) float32."""
    num, num_frames = window_BT3.shape[:2]
    side = size * 3 // 2
    canvas = torch.empty(num, 3, side, side, device=generator.device)
    natural = (styles_B == NATURAL).nonzero()[:, 0]
    if len(natural):
        canvas[natural] = natural_textures(len(natural), side, generator)
    cells = (styles_B != NATURAL).nonzero()[:, 0]
    if len(cells):
        base = torch.where(
            styles_B[cells] == FLUORESCENCE,
            4 + 34 * chance(generator, len(cells)),
            128 + 14 * normal(generator, len(cells)),
        )
        clouds = smooth_noise(len(cells), 1, 3, side, generator) * 13 * chance(generator, len(cells), 1, 1, 1)
        grain = smooth_noise(len(cells), 1, 64, side, generator) * 8 * chance(generator, len(cells), 1, 1, 1)
        canvas[cells] = (base[:, None, None, None] + clouds + grain).clamp(0, 255).expand(-1, 3, -1, -1)
    moves = torch.where(calm_B | (chance(generator, num) < 0.4), 0.2, 1.0)[:, None]
    pan = (
        _sums((0.012 * normal(generator, num, 1, 2) * moves[..., None]).expand(num, num_frames, 2))
        + window_BT3[..., :2]
    )
    turn = 0.05 * normal(generator, num, 1) + _sums((0.012 * normal(generator, num, 1) * moves).expand(num, num_frames))
    zoom = (0.85 + 0.25 * chance(generator, num, 1)) / 1.5 / window_BT3[..., 2]
    axis = (torch.arange(size, device=generator.device) + 0.5) * (2 / size) - 1
    cos, sin = (turn.cos() * zoom)[..., None, None], (turn.sin() * zoom)[..., None, None]
    across = axis * cos - axis[:, None] * sin + pan[..., 0, None, None] / 0.75
    down = axis * sin + axis[:, None] * cos + pan[..., 1, None, None] / 0.75
    grid = torch.stack([across, down], -1).view(num, num_frames * size, size, 2)
    moved = functional.grid_sample(canvas, grid, padding_mode="reflection", align_corners=False)
    return moved.view(num, 3, num_frames, size, size).transpose(1, 2).contiguous()


def _photograph(frames: Tensor, styles_B: Tensor, calm_B: Tensor, generator: torch.Generator) -> None:
    """Tint, flicker, blur, lose resolution and add noise, each for some scenes; in place."""
    num, num_frames = frames.shape[:2]
    gray = ((styles_B == NATURAL) & (chance(generator, num) < 0.2)).nonzero()[:, 0]
    if len(gray):
        frames[gray] = frames[gray].mean(2, keepdim=True).expand(-1, -1, 3, -1, -1)
    tinted = (styles_B != NATURAL) & (chance(generator, num) < 0.35)
    tint = torch.where(tinted[:, None], (0.5 * normal(generator, num, 3)).exp().clamp(max=1.1), 1.0)[
        :, None, :, None, None
    ]
    strength = torch.tensor([0.0, 0.03, 0.1], device=frames.device)
    flicker = strength[
        torch.multinomial(torch.tensor([0.5, 0.35, 0.15], device=frames.device), num, True, generator=generator)
    ]
    flicker = torch.where(calm_B, 0.5 * flicker, flicker)[:, None]
    contrast = (0.2 * normal(generator, num, 1) + flicker * normal(generator, num, num_frames)).exp()[
        ..., None, None, None
    ]
    light = (11 * normal(generator, num, 1) + 50 * flicker * normal(generator, num, num_frames))[..., None, None, None]
    middle = torch.where(styles_B == FLUORESCENCE, 20.0, 128.0)[:, None, None, None, None]
    frames.mul_(tint).sub_(middle).mul_(contrast).add_(middle + light)
    inverted = (chance(generator, num) < 0.06).nonzero()[:, 0]
    frames[inverted] = 255 - frames[inverted]
    for number in (chance(generator, 2 * num) < 0.22).nonzero()[:, 0].tolist():
        soften(frames[number % num])
    noise = torch.tensor([0.0, 3.0, 9.0], device=frames.device)
    picks = torch.randint(3, (num,), generator=generator, device=frames.device)
    add_noise(frames, noise[picks] * chance(generator, num), generator)


def _coarsen(frames: Tensor, masks: Tensor, generator: torch.Generator) -> None:
    """Show some scenes as a window shows an object of few pixels: blurred, with a coarse outline; both in place.

    The smallest window of 32 pixels is enlarged five times at 160.
    """
    num, size = len(frames), frames.shape[-1]
    sides = (size * _COARSEST_RATIO ** chance(generator, num)).round().long()
    for number in (chance(generator, num) < _COARSE_SHARE).nonzero()[:, 0].tolist():
        low = (int(sides[number]),) * 2
        small = functional.interpolate(frames[number], size=low, mode="area")
        add_noise(small[None], 5 * chance(generator, 1), generator)
        frames[number] = functional.interpolate(small, size=(size, size), mode="bilinear")
        outline = functional.interpolate(masks[number, :, None].float(), size=low, mode="area") >= 0.5
        masks[number] = functional.interpolate(outline.float(), size=(size, size), mode="bilinear")[:, 0] >= 0.5


def _add_bars(frames: Tensor, masks: Tensor, window_BT3: Tensor, generator: torch.Generator) -> None:
    """Gray out what lies beyond the picture's border, which some windows reach over; both in place."""
    num = len(frames)
    size = frames.shape[-1]
    barred = chance(generator, num) < _BARS_SHARE
    near = 0.04 + 0.2 * chance(generator, num, 4)
    near = torch.where(barred[:, None] & (chance(generator, num, 4) < 0.45), near, -5.0)
    axis = ((torch.arange(size, device=frames.device) + 0.5) / size - 0.5)[None, None]
    zoom = window_BT3[..., 2, None]
    across, down = (axis / zoom + window_BT3[..., number, None] + 0.5 for number in (0, 1))
    column = (across < near[:, 0, None, None]) | (across > 1 - near[:, 1, None, None])
    row = (down < near[:, 2, None, None]) | (down > 1 - near[:, 3, None, None])
    for number in barred.nonzero()[:, 0].tolist():
        beyond = row[number][:, :, None] | column[number][:, None]
        frames[number].masked_fill_(beyond[:, None], _GRAY)
        masks[number] &= ~beyond
