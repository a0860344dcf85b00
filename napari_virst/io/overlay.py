"""An animation of a video with its mask on top, for a quick look in any browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MASK_RGB = (255, 92, 16)
CORRECTED_RGB = (64, 224, 96)
_OPACITY = 0.45


def blend(image: NDArray[np.uint8], mask: NDArray[np.bool_], rgb: tuple[int, int, int] = MASK_RGB) -> NDArray[np.uint8]:
    """Tint the mask's pixels and draw its outline; image (H, W, 3) uint8, mask (H, W) bool."""
    out = image.astype(np.float32)
    out[mask] = out[mask] * (1 - _OPACITY) + np.asarray(rgb, np.float32) * _OPACITY
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    out[mask & ~inner] = rgb
    return out.astype(np.uint8)


def write_overlay(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    masks: Iterable[NDArray[np.bool_]],
    *,
    corrected_frames: Collection[int] = (),
    frame_ms: int = 80,
    max_side_px: int = 640,
) -> None:
    """Write an animated GIF; corrected frames are tinted green, others orange.

    Parameters
    ----------
    path
        Where to write.
    frames, masks
        T images (H, W, 3) uint8 RGB and T masks (H, W) bool.
    corrected_frames
        Frames that a person vouches for.
    frame_ms
        How long a frame is shown, in milliseconds.
    max_side_px
        Larger pictures are made smaller.
    """

    def pictures() -> Iterator[Image.Image]:
        for number, (image, mask) in enumerate(zip(frames, masks, strict=True)):
            rgb = CORRECTED_RGB if number in corrected_frames else MASK_RGB
            picture = Image.fromarray(blend(image, np.asarray(mask), rgb))
            picture.thumbnail((max_side_px, max_side_px))
            yield picture

    first, *rest = pictures()
    first.save(path, save_all=True, append_images=rest, duration=frame_ms, loop=0)
