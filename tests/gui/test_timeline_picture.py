from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.gui.timeline_picture import BAND_PX, GAP_PX, HEIGHT_PX, MARKS_PX, Ink, draw
from napari_virst.gui.timeline_state import COLORS, TimelineState
from napari_virst.records import Provenance

INK = Ink((250, 250, 250))
BAND_Y, DOUBT_Y = MARKS_PX + GAP_PX + 2, MARKS_PX + BAND_PX + 2 * GAP_PX


def state_of(num_frames: int, **more: Any) -> TimelineState:
    more = {"locked": np.zeros(num_frames, bool), "doubts": np.full(num_frames, np.nan)} | more
    return TimelineState(np.full(num_frames, Provenance.PROPAGATED, np.uint8), **more)


@given(
    num_frames=st.integers(1, 5000),
    width=st.integers(1, 500),
    ratio=st.sampled_from([1.0, 1.25, 1.5, 2.0]),
    data=st.data(),
)
def test_anything_can_be_drawn(num_frames: int, width: int, ratio: float, data: st.DataObject) -> None:
    frames = st.lists(st.integers(0, num_frames - 1), max_size=20).map(tuple)
    marks = {name: data.draw(frames) for name in ("user_anchors", "model_anchors", "demoted", "excluded")}
    doubts = np.where(np.arange(num_frames) % 3 == 0, np.nan, 0.5)
    picture = draw(
        state_of(num_frames, doubts=doubts, pinned=frozenset(marks["model_anchors"]), **marks),
        width,
        Ink((0, 0, 0), ratio),
    )
    assert picture.shape == (round(HEIGHT_PX * ratio), round(width * ratio), 4)


@pytest.mark.parametrize("kind", ["user_anchors", "model_anchors", "demoted", "excluded"])
@pytest.mark.parametrize("frame", [0, 10, 19], ids=["first", "middle", "last"])
def test_every_mark_is_seen_above_its_frame_only(kind: str, frame: int) -> None:
    lane = draw(state_of(20, **{kind: (frame,)}), 400, INK)[:MARKS_PX, :, 3]
    seen = np.flatnonzero(lane.any(axis=0))
    assert len(seen)
    assert abs(seen.mean() - (frame + 0.5) * 20) <= 10


def test_kinds_of_marks_look_different() -> None:
    kinds: list[dict[str, Any]] = [{kind: (5,)} for kind in ("user_anchors", "model_anchors", "demoted", "excluded")]
    kinds.append({"model_anchors": (5,), "pinned": frozenset({5})})
    pictures = [draw(state_of(10, **kind), 100, INK).tobytes() for kind in kinds]
    assert len(set(pictures)) == len(kinds)


def test_doubt_is_higher_where_it_is_greater_and_nowhere_where_unknown() -> None:
    doubts = np.array([0.1, 0.9, np.nan, 0.5])
    lane = draw(state_of(4, doubts=doubts), 400, INK)[DOUBT_Y:-1, :, 3]
    tops = [np.flatnonzero(lane[:, x])[:1].tolist() for x in (50, 150, 250, 350)]
    assert tops[1] < tops[3] < tops[0]
    assert tops[2] == []


def test_locked_frames_wear_a_bar_below_their_colour() -> None:
    picture = draw(state_of(4, locked=np.array([False, True, False, False])), 40, INK)
    bar = (picture[MARKS_PX + GAP_PX + BAND_PX - 1, :, :3] == INK.color).all(axis=1)
    assert np.flatnonzero(bar).tolist() == list(range(10, 20))
    assert (picture[BAND_Y, :, :3] == COLORS[Provenance.PROPAGATED][:3]).all()
