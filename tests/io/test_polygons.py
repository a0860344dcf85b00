"""Masks as polygons, filled again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fixtures.frames import disc
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_virst.io.polygons import trace_polygon

SIZE = 40, 60


def filled(points, shape):
    """(H, W) bool: filled as trainers do, coordinates cut off to whole pixels."""
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
    return canvas.astype(bool)


@pytest.mark.parametrize(
    "mask",
    [
        disc((20, 30), 11, SIZE),
        np.ones(SIZE, bool),
        disc((0, 0), 12, SIZE),
        disc((20, 30), 0, SIZE),
        np.eye(40, 60, dtype=bool),
        np.pad(np.ones((1, 9), bool), ((5, 34), (7, 44))),
        np.pad(np.ones((7, 1), bool), ((5, 28), (7, 52))),
    ],
    ids=["disc", "everything", "at-the-corner", "one-pixel", "diagonal", "row", "column"],
)
def test_one_piece_without_holes_comes_back_to_the_pixel(mask):
    polygon = trace_polygon(mask)
    np.testing.assert_array_equal(filled(polygon.points, SIZE), mask)
    assert (polygon.num_pieces, polygon.num_holes) == (1, 0)
    assert len(polygon.points) >= 3, "fewer points are no polygon to any reader"


def test_hole_stays_open_and_costs_no_more_than_a_bridge():
    mask = disc((20, 30), 15, SIZE) & ~disc((20, 30), 7, SIZE)
    polygon = trace_polygon(mask)
    np.testing.assert_array_equal(filled(polygon.points, SIZE), mask)  # the bridge lies in the object
    assert polygon.num_holes == 1


def test_pieces_are_joined_at_their_nearest_points():
    mask = disc((10, 10), 6, SIZE) | disc((10, 26), 6, SIZE) | disc((30, 26), 6, SIZE)
    back = filled(trace_polygon(mask).points, SIZE)
    assert back[mask].all()
    assert np.count_nonzero(back & ~mask) == (26 - 10 - 13) + (30 - 10 - 13)


def test_mask_in_many_specks_is_traced():
    mask = np.zeros((200, 200), bool)
    mask[::10, ::10] = True  # 400 pieces
    polygon = trace_polygon(mask)
    assert polygon.num_pieces == 400
    assert filled(polygon.points, mask.shape)[mask].all()


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any))
def test_polygon_covers_the_mask_and_stays_within_the_frame(mask):
    points = trace_polygon(mask).points
    assert filled(points, mask.shape)[mask].all()
    assert (points > 0).all()
    assert (points < mask.shape[::-1]).all()
