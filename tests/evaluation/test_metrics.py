from __future__ import annotations

import numpy as np
import pytest

from napari_virst.errors import MaskError
from napari_virst.evaluation.metrics import contour_accuracy, mean_region_similarity, region_similarity


def square(y: int, x: int, side: int, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[y : y + side, x : x + side] = True
    return mask


EMPTY = np.zeros((40, 40), bool)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (square(0, 0, 10), square(0, 0, 10), 1.0),
        (square(0, 0, 10), square(0, 5, 10), 50 / 150),
        (square(0, 0, 10), square(20, 20, 10), 0.0),
        (EMPTY, EMPTY, 1.0),
        (EMPTY, square(0, 0, 10), 0.0),
    ],
    ids=["equal", "half-shifted", "apart", "both-empty", "missed"],
)
def test_region_similarity(predicted, truth, expected):
    assert region_similarity(predicted, truth) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (square(10, 10, 10), square(10, 10, 10), 1.0),
        # The tolerance of a 40×40 frame is ceil(0.008 · 56.6) = 1 pixel, so a shift by one still agrees everywhere …
        (square(10, 10, 10), square(10, 11, 10), 1.0),
        # … and of two contours of 40 pixels shifted by five, 16 each lie within one pixel of the other: seven of each
        # horizontal side, and the next pixel down and up of the vertical side that ends there.
        (square(10, 10, 10), square(10, 15, 10), 16 / 40),
        (EMPTY, EMPTY, 1.0),
        (EMPTY, square(10, 10, 10), 0.0),
    ],
    ids=["equal", "within-tolerance", "shifted", "both-empty", "missed"],
)
def test_contour_accuracy(predicted, truth, expected):
    assert contour_accuracy(predicted, truth) == pytest.approx(expected, abs=1e-6)


def test_mean_over_frames():
    pairs = [(EMPTY, EMPTY), (EMPTY, square(0, 0, 4))]
    assert mean_region_similarity(pairs) == 0.5


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(MaskError, match="one size"):
        region_similarity(EMPTY, np.zeros((3, 3), bool))
