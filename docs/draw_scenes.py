"""Draws ``docs/images/scenes.png``: one scene and query of every kind, the answer outlined.

python docs/draw_scenes.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

from napari_virst.training.scenes import KINDS, follow_scenes, language_scenes

if TYPE_CHECKING:
    from torch import Tensor

SIDE, NUM_PLANNED, SHOWN, SEED = 112, 16, (1, 6, 11, 15), 7003
MARGIN, CAPTION, COLUMNS = 6, 16, 2


def strip(frames: Tensor, masks: Tensor, text: str) -> Image.Image:
    """Frames (T, 3, H, W) uint8 side by side under their query, masks (T, H, W) bool outlined."""
    width = len(frames) * SIDE
    canvas = Image.new("RGB", (width, SIDE + CAPTION), "white")
    ImageDraw.Draw(canvas).text((1, 2), text[: width // 6], fill="black")
    for place, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        picture = frame.permute(1, 2, 0).numpy().copy()
        picture[find_boundaries(mask.numpy(), mode="inner")] = (0, 255, 80)
        canvas.paste(Image.fromarray(picture), (place * SIDE, CAPTION))
    return canvas


def main() -> None:
    """Every kind, then two clips that are followed by a mask."""
    strips = []
    for number, kind in enumerate(KINDS):
        scene = language_scenes(1, NUM_PLANNED, SIDE, seed=SEED + 10 * number, kinds=(kind,))
        shown = list(SHOWN)
        strips.append(strip(scene.frames[0, shown], scene.masks[0, shown], f"{kind}: {scene.queries[0]}"))
    clips = follow_scenes(3, len(SHOWN), SIDE, seed=SEED)
    strips += [strip(f, m, "followed by its mask") for f, m in zip(clips.frames, clips.masks, strict=True)]
    width, height = strips[0].size
    rows = -(-len(strips) // COLUMNS)
    grid = Image.new("RGB", (COLUMNS * (width + MARGIN), rows * (height + MARGIN)), "white")
    for number, piece in enumerate(strips):
        row, column = divmod(number, COLUMNS)
        grid.paste(piece, (column * (width + MARGIN), row * (height + MARGIN)))
    target = Path(__file__).parent / "images" / "scenes.png"
    grid.quantize(192, dither=Image.Dither.NONE).save(target, optimize=True)
    assert np.asarray(grid).any()


if __name__ == "__main__":
    main()
