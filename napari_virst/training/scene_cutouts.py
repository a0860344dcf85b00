"""Cut-outs to follow: silhouettes as signed distance fields, and what they are filled with."""

# M cut-outs, S side of a field, P side of a canvas, K waves or faces or segments, C colours

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_virst.training.scene_segments import CANVAS_PX, picture_segments
from napari_virst.training.scene_textures import picture_crops, smooth_noise

if TYPE_CHECKING:
    from torch import Tensor

_FIELD_PX = 48
_SEGMENT_SHARE = 0.3

SILHOUETTES = ("blob", "ellipse", "polygon", "cloud", "limbs", "thin")
_NATURAL_WEIGHTS = (0.24, 0.14, 0.12, 0.12, 0.28, 0.1)
_CELL_WEIGHTS = (0.5, 0.38, 0.0, 0.08, 0.0, 0.04)

FLUORESCENCE, PHASE, NATURAL = 0, 1, 2
"""Styles of a clip."""


def chance(generator: torch.Generator, *shape: int) -> Tensor:
    """Uniform numbers from 0 to 1, float32, on the generator's device."""
    return torch.rand(*shape, generator=generator, device=generator.device)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers, float32, on the generator's device."""
    return torch.randn(*shape, generator=generator, device=generator.device)


def _local_axes(device: torch.device) -> tuple[Tensor, Tensor]:
    axis = torch.linspace(-1, 1, _FIELD_PX, device=device)
    return axis[:, None].expand(_FIELD_PX, _FIELD_PX), axis[None].expand(_FIELD_PX, _FIELD_PX)


def cut_outs(styles_M: Tensor, generator: torch.Generator) -> Tensor:
    """Make objects: silhouettes with fillings, and pieces cut from pictures along real borders.

    Parameters
    ----------
    styles_M
        (M,) int64, ``FLUORESCENCE``, ``PHASE`` or ``NATURAL``.
    generator
        Its device is where the work is done.

    Returns
    -------
    Tensor
        (M, 4, P, P) float32: colours 0…255, and the distance to the outline, negative inside, in half-sides of the
        canvas; every object stays within about 0.85 half-sides of the middle.
    """
    fields = silhouettes(styles_M, generator)
    canvas = torch.cat([fillings(styles_M, fields, generator), fields], 1)
    bank = picture_segments()
    real = ((styles_M == NATURAL) & (chance(generator, len(styles_M)) < _SEGMENT_SHARE)).nonzero()[:, 0]
    if len(real) and len(bank):
        picks = torch.randint(len(bank), (len(real),), generator=generator, device=generator.device)
        pieces = bank[picks.cpu()].to(generator.device)
        pieces[:, :3] = recolour(pieces[:, :3], generator)
        mirrored = chance(generator, len(real)) < 0.5
        canvas[real] = torch.where(mirrored[:, None, None, None], pieces.flip(3), pieces)
    return canvas


