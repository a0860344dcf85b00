"""From planned scenes to pixels: backgrounds, objects, light, blur and noise for a whole batch at once."""

# B scenes, M objects, T frames, C colours, H W rows and columns, S side of a canvas larger than the picture, K columns

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_virst.training.scene_animals import bends
from napari_virst.training.scene_shapes import LOOK, SHAPES, Drawables, draw
from napari_virst.training.scene_textures import noise_bank, picture_crops, smooth_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.training.scene_objects import Scene, SceneObject

_LOOK_AT_128_PX = ("edge_softness", "rim_width", "rim_offset")
_DEFAULT_LOOK = {"aspect": 1.0, "rim_width": 1.0, "stripe_rate": 1.0, "edge_softness": 1.0}


def render(
    scenes: Sequence[Scene], size: int, generator: torch.Generator, *, clean: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw scenes of equal length.

    Parameters
    ----------
    scenes
        What to draw.
    size
        H = W in pixels.
    generator
        For everything random that is not planned; its device is where the work is done.
    clean
        Leave out noise, blur and changes of light.

    Returns
    -------
    frames_BTCHW : Tensor
        (B, T, 3, H, W) uint8 RGB.
    owner_BTHW : Tensor
        (B, T, H, W) uint8; 0 background, k + 1 the visible part of object k.
    """
    frames_BTCHW = _backgrounds(scenes, size, generator)
    num_scenes, num_frames = frames_BTCHW.shape[:2]
    owner_BTHW = torch.zeros(num_scenes, num_frames, size, size, dtype=torch.uint8, device=generator.device)
    draw(_drawables(scenes, size).to(generator.device), frames_BTCHW, owner_BTHW)
    if not clean:
        add_camera_effects(frames_BTCHW, generator)
    return frames_BTCHW.clamp_(0, 255).byte(), owner_BTHW


def _drawables(scenes: Sequence[Scene], size: int) -> Drawables:
    rows = [
        (number, layer, scene, item) for number, scene in enumerate(scenes) for layer, item in enumerate(scene.objects)
    ]
    items = [row[3] for row in rows]
    num_frames = len(scenes[0].camera_T2)
    camera_MT2 = np.stack([np.round(row[2].camera_T2 * size) for row in rows])
    centre_MT2 = np.stack([item.motion.centre_T2 for item in items]) * size + camera_MT2
    return Drawables(
        scene_M=torch.tensor([row[0] for row in rows]),
        layer_M=torch.tensor([row[1] for row in rows]),
        shape_M=torch.tensor([SHAPES.index(_drawn_shape(item)) for item in items]),
        centre_MT2=torch.from_numpy(centre_MT2).float(),
        radius_MT=torch.from_numpy(np.stack([item.radius_T for item in items]) * size).float(),
        angle_MT=torch.from_numpy(np.stack([item.angle_T for item in items])).float(),
        separation_MT=torch.from_numpy(np.stack([item.motion.separation_T for item in items])).float(),
        visible_MT=torch.from_numpy(np.stack([_opacity(item) for item in items])).float(),
        bend_MT=torch.from_numpy(np.stack([bends(item.look, num_frames) for item in items])).float(),
        look_MK=torch.tensor([_look_row(item, size) for item in items], dtype=torch.float32),
    )


def _opacity(item: SceneObject) -> NDArray[np.float64]:
    visible_T = item.motion.visible_T.astype(float)
    return visible_T if item.motion.opacity_T is None else visible_T * item.motion.opacity_T


def _drawn_shape(item: SceneObject) -> str:
    return "cell" if item.motion.divides else item.shape


def _look_row(item: SceneObject, size: int) -> list[float]:
    look = {**_DEFAULT_LOOK, **item.look, "aspect": item.aspect}
    look["red"], look["green"], look["blue"] = item.rgb
    for name in _LOOK_AT_128_PX:
        look[name] = look.get(name, 0.0) * size / 128
    return [look.get(name, 0.0) for name in LOOK]


def _backgrounds(scenes: Sequence[Scene], size: int, generator: torch.Generator) -> Tensor:
    """(B, T, 3, H, W) float32: windows of still canvases, moved by the camera in whole pixels."""
    shifts = [np.round(scene.camera_T2 * size).astype(int) for scene in scenes]
    margin = max(int(np.abs(shift).max()) for shift in shifts)
    canvas_BCSS = _canvases(scenes, size + 2 * margin, size, generator)
    frames = torch.empty(len(scenes), len(shifts[0]), 3, size, size, device=generator.device)
    for number, shift in enumerate(shifts):
        for frame, (down, right) in enumerate(shift.tolist()):
            top, left = margin - down, margin - right
            frames[number, frame] = canvas_BCSS[number, :, top : top + size, left : left + size]
    return frames


def _canvases(scenes: Sequence[Scene], side: int, size: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    canvas = torch.empty(len(scenes), 3, side, side, device=device)
    axis = torch.linspace(-1, 1, side, device=device)
    for number, scene in enumerate(scenes):
        plan = scene.background
        canvas[number] = torch.tensor(plan.base, device=device)[:, None, None]
        if any(plan.gradient):
            canvas[number] += plan.gradient[0] * axis[:, None] + plan.gradient[1] * axis
        if plan.clouds:
            channels = 3 if scene.style == "geometric" and plan.cloud_cells != 4 else 1
            canvas[number] += plan.clouds * smooth_noise(1, channels, plan.cloud_cells, side, generator)[0]
        if plan.stripes:
            canvas[number] += plan.stripes * _stripes(axis * side / 2, plan.stripe_period_px * size / 128, generator)
        if plan.picture:
            crop = _crops(1, side, generator)[0]
            canvas[number] += plan.picture * (crop - crop.mean((1, 2), keepdim=True))
    return canvas


def _stripes(axis_px: Tensor, period_px: float, generator: torch.Generator) -> Tensor:
    angle, phase = (torch.rand(2, generator=generator, device=generator.device) * 2 * math.pi).tolist()
    across = math.cos(angle) * axis_px[:, None] + math.sin(angle) * axis_px
    return (across * (2 * math.pi / period_px) + phase).sin()


def _crops(num: int, side: int, generator: torch.Generator) -> Tensor:
    seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
    crops = picture_crops(num, side, torch.Generator().manual_seed(seed), with_round_things=False)
    return crops.to(generator.device)


def add_camera_effects(frames_BTCHW: Tensor, generator: torch.Generator) -> None:
    """Change light from frame to frame, soften some scenes, add noise; (B, T, 3, H, W) float32, in place."""
    device = frames_BTCHW.device
    num_scenes, num_frames = frames_BTCHW.shape[:2]

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    flicker = chance(num_scenes, 1) ** 3 * 0.12
    time = torch.linspace(0, 1, num_frames, device=device)
    wave = torch.sin(2 * math.pi * (chance(num_scenes, 1) * 2 * time + chance(num_scenes, 1)))
    jitter = (chance(num_scenes, num_frames) - 0.5) * 0.5
    frames_BTCHW.mul_((1 + flicker * (wave + jitter))[..., None, None, None])
    for number in (chance(num_scenes) < 0.25).nonzero()[:, 0].tolist():
        soften(frames_BTCHW[number])
    strength = chance(num_scenes) ** 2 * 14 * (chance(num_scenes) < 0.75)
    add_noise(frames_BTCHW, strength, generator)


def soften(frames: Tensor) -> None:
    """Blur (..., H, W) float32 by the 3 × 3 binomial kernel, in place; the border pixels stay."""
    rows = 0.5 * frames[..., 1:-1, :] + 0.25 * (frames[..., :-2, :] + frames[..., 2:, :])
    frames[..., 1:-1, 1:-1] = 0.5 * rows[..., 1:-1] + 0.25 * (rows[..., :-2] + rows[..., 2:])


def add_noise(frames_BTCHW: Tensor, strength_B: Tensor, generator: torch.Generator) -> None:
    """Add normal noise of a given standard deviation to each scene, in place; every second scene gets gray noise."""
    bank = noise_bank(frames_BTCHW.device)
    num_scenes, num_frames, channels, height, width = frames_BTCHW.shape
    area = height * width
    starts = torch.randint(
        1 << 30, (num_scenes, num_frames, channels), generator=generator, device=bank.device
    ).tolist()
    for number, strength in enumerate(strength_B.tolist()):
        if strength <= 0.3:
            continue
        for frame in range(num_frames):
            for channel in range(channels):
                start = starts[number][frame][channel if number % 2 else 0] % max(1, len(bank) - area)
                piece = bank[start : start + area]
                if len(piece) < area:
                    piece = bank.repeat(-(-area // len(bank)))[:area]
                frames_BTCHW[number, frame, channel].add_(piece.view(height, width), alpha=strength)
