from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from napari_virst.errors import MaskError
from napari_virst.evaluation.metrics import contour_accuracy, region_similarity, robustness, score_frames


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


def filled(size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        # A mask that fills the frame has no contour, one that ends inside it has one column of it; so nothing agrees.
        (filled((8, 10), slice(0, 8), slice(0, 10)), filled((8, 10), slice(0, 8), slice(0, 5)), 0.0),
        # Columns 0…4 have their contour in column 4, columns 0…5 in column 5: one pixel apart, the tolerance of 8×10.
        (filled((8, 10), slice(0, 8), slice(0, 6)), filled((8, 10), slice(0, 8), slice(0, 5)), 1.0),
        # Two pixels apart, none of it agrees.
        (filled((8, 10), slice(0, 8), slice(0, 7)), filled((8, 10), slice(0, 8), slice(0, 5)), 0.0),
        # Masks from row 4 down. Predicted, 5 columns wide: row 3, columns 0…4, and column 4, rows 4…7: 9 pixels;
        # the truth, as wide as the frame: row 3, 10 pixels. Of the former all but column 4, rows 5…7 are within a pixel
        # of the latter, precision 6/9; of the latter columns 0…5 are, recall 6/10.
        (filled((8, 10), slice(4, 8), slice(0, 5)), filled((8, 10), slice(4, 8), slice(0, 10)), 2 * 6 * 6 / (60 + 54)),
        # One pixel has a contour of four: itself and its neighbours above, left and above left.
        (filled((8, 10), slice(4, 5), slice(4, 5)), filled((8, 10), slice(4, 5), slice(7, 8)), 0.0),
        # At 40×50 (tolerance ceil(0.008 · 64.03) = 1) the same pixel two to the right: the facing columns agree.
        (filled((40, 50), slice(4, 5), slice(4, 5)), filled((40, 50), slice(4, 5), slice(6, 7)), 0.5),
    ],
    ids=["fills-the-frame", "side-one-apart", "side-two-apart", "down-to-the-edge", "one-pixel", "one-pixel-near"],
)
def test_contours_by_hand(predicted, truth, expected):
    assert contour_accuracy(predicted, truth) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "tolerance_px"),
    [((30, 40), 1), ((100, 75), 1), ((101, 75), 2), ((480, 854), 8), ((720, 1280), 12)],
    ids=["50-diagonal", "125-diagonal", "just-over-125", "480p", "720p"],
)
def test_tolerance_is_rounded_up(size, tolerance_px):
    """Contours just as far apart as the tolerance agree, one pixel further they do not; 0.008 · 125 is 1 exactly."""
    left = filled(size, slice(None), slice(0, 10))
    assert contour_accuracy(left, filled(size, slice(None), slice(0, 10 + tolerance_px))) == 1.0
    assert contour_accuracy(left, filled(size, slice(None), slice(0, 11 + tolerance_px))) == 0.0


def test_tolerance_is_round():
    """On the diagonal, contours agree as far as a disk reaches, not a square: at 480p √72 is more than 8 pixels."""
    a, b = filled((480, 854), slice(100, 101), slice(100, 101)), filled((480, 854), slice(107, 108), slice(107, 108))
    # Contours are 2×2 pixels; from one to the other the offsets are 6…8 in y and x. Within 8: (6, 6) alone, that is
    # one pixel of each, reached at √72 > 8, so none.
    assert contour_accuracy(a, b) == 0.0
    nearer = filled((480, 854), slice(106, 107), slice(106, 107))
    # Offsets 5…7: (5, 5) and (5, 6) and (6, 5) are within 8, so three pixels of each have a partner.
    assert contour_accuracy(a, nearer) == pytest.approx(3 / 4, abs=1e-6)


def test_precision_and_recall_weigh_alike():
    """The truth is found, and as much again that is not there: precision 1/2, recall 1."""
    truth = square(5, 5, 6)
    predicted = truth | square(25, 25, 6)
    assert contour_accuracy(predicted, truth) == pytest.approx(2 / 3, abs=1e-6)
    assert contour_accuracy(truth, predicted) == pytest.approx(2 / 3, abs=1e-6)


@given(arrays(bool, (12, 15)), arrays(bool, (12, 15)))
def test_scores_are_symmetric_and_between_none_and_all(a, b):
    for measure in (region_similarity, contour_accuracy):
        assert 0 <= measure(a, b) <= 1
        assert measure(a, b) == pytest.approx(measure(b, a), abs=1e-12)
        assert measure(a, a) == 1


def test_mean_over_frames():
    score = score_frames([(EMPTY, EMPTY), (EMPTY, square(0, 0, 4)), (square(0, 0, 4), square(0, 0, 4))])
    assert (score.num_frames, score.j, score.f, score.j_and_f) == pytest.approx((3, 2 / 3, 2 / 3, 2 / 3))


def test_no_frames_have_no_score():
    score = score_frames([])
    assert score.num_frames == 0
    assert np.isnan(score.j_and_f)


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(MaskError, match="one size"):
        region_similarity(EMPTY, np.zeros((3, 3), bool))


@pytest.mark.parametrize(
    ("predicted", "truth", "foreground", "expected"),
    [
        (square(0, 0, 10), square(0, 0, 10), square(0, 0, 20), 1.0),
        (square(0, 0, 10), square(0, 5, 10), square(0, 0, 20), 1 - 50 / 400),
        (square(0, 0, 10), EMPTY, square(0, 0, 20), 1 - 100 / 400),
        (square(0, 0, 20), EMPTY, square(0, 0, 10), 0.0),
        (EMPTY, square(0, 0, 10), square(0, 0, 10), 1.0),
        (EMPTY, EMPTY, EMPTY, 1.0),
        (square(0, 0, 10), EMPTY, EMPTY, 0.0),
    ],
    ids=["right", "half-shifted", "hallucinated", "more-than-all", "missed", "nothing-there", "nothing-to-compare"],
)
def test_robustness(predicted, truth, foreground, expected):
    assert robustness(predicted, truth, foreground) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(arrays(bool, (3, 6, 7)))
def test_robustness_is_a_share_and_falls_with_every_wrong_pixel(masks):
    predicted, truth, foreground = masks
    whole = robustness(predicted, truth, foreground)
    assert 0 <= whole <= 1
    assert robustness(predicted & truth, truth, foreground) == 1
    assert robustness(predicted | ~truth, truth, foreground) <= whole