def silhouettes(styles_M: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the outlines of cut-outs.

    Parameters
    ----------
    styles_M
        (M,) int64, ``FLUORESCENCE``, ``PHASE`` or ``NATURAL``.
    generator
        Its device is where the work is done.

    Returns
    -------
    Tensor
        (M, 1, P, P) float32 distance to the outline, negative inside, in half-sides of the canvas; the silhouette stays
        within about 0.85 half-sides of the middle.
    """
    weights = torch.tensor([_CELL_WEIGHTS, _CELL_WEIGHTS, _NATURAL_WEIGHTS], device=generator.device)[styles_M]
    kinds_M = torch.multinomial(weights, 1, generator=generator)[:, 0]
    fields = torch.empty(len(styles_M), _FIELD_PX, _FIELD_PX, device=generator.device)
    draw = {
        "blob": _blobs,
        "ellipse": _ellipses,
        "polygon": _polygons,
        "cloud": _clouds,
        "limbs": _limbs,
        "thin": _thin,
    }
    for number, name in enumerate(SILHOUETTES):
        rows = (kinds_M == number).nonzero()[:, 0]
        if len(rows):
            fields[rows] = draw[name](len(rows), generator)
    size = (CANVAS_PX, CANVAS_PX)
    return functional.interpolate(fields[:, None], size=size, mode="bilinear", align_corners=True)


def _blobs(num: int, generator: torch.Generator, roughness: float = 0.3) -> Tensor:
    y, x = _local_axes(generator.device)
    angle, order = torch.atan2(y, x).flatten(), torch.arange(1, 7, device=generator.device)
    waves = torch.cat([(order[:, None] * angle).cos(), (order[:, None] * angle).sin()])
    weights = normal(generator, num, 12) * roughness / torch.cat([order, order])
    radius = (1 + weights @ waves).clamp(0.3, 1.6)
    radius = 0.82 * radius / radius.amax(1, keepdim=True)
    aspect = 0.45 + 0.55 * chance(generator, num, 1, 1)
    return (torch.hypot(x, y / aspect) - radius.view(num, _FIELD_PX, _FIELD_PX)) * (0.5 + 0.5 * aspect)


def _ellipses(num: int, generator: torch.Generator) -> Tensor:
    return _blobs(num, generator, roughness=0.02)


def _polygons(num: int, generator: torch.Generator) -> Tensor:
    y, x = _local_axes(generator.device)
    faces = 8
    angle = torch.linspace(0, 2 * math.pi, faces + 1, device=generator.device)[:faces] + 0.5 * normal(
        generator, num, faces
    )
    used = chance(generator, num, faces) < (0.4 + 0.6 * chance(generator, num, 1))
    away = 0.3 + 0.35 * chance(generator, num, faces) + 10.0 * ~used
    sides = torch.stack([angle.cos(), angle.sin()], -1) @ torch.stack([x.flatten(), y.flatten()]) - away[..., None]
    limit = torch.maximum(x.abs(), y.abs()).flatten() - 0.75
    return torch.maximum(sides.amax(1), limit).view(num, _FIELD_PX, _FIELD_PX)


def _clouds(num: int, generator: torch.Generator) -> Tensor:
    y, x = _local_axes(generator.device)
    noise = smooth_noise(num, 1, 5, _FIELD_PX, generator)[:, 0]
    return torch.maximum((torch.hypot(x, y) - 0.55 + 0.3 * noise) * 0.7, torch.hypot(x, y) - 0.85)


def _segments(start: Tensor, end: Tensor, width: Tensor) -> Tensor:
    """Distance to thick lines: start, end (M, K, 2) as (y, x), width (M, K) -> (M, S, S), the nearest line counts."""
    y, x = _local_axes(start.device)
    point = torch.stack([y, x], -1).view(1, 1, -1, 2)
    along = (end - start)[:, :, None]
    offset = point - start[:, :, None]
    share = ((offset * along).sum(-1) / along.square().sum(-1).clamp(min=1e-6)).clamp(0, 1)
    distance = (offset - share[..., None] * along).square().sum(-1).sqrt() - width[..., None]
    return distance.amin(1).view(-1, _FIELD_PX, _FIELD_PX)


def _limbs(num: int, generator: torch.Generator) -> Tensor:
    """A body with two to five jointed limbs, some of them ending in a head."""
    body = _blobs(num, generator, roughness=0.12)
    shrink = (0.42 + 0.25 * chance(generator, num)) / 0.82
    body = _scaled(body, shrink)
    limbs = 5
    angle = 2 * math.pi * chance(generator, num, limbs)
    root = 0.3 * torch.stack([angle.sin(), angle.cos()], -1)
    bend = angle + 0.5 * normal(generator, num, limbs)
    knee = root + (0.2 + 0.2 * chance(generator, num, limbs))[..., None] * torch.stack([bend.sin(), bend.cos()], -1)
    bend = bend + 0.6 * normal(generator, num, limbs)
    foot = knee + (0.15 + 0.25 * chance(generator, num, limbs))[..., None] * torch.stack([bend.sin(), bend.cos()], -1)
    knee, foot = knee.clamp(-0.85, 0.85), foot.clamp(-0.85, 0.85)
    used = (torch.arange(limbs, device=generator.device) < (2 + 4 * chance(generator, num, 1)).long()).float()
    width = (0.045 + 0.09 * chance(generator, num, limbs)) * used - 9 * (1 - used)
    head = (0.1 + 0.1 * chance(generator, num, 1)) * (chance(generator, num, 1) < 0.5) - 9.0 * (used[:, :1] == 0)
    legs = _segments(torch.cat([root, knee], 1), torch.cat([knee, foot], 1), torch.cat([width, 0.85 * width], 1))
    heads = _segments(foot[:, :1], foot[:, :1] + 1e-3, torch.maximum(head, width[:, :1]))
    return torch.minimum(torch.minimum(body, legs), heads)


def _scaled(field: Tensor, scale_M: Tensor) -> Tensor:
    """Shrink fields (M, S, S) about their middle by factors (M,)."""
    matrix = torch.zeros(len(field), 2, 3, device=field.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / scale_M
    grid = functional.affine_grid(matrix, [len(field), 1, _FIELD_PX, _FIELD_PX], align_corners=True)
    wide = functional.grid_sample(field[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
    return wide * scale_M[:, None, None]


def _thin(num: int, generator: torch.Generator) -> Tensor:
    """A winding line of even width."""
    joints = 4
    angle = 2 * math.pi * chance(generator, num, 1) + 0.6 * normal(generator, num, joints).cumsum(1)
    steps = (0.25 + 0.15 * chance(generator, num, joints))[..., None] * torch.stack([angle.sin(), angle.cos()], -1)
    places = torch.cat([torch.zeros(num, 1, 2, device=generator.device), steps.cumsum(1)], 1)
    places = (places - places.mean(1, keepdim=True)).clamp(-0.8, 0.8)
    width = (0.05 + 0.07 * chance(generator, num, 1)).expand(num, joints)
    return _segments(places[:, :-1], places[:, 1:], width)


def fillings(styles_M: Tensor, fields_M1PP: Tensor, generator: torch.Generator) -> Tensor:
    """Fill cut-outs with pieces of pictures, gratings or noise, or with what a microscope would show.

    Parameters
    ----------
    styles_M
        (M,) int64.
    fields_M1PP
        (M, 1, P, P) float32 from ``silhouettes``.
    generator
        Its device is where the work is done.

    Returns
    -------
    Tensor
        (M, 3, P, P) float32, 0…255.
    """
    canvas = torch.empty(len(styles_M), 3, CANVAS_PX, CANVAS_PX, device=generator.device)
    for style, fill in ((NATURAL, _natural), (FLUORESCENCE, _fluorescent), (PHASE, _phase)):
        rows = (styles_M == style).nonzero()[:, 0]
        if len(rows):
            canvas[rows] = fill(fields_M1PP[rows], generator)
    return canvas.clamp_(0, 255)


def natural_textures(num: int, side: int, generator: torch.Generator) -> Tensor:
    """Mostly pieces of pictures, else gratings and noise, in changed colours; (num, 3, side, side) float32."""
    seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
    textures = picture_crops(num, side, torch.Generator().manual_seed(seed)).to(generator.device)
    drawn = (chance(generator, num) < 0.2).nonzero()[:, 0]
    if len(drawn):
        textures[drawn] = _drawn_textures(len(drawn), side, generator)
    return recolour(textures, generator)


def _drawn_textures(num: int, side: int, generator: torch.Generator) -> Tensor:
    axis = torch.arange(side, device=generator.device, dtype=torch.float32)
    angle, rate = 2 * math.pi * chance(generator, num, 1, 1), 2 * math.pi / (4 + 26 * chance(generator, num, 1, 1))
    stripes = ((angle.cos() * axis[:, None] + angle.sin() * axis) * rate).sin()
    cells = 3 + int(chance(generator, 1) * 20)
    noise = smooth_noise(num, 1, cells, side, generator)[:, 0] * 0.7
    pattern = torch.where(chance(generator, num, 1, 1) < 0.5, stripes, noise).clamp(-1, 1)[:, None]
    low, high = 255 * chance(generator, num, 3, 1, 1), 255 * chance(generator, num, 3, 1, 1)
    return low + (high - low) * (0.5 + 0.5 * pattern)


def recolour(textures: Tensor, generator: torch.Generator) -> Tensor:
    """Change colours, contrast and brightness of (M, 3, H, W) float32, in place where it can."""
    num = len(textures)
    swapped = (chance(generator, num) < 0.3).nonzero()[:, 0]
    if len(swapped):
        textures[swapped] = textures[swapped][:, torch.randperm(3, generator=generator, device=generator.device)]
    gain = (0.5 + chance(generator, num, 1, 1, 1)) * (0.2 * normal(generator, num, 3, 1, 1)).exp()
    gain = gain * torch.where(chance(generator, num, 1, 1, 1) < 0.12, -1.0, 1.0)
    bias = 100 * (chance(generator, num, 1, 1, 1) - 0.5) + 20 * normal(generator, num, 3, 1, 1)
    return textures.mul_(gain).add_(128 + bias - 128 * gain).clamp_(0, 255)


def _natural(fields: Tensor, generator: torch.Generator) -> Tensor:
    canvas = natural_textures(len(fields), CANVAS_PX, generator)
    parted = (chance(generator, len(fields)) < 0.35).nonzero()[:, 0]
    if len(parted):
        part = smooth_noise(len(parted), 1, 3, CANVAS_PX, generator) > 0.2
        canvas[parted] = torch.where(part, natural_textures(len(parted), CANVAS_PX, generator), canvas[parted])
    shaded = (chance(generator, len(fields)) < 0.4).nonzero()[:, 0]
    if len(shaded):
        canvas[shaded] *= 1 - 0.45 * (1 + fields[shaded] / 0.12).clamp(0, 1)
    return canvas


def _fluorescent(fields: Tensor, generator: torch.Generator) -> Tensor:
    num = len(fields)
    depth = (-fields / (0.15 + 0.4 * chance(generator, num, 1, 1, 1))).clamp(0, 1)
    level = 70 + 160 * chance(generator, num, 1, 1, 1)
    grain = smooth_noise(num, 1, 4 + int(chance(generator, 1) * 12), CANVAS_PX, generator)
    return (level * (0.45 + 0.55 * depth) * (1 + 0.22 * grain)).expand(-1, 3, -1, -1)


def _phase(fields: Tensor, generator: torch.Generator) -> Tensor:
    num = len(fields)
    grain = smooth_noise(num, 1, 4 + int(chance(generator, 1) * 16), CANVAS_PX, generator)
    fill = 128 + 22 * normal(generator, num, 1, 1, 1) + (5 + 22 * chance(generator, num, 1, 1, 1)) * grain
    membrane = (1 - fields.abs() / (0.04 + 0.08 * chance(generator, num, 1, 1, 1))).clamp(0, 1)
    sign = torch.where(chance(generator, num, 1, 1, 1) < 0.6, 1.0, -1.0)
    return (fill + sign * 95 * chance(generator, num, 1, 1, 1) * membrane).expand(-1, 3, -1, -1)
