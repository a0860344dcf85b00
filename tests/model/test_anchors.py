from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.model.anchors import plan_legs, select_anchors, select_memory, spread_anchors
from napari_virst.records import Span

TABLES = Path(__file__).parents[1] / "data" / "parity" / "official_tables.json"
frames = st.integers(0, 60)
anchor_sets = st.sets(frames, min_size=1, max_size=12)


@pytest.fixture(scope="module")
def published_tables():
    return json.loads(TABLES.read_text())


def test_spread_anchors_agree_with_the_published_table(published_tables):
    table = published_tables["select_keyframes_eval"]
    for num_frames, expected in table.items():
        assert list(spread_anchors(int(num_frames))) == list(expected), num_frames


def test_few_frames_have_their_first_as_anchor():
    assert [spread_anchors(n) for n in (1, 4, 7)] == [(0,), (0,), (0,)]


@given(frames, anchor_sets, st.integers(1, 4))
def test_selection_is_a_subset_within_the_limit(frame, anchors, limit):
    chosen = select_anchors(frame, anchors, limit)
    assert set(chosen) <= anchors
    assert len(chosen) == len(set(chosen)) == min(limit, len(anchors))


@given(frames, anchor_sets, st.data())
def test_nearest_user_anchor_is_always_read(frame, anchors, data):
    users = data.draw(st.sets(st.sampled_from(sorted(anchors)), min_size=1))
    chosen = select_anchors(frame, anchors, 3, frozenset(users))
    assert min(abs(u - frame) for u in users) in {abs(c - frame) for c in chosen if c in users}


@given(frames, anchor_sets)
def test_neighbours_on_both_sides_are_read(frame, anchors):
    chosen = select_anchors(frame, anchors, 3)
    before, after = [a for a in anchors if a < frame], [a for a in anchors if a >= frame]
    assert not before or max(before) in chosen
    assert not after or min(after) in chosen


def test_user_anchor_wins_a_tie():
    assert 14 in select_anchors(10, {6, 9, 11, 14}, 3, frozenset({14}))
    assert 14 not in select_anchors(10, {6, 9, 11, 14}, 3)


@given(frames, anchor_sets, st.sets(frames, max_size=20), st.sampled_from([1, -1]))
def test_recent_memory_lies_behind_the_direction_of_travel(frame, anchors, tracked, direction):
    chosen = select_memory(
        frame, anchors, tracked, max_anchors=3, num_fifo_frames=6, num_pointer_frames=16, direction=direction
    )
    assert all(1 <= (frame - f) * direction <= 6 for f in chosen.recent)
    assert not set(chosen.recent) & set(chosen.anchors)
    assert all((frame - f) * direction >= 0 for f in chosen.pointers)


@given(st.integers(0, 40), st.integers(0, 40), st.sets(frames, max_size=6), st.one_of(st.none(), frames))
def test_legs_cover_every_other_frame_once(start, length, origins, focus):
    span = Span(start, start + length)
    legs = plan_legs(span, origins, focus)
    covered = [frame for leg in legs for frame in leg.frames]
    assert sorted(covered) == [frame for frame in span if frame not in origins]


@given(st.sets(frames, min_size=1, max_size=6), frames)
def test_legs_leave_from_an_origin(origins, focus):
    for leg in plan_legs(Span(0, 61), origins, focus):
        assert leg.frames[0] - leg.direction in origins


@given(st.sets(frames, min_size=1, max_size=6), frames)
def test_frame_is_followed_from_the_nearest_origin(origins, focus):
    for leg in plan_legs(Span(0, 61), origins, focus):
        origin = leg.frames[0] - leg.direction
        assert all(abs(f - origin) == min(abs(f - other) for other in origins) for f in leg.frames)


@pytest.mark.parametrize(
    ("absent", "expected"),
    [((10,), [(19, -1, 9)]), ((20,), [(11, 1, 9)]), ((10, 20), [(11, 1, 5), (19, -1, 4)])],
    ids=["left", "right", "both"],
)
def test_nothing_is_followed_from_where_the_object_is_not(absent, expected):
    legs = plan_legs(Span(11, 20), {10, 20}, absent=absent)
    assert [(leg.frames[0], leg.direction, len(leg.frames)) for leg in legs] == expected


def test_every_gap_can_be_followed_forward():
    legs = plan_legs(Span(0, 30), {10, 20}, focus_frame=20, meet=False)
    assert sorted((leg.frames[0], leg.direction) for leg in legs) == [(9, -1), (11, 1), (21, 1)]


def test_frames_next_to_the_focus_come_first():
    legs = plan_legs(Span(0, 100), {10, 50, 90}, focus_frame=52)
    assert [leg.frames[0] for leg in legs[:2]] == [51, 49]
    assert legs[1].direction == -1


def test_selection_agrees_with_the_published_cases(published_tables):
    for case in published_tables["select_closest_cond_frames"]:
        chosen = select_anchors(case["frame"], case["cond"], case["max"])
        assert sorted(chosen) == sorted(case["selected_in_order"]), case
