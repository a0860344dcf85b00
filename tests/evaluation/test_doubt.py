"""Doubt, and what to look at next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_virst.evaluation.doubt import Evidence, distance_to, doubt, frame_to_review, worth_of_review

T = 30
frame_sets = st.sets(st.integers(0, T - 1), max_size=6)
anything = arrays(np.float64, T, elements=st.floats(0, 1) | st.just(np.nan))


def evidence(**given: object) -> Evidence:
    known = {"presence": 0.9, "predicted_iou": 0.9, "area_px": 100.0, "agreement": np.nan} | given
    return Evidence(**{name: np.broadcast_to(value, T).astype(float) for name, value in known.items()})


@given(anything, anything, anything, anything, frame_sets)
def test_doubt_is_a_number_whatever_is_known(presence, iou, area, agreement, fixed) -> None:
    found = doubt(Evidence(presence, iou, area * 1000, agreement), fixed)
    assert ((found >= 0) & (found <= 1)).all()
    assert not found[list(fixed)].any()


@pytest.mark.parametrize(
    ("sure", "unsure"),
    [
        ({"predicted_iou": 0.9}, {"predicted_iou": 0.6}),
        ({"presence": 0.95}, {"presence": 0.6}),
        ({"presence": 0.05}, {"presence": 0.4}),
        ({"agreement": 0.9}, {"agreement": 0.1}),
        ({"agreement": np.nan}, {"agreement": 0.5}),
    ],
    ids=["predicted IoU", "visible", "not visible", "language", "language or none"],
)
def test_doubt_falls_with_certainty(sure: dict[str, float], unsure: dict[str, float]) -> None:
    assert (doubt(evidence(**sure), {0})[1:] < doubt(evidence(**unsure), {0})[1:]).all()


def test_doubt_rises_with_change_of_area_and_distance() -> None:
    area = np.full(T, 100.0)
    area[20] = 20
    found = doubt(evidence(area_px=area), {0})
    assert found[20] > found[21]
    assert (np.diff(np.delete(found, 20)[1:]) > 0).all()


@given(st.sets(st.integers(0, T - 1), min_size=1, max_size=6))
def test_distance_is_to_the_nearest(fixed: set[int]) -> None:
    assert distance_to(fixed, T).tolist() == [min(abs(t - f) for f in fixed) for t in range(T)]


def test_equal_doubt_is_halved_by_the_suggestion() -> None:
    even = np.ones(T)
    assert frame_to_review(even, {0, T - 1}, range(T)) in (T // 2 - 1, T // 2)
    assert frame_to_review(even, {0}, range(T)) in range(T // 2, T - 2)


def test_middle_of_a_doubtful_stretch_is_worth_more_than_a_doubtful_frame() -> None:
    doubts = np.full(T, 0.05)
    doubts[5] = 0.9
    doubts[15:24] = 0.6
    assert frame_to_review(doubts, {0}, range(T)) in range(17, 22)


@given(arrays(np.float64, T, elements=st.floats(0, 1)), frame_sets)
def test_worth_is_never_negative_and_nothing_on_fixed_frames(doubts: np.ndarray, fixed: set[int]) -> None:
    worth = worth_of_review(doubts, fixed)
    assert (worth >= 0).all()
    assert not worth[list(fixed)].any()


def test_long_video_is_judged_by_samples() -> None:
    doubts = np.full(100_000, 0.1)
    doubts[60_000:60_400] = 0.9
    assert 59_900 <= (frame_to_review(doubts, {0}, range(100_000)) or 0) <= 60_500


def test_nothing_is_suggested_where_nothing_is_left() -> None:
    assert frame_to_review(np.ones(T), {0}, ()) is None
