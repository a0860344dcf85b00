from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.gui.review import Clues, Tour, reasons

FINE = Clues(presence=0.99, predicted_iou=0.95, agreement=0.9, area_ratio=1.0, distance=2)
UNKNOWN = Clues(math.nan, math.nan, math.nan, math.nan, 2)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, "", id="nothing-wrong"),
        pytest.param({"agreement": 0.1}, "language and following disagree", id="disagreement"),
        pytest.param({"presence": 0.2}, "object may be gone", id="gone"),
        pytest.param({"presence": 0.6}, "unsure whether the object is here", id="unsure"),
        pytest.param({"predicted_iou": 0.3}, "outline uncertain", id="outline"),
        pytest.param({"area_ratio": 0.3}, "much smaller than where you last corrected", id="shrunk"),
        pytest.param({"area_ratio": 3.0}, "much larger than where you last corrected", id="grown"),
        pytest.param({"distance": 30}, "far from any correction", id="far"),
        pytest.param({"distance": None}, "no correction yet", id="never-corrected"),
    ],
)
def test_doubt_is_said_in_words(changed: dict[str, float | None], expected: str) -> None:
    assert reasons(dataclasses.replace(FINE, **changed)) == expected


def test_what_is_unknown_is_no_reason() -> None:
    assert reasons(UNKNOWN) == ""


def test_two_reasons_are_enough() -> None:
    assert reasons(Clues(0.1, 0.1, 0.1, 0.1, None)).count(",") == 1


def suggest_of(frames: list[int]) -> object:
    return lambda passed: next((frame for frame in frames if frame not in passed), None)


@given(st.lists(st.integers(0, 99), unique=True))
def test_tour_stops_at_every_frame_once_then_ends_and_begins_anew(frames: list[int]) -> None:
    tour, suggest = Tour(), suggest_of(frames)
    assert [tour.forward(suggest) for _ in frames] == frames  # type: ignore[arg-type]
    assert tour.forward(suggest) is None  # type: ignore[arg-type]
    assert tour.forward(suggest) == (frames[0] if frames else None)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 99), unique=True, min_size=1), st.lists(st.booleans()))
def test_back_undoes_forward(frames: list[int], moves: list[bool]) -> None:
    tour, suggest, place, at = Tour(), suggest_of(frames), -1, -1
    for is_forward in moves:
        if is_forward and place + 1 < len(frames):
            place += 1
            at = tour.forward(suggest)  # type: ignore[arg-type,assignment]
            assert at == frames[place]
        elif not is_forward and place > 0:
            place -= 1
            at = tour.back(at)  # type: ignore[assignment]
            assert at == frames[place]


def test_back_first_returns_to_the_frame_that_was_left() -> None:
    tour, suggest = Tour(), suggest_of([8, 3])
    tour.forward(suggest)  # type: ignore[arg-type]
    tour.forward(suggest)  # type: ignore[arg-type]
    assert (tour.back(5), tour.back(3), tour.back(8)) == (3, 8, None)


def test_new_masks_begin_a_new_tour() -> None:
    tour = Tour(revision=1)
    tour.forward(suggest_of([8]))  # type: ignore[arg-type]
    assert tour.at(1) is tour
    assert tour.at(2).stop is None
