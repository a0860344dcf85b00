"""Textures without files of our own: scikit-image's bundled pictures, gratings, smooth noise, and ready-made grain."""

# B pictures, C channels, H W rows and columns, G H and W of a coarse grid

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage import data as skimage_data
from skimage.io import imread
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

PICTURES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
"""Files that come with scikit-image's wheel; one that a future version drops is passed over."""

_ROUND = frozenset({"cell.png", "coffee.png", "coins.png", "moon.png", "retina.jpg"})
_ZOOMS_PX = (220, 360, 560)
_GRAIN_SEED = 20_000
_NOISE_LENGTH = 1 << 21


@lru_cache(maxsize=2)
def picture_bank(*, with_round_things: bool = True) -> tuple[Tensor, ...]:
    """Every bundled picture at up to three zooms.

    Parameters
    ----------
    with_round_things
        Whether to take pictures that show discs as well; behind "the white circle" they would make a query untrue.

    Returns
    -------
    tuple of Tensor
        (3, H, W) uint8 RGB each, 0…255, on the CPU; the short side is 220, 360 or 560 pixels.
    """
    bank = [zoom for name, zooms in _zooms().items() if with_round_things or name not in _ROUND for zoom in zooms]
    if not bank:
        generator = torch.Generator().manual_seed(_GRAIN_SEED)
        bank = [(smooth_noise(1, 3, 24, 360, generator)[0] * 60 + 128).clamp(0, 255).byte()]
    return tuple(bank)


@lru_cache(maxsize=1)
def _zooms() -> dict[str, tuple[Tensor, ...]]:
    folder = Path(skimage_data.__file__).parent
    zooms: dict[str, tuple[Tensor, ...]] = {}
    for name in PICTURES:
        if (folder / name).exists():
            picture = _as_rgb(imread(folder / name))
            sides = [side for side in _ZOOMS_PX if side < 1.6 * min(picture.shape[2:])]
            zooms[name] = tuple(_at_short_side(picture, side) for side in sides)
    return zooms


def _as_rgb(picture: NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W) float32."""
    if picture.ndim == 2:
        picture = picture[..., None].repeat(3, axis=2)
    return torch.from_numpy(picture[..., :3].astype(np.float32)).permute(2, 0, 1)[None]


def _at_short_side(picture: Tensor, side: int) -> Tensor:
    scale = side / min(picture.shape[2:])
    size = (round(picture.shape[2] * scale), round(picture.shape[3] * scale))
    resized = functional.interpolate(picture, size=size, mode="bilinear", antialias=scale < 1)[0]
    return resized.round().clamp(0, 255).byte().contiguous()


@lru_cache(maxsize=4)
def grain_atlas(device: torch.device) -> Tensor:
    """Small pieces of natural texture.

    Returns
    -------
    Tensor
        (pieces, 128, 128) float32 brightness with mean 0 and standard deviation 1.
    """
    generator = torch.Generator().manual_seed(_GRAIN_SEED)
    pieces = torch.stack([crop(picture, 128, generator).float().mean(0) for picture in picture_bank()])
    noise = smooth_noise(8, 1, 32, 128, generator)[:, 0]
    pieces = torch.cat([pieces, noise])
    pieces = pieces - pieces.mean((1, 2), keepdim=True)
    return (pieces / pieces.std((1, 2), keepdim=True).clamp(min=1)).clamp(-2, 2).to(device)


@lru_cache(maxsize=4)
def noise_bank(device: torch.device) -> Tensor:
    """Normal noise drawn once, because drawing it anew costs more than all shapes together.

    Returns
    -------
    Tensor
        (2**21,) float32, standard normal.
    """
    generator = torch.Generator().manual_seed(_GRAIN_SEED)
    return torch.randn(_NOISE_LENGTH, generator=generator).to(device)


def crop(picture: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Cut a random square out of a picture.

    Parameters
    ----------
    picture
        (3, H, W) uint8; continued by reflection where it is smaller than `side`.
    side
        Pixels.
    generator
        On the CPU.

    Returns
    -------
    Tensor
        (3, side, side) uint8.
    """
    while min(picture.shape[1:]) < side:
        picture = torch.cat([picture, picture.flip(1)], 1)
        picture = torch.cat([picture, picture.flip(2)], 2)
    room = torch.tensor([picture.shape[1] - side + 1, picture.shape[2] - side + 1])
    top, left = (torch.rand(2, generator=generator) * room).long().tolist()
    return picture[:, top : top + side, left : left + side]


def picture_crops(num_crops: int, side: int, generator: torch.Generator, *, with_round_things: bool = True) -> Tensor:
    """Random squares of random bundled pictures, some mirrored or turned.

    Returns
    -------
    Tensor
        (num_crops, 3, side, side) float32, 0…255, on the CPU.
    """
    bank = picture_bank(with_round_things=with_round_things)
    crops = torch.empty(num_crops, 3, side, side)
    picks = torch.randint(len(bank), (num_crops,), generator=generator).tolist()
    turns = torch.randint(8, (num_crops,), generator=generator).tolist()
    for index, (pick, turn) in enumerate(zip(picks, turns, strict=True)):
        piece = crop(bank[pick], side, generator)
        if turn & 4:
            piece = piece.flip(2)
        crops[index] = piece.rot90(turn & 3, (1, 2)) if turn & 3 else piece
    return crops


def smooth_noise(num: int, channels: int, cells: int, side: int, generator: torch.Generator) -> Tensor:
    """Noise that changes slowly: a coarse random grid, interpolated.

    Returns
    -------
    Tensor
        (num, channels, side, side) float32, about standard normal at the grid points, on the generator's device.
    """
    grid = torch.randn(num, channels, cells, cells, generator=generator, device=generator.device)
    return functional.interpolate(grid, size=(side, side), mode="bilinear", align_corners=True)
