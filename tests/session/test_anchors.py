"""The anchor book: which frames a correction can change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.errors import InputError
from napari_virst.records import Span
from napari_virst.session.anchors import AnchorBook

NUM_FRAMES = 20
anchor_sets = st.sets(st.integers(0, NUM_FRAMES - 1)).map(lambda frames: tuple(sorted(frames)))
any_frame = st.integers(0, NUM_FRAMES - 1)


def book(*user_frames: int) -> AnchorBook:
    return AnchorBook(lambda: user_frames)


@pytest.mark.parametrize(
    ("anchors", "frame", "expected"),
    [
        ((), 7, Span(0, 20)),
        ((7,), 7, Span(0, 20)),
        ((3, 7, 12), 7, Span(4, 12)),
        ((3, 12), 7, Span(4, 12)),
        ((0, 7), 0, Span(0, 7)),
        ((7, 19), 19, Span(8, 20)),
        ((6, 7, 8), 7, Span(7, 8)),
    ],
    ids=["no anchors", "alone", "between two", "no anchor itself", "first frame", "last frame", "hemmed in"],
)
def test_span_reaches_to_the_next_user_anchors(anchors: tuple[int, ...], frame: int, expected: Span) -> None:
    assert book(*anchors).span_of(frame, NUM_FRAMES) == expected


@pytest.mark.parametrize("frame", [-1, NUM_FRAMES])
def test_frame_outside_the_video_has_no_span(frame: int) -> None:
    with pytest.raises(InputError, match="0…19"):
        book().span_of(frame, NUM_FRAMES)


@given(anchor_sets)
def test_gaps_and_anchors_partition_the_time_line(anchors: tuple[int, ...]) -> None:
    covered = [frame for gap in book(*anchors).gaps(NUM_FRAMES) for frame in gap]
    assert sorted([*covered, *anchors]) == list(range(NUM_FRAMES))


@given(anchor_sets, any_frame)
def test_span_holds_its_frame_and_no_other_anchor(anchors: tuple[int, ...], frame: int) -> None:
    span = book(*anchors).span_of(frame, NUM_FRAMES)
    assert frame in span
    assert {anchor for anchor in anchors if anchor in span} <= {frame}
    for edge in (span.start - 1, span.stop):
        assert edge in (-1, NUM_FRAMES, *anchors)


@given(anchor_sets, any_frame, any_frame)
def test_frames_without_anchor_between_them_share_a_span(anchors: tuple[int, ...], a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    if not any(low <= anchor <= high for anchor in anchors):
        assert book(*anchors).span_of(a, NUM_FRAMES) == book(*anchors).span_of(b, NUM_FRAMES)


def test_user_anchors_are_read_off_the_frames_that_people_own() -> None:
    owned = [2]
    one = AnchorBook(lambda: tuple(owned))
    owned.append(5)
    assert one.user_anchors() == (2, 5)
    assert one.span_of(4, NUM_FRAMES) == Span(3, 5)


def test_user_anchor_overrides_a_model_anchor() -> None:
    one = book(4)
    one.note_model_anchor(4)
    one.note_model_anchor(8)
    assert one.model_anchors() == (8,)
    assert one.seen_model_anchors == (4, 8)


def test_excluded_anchor_counts_no_more_until_included() -> None:
    one = book()
    one.note_model_anchor(8)
    one.exclude(8)
    assert (one.model_anchors(), one.excluded) == ((), frozenset({8}))
    one.include(8)
    assert (one.model_anchors(), one.excluded) == ((8,), frozenset())


def test_forgotten_anchor_is_gone() -> None:
    one = book()
    one.note_model_anchor(8)
    one.forget_model_anchor(8)
    one.forget_model_anchor(9)
    assert one.seen_model_anchors == ()


def test_description_is_one_line_for_a_person() -> None:
    one = book(4, 31)
    one.note_model_anchor(2)
    one.exclude(9)
    assert one.describe() == "user anchors on 4, 31; 1 model anchor; 1 excluded"
    assert book().describe() == "no user anchors; no model anchors"
    assert "0, 1, 2, 3, 4, 5 and 4 more" in book(*range(10)).describe()
