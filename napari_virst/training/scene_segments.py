"""Cut-outs along real borders: regions of the bundled pictures with their own texture, found once per process."""

# N cut-outs, P side of a canvas, S side of a small mask

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from skimage.measure import regionprops
from skimage.segmentation import felzenszwalb
from torch import Tensor
from torch.nn import functional

from napari_virst.training.scene_textures import picture_bank

CANVAS_PX = 96
"""Side of every cut-out's canvas."""

_FIELD_PX = 48
_MARGIN = 1.22
_MAX_SHORT_SIDE_PX = 240
_MIN_AREA_PX, _MAX_AREA_SHARE = 110, 0.35
_MIN_SOLIDITY = 0.55
_PER_PICTURE = 14


class _Region(Protocol):
    """What we read of a region of ``skimage.measure.regionprops``."""

    label: int
    bbox: tuple[int, int, int, int]
    area: float
    solidity: float


@lru_cache(maxsize=1)
def picture_segments() -> Tensor:
    """Regions of even colour in the bundled pictures; about a second at the first call.

    Returns
    -------
    Tensor
        (N, 4, P, P) float32 on the CPU: colours 0…255, and the distance to the outline, negative inside, in
        half-sides of the canvas. N is 0 where no picture is at hand.
    """
    found: list[Tensor] = []
    for picture in picture_bank():
        if min(picture.shape[1:]) <= _MAX_SHORT_SIDE_PX:
            found += _segments_of(picture)
    return torch.stack(found) if found else torch.zeros(0, 4, CANVAS_PX, CANVAS_PX)


def _segments_of(picture: Tensor) -> list[Tensor]:
    small = functional.avg_pool2d(picture[None].float(), 2)[0].permute(1, 2, 0).numpy().astype(np.uint8)
    labels = felzenszwalb(small, scale=110, sigma=0.6, min_size=_MIN_AREA_PX) + 1
    regions = [region for region in regionprops(labels) if _is_thing(region, labels.shape)]
    largest = sorted(regions, key=lambda region: -region.area)[:_PER_PICTURE]
    return [_cut_out(picture, labels == region.label, region.bbox) for region in largest]


def _is_thing(region: _Region, shape: tuple[int, int]) -> bool:
    top, left, bottom, right = region.bbox
    inside = top > 0 and left > 0 and bottom < shape[0] and right < shape[1]
    slender = max(bottom - top, right - left) > 4 * min(bottom - top, right - left)
    large = region.area > _MAX_AREA_SHARE * shape[0] * shape[1]
    return inside and not slender and not large and region.solidity > _MIN_SOLIDITY


def _cut_out(picture: Tensor, mask: np.ndarray, box: tuple[int, int, int, int]) -> Tensor:
    top, left, bottom, right = box
    side = max(bottom - top, right - left) * _MARGIN
    centre = (top + bottom) / 2, (left + right) / 2
    height, width = mask.shape
    matrix = torch.tensor(
        [[[side / width, 0, 2 * centre[1] / width - 1], [0, side / height, 2 * centre[0] / height - 1]]]
    )
    grid = functional.affine_grid(matrix, [1, 4, CANVAS_PX, CANVAS_PX], align_corners=False)
    layers = (picture.float(), torch.from_numpy(mask)[None].float())
    seen = [functional.grid_sample(layer[None], grid, padding_mode="border", align_corners=False) for layer in layers]
    canvas = torch.cat(seen, 1)[0]
    small = functional.interpolate(canvas[None, 3:], size=(_FIELD_PX, _FIELD_PX), mode="area")[0, 0]
    field = functional.avg_pool2d(_distance(small > 0.5)[None, None], 3, 1, 1, count_include_pad=False)
    size = (CANVAS_PX, CANVAS_PX)
    canvas[3] = functional.interpolate(field, size=size, mode="bilinear", align_corners=True)[0, 0]
    return canvas


def _distance(mask_SS: Tensor) -> Tensor:
    """Signed distance to the outline of a mask, in half-sides of the canvas."""
    axis = torch.linspace(-1, 1, len(mask_SS))
    points = torch.cartesian_prod(axis, axis)
    mask = mask_SS.float()[None, None]
    border = functional.max_pool2d(mask, 3, 1, 1) + functional.max_pool2d(-mask, 3, 1, 1) > 0
    border_points = points[border.flatten()]
    if not len(border_points):
        return torch.ones_like(mask_SS, dtype=torch.float32)
    # Border pixels lie on both sides of the outline, so the nearest of them is half a pixel beyond it or before it.
    away = torch.cdist(points, border_points).amin(1).view(mask_SS.shape) + 1 / len(mask_SS)
    return torch.where(mask_SS, -away, away)
