"""Region similarity J and contour accuracy F of masks, as DAVIS defines them (numpy and scipy only)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from skimage.morphology import dilation, disk

from napari_virst.errors import MaskError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

BOUNDARY_TOLERANCE = 0.008
"""Share of the frame's diagonal within which two contours are taken to agree (Perazzi et al. 2016)."""


def region_similarity(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return J, the intersection over union of two masks (H, W) bool; 1 where both are empty."""
    _check_shapes(predicted, truth)
    union = np.count_nonzero(predicted | truth)
    return float(np.count_nonzero(predicted & truth) / union) if union else 1.0


def contour_accuracy(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return F, the harmonic mean of contour precision and recall; 1 where neither mask has a contour."""
    _check_shapes(predicted, truth)
    contours = _contour(predicted), _contour(truth)
    num_predicted, num_true = (int(np.count_nonzero(c)) for c in contours)
    if not num_predicted or not num_true:
        return float(num_predicted == num_true)
    tolerance_px = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*predicted.shape))
    near_predicted, near_true = (dilation(c, disk(tolerance_px)) for c in contours)
    precision = np.count_nonzero(contours[0] & near_true) / num_predicted
    recall = np.count_nonzero(contours[1] & near_predicted) / num_true
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def mean_region_similarity(pairs: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> float:
    """Return the mean J over pairs (predicted, truth); NaN where there is none."""
    scores = [region_similarity(predicted, truth) for predicted, truth in pairs]
    return float(np.mean(scores)) if scores else math.nan


def _contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark pixels that differ from the one to the right, below, or below right."""
    east, south, south_east = mask.copy(), mask.copy(), mask.copy()
    east[:, :-1] = mask[:, 1:]
    south[:-1] = mask[1:]
    south_east[:-1, :-1] = mask[1:, 1:]
    contour = (mask ^ east) | (mask ^ south) | (mask ^ south_east)
    contour[-1] = mask[-1] ^ east[-1]
    contour[:, -1] = mask[:, -1] ^ south[:, -1]
    contour[-1, -1] = False
    return contour


def _check_shapes(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
    if predicted.shape != truth.shape or predicted.ndim != 2:
        raise MaskError(f"Two masks must be (H, W) of one size; got {predicted.shape} and {truth.shape}; resize one.")
