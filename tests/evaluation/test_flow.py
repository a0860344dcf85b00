from __future__ import annotations

import numpy as np
import pytest
from fixtures.frames import DiscVideo

from napari_virst.evaluation.flow import warp_masks
from napari_virst.evaluation.metrics import region_similarity


@pytest.fixture
def sliding(rng):
    """A textured field that moves two pixels to the right per frame, and a square on it."""
    from skimage.filters import gaussian

    texture = gaussian(rng.random((64, 96)), 1.5)
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    pixels = np.stack([np.roll(texture, 2 * number, axis=1) for number in range(4)])
    square = np.zeros((64, 96), bool)
    square[20:44, 20:50] = True
    masks = np.stack([np.roll(square, 2 * number, axis=1) for number in range(4)])
    return DiscVideo(np.repeat(pixels[..., None], 3, axis=-1), masks, np.zeros((4, 2)), 0.0)


def test_masks_move_with_the_pixels(sliding):
    warped = dict(warp_masks(sliding, {1: (0, sliding.masks[0])}))
    assert sorted(warped) == [1, 2, 3]
    assert region_similarity(warped[3][1], sliding.masks[3]) > 0.9
    assert region_similarity(sliding.masks[0], sliding.masks[3]) < 0.75


def test_each_object_starts_on_its_own_frame(sliding):
    given = {1: (0, sliding.masks[0]), 2: (2, sliding.masks[2])}
    warped = dict(warp_masks(sliding, given))
    assert [sorted(masks) for masks in warped.values()] == [[1], [1], [1, 2]]


def test_nothing_given_gives_nothing(sliding):
    assert list(warp_masks(sliding, {})) == []
