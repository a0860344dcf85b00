from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtCore import QPoint, Qt

from napari_virst.gui.timeline import Timeline
from napari_virst.gui.timeline_state import COLORS, TimelineState, columns
from napari_virst.records import Provenance, Span

BAND_Y = 20
LEFT = Qt.MouseButton.LeftButton
SHIFT = Qt.KeyboardModifier.ShiftModifier


def state_of(provenances: Any, **more: Any) -> TimelineState:
    provenances = np.asarray(provenances, np.uint8)
    more.setdefault("locked", np.zeros(len(provenances), bool))
    more.setdefault("doubts", np.full(len(provenances), np.nan))
    return TimelineState(provenances, **more)


@pytest.fixture
def timeline(qtbot: Any) -> Timeline:
    """Twenty frames, ten pixels each; user anchor 3, model anchors 0 and 8, demoted 12, deleted 16."""
    timeline = Timeline()
    qtbot.addWidget(timeline)
    timeline.resize(200, timeline.sizeHint().height())
    provenances = np.full(20, Provenance.PROPAGATED)
    provenances[3] = Provenance.CORRECTED
    anchors = {"user_anchors": (3,), "model_anchors": (0, 8), "demoted": (12,), "excluded": (16,)}
    timeline.show_state(state_of(provenances, pinned=frozenset({8}), **anchors))
    return timeline


def texts(timeline: Timeline, frame: int) -> list[str]:
    return [action.text() for action in timeline.menu_for(frame).actions() if action.text()]


def trigger(timeline: Timeline, frame: int, start: str) -> None:
    menu = timeline.menu_for(frame)
    next(action for action in menu.actions() if action.text().startswith(start)).trigger()


@given(num_frames=st.integers(1, 3000), width=st.integers(1, 600), data=st.data())
def test_one_corrected_frame_is_seen_at_any_width(num_frames: int, width: int, data: st.DataObject) -> None:
    frame = data.draw(st.integers(0, num_frames - 1))
    provenances = np.full(num_frames, Provenance.PROPAGATED)
    provenances[frame] = Provenance.CORRECTED
    locked = np.arange(num_frames) == frame
    gathered = columns(state_of(provenances, locked=locked, doubts=locked.astype(float)), width)
    here = (gathered.colors == COLORS[Provenance.CORRECTED]).all(axis=1)
    assert here.any()
    assert (here == gathered.locked).all()
    assert gathered.doubts.max() == 1
    assert len(gathered.colors) == width


def test_doubt_is_unknown_only_where_it_is_for_every_frame_of_a_column() -> None:
    doubts = np.array([np.nan, np.nan, np.nan, 0.3])
    assert np.isnan(columns(state_of(np.ones(4), doubts=doubts), 2).doubts).tolist() == [True, False]


@given(num_frames=st.integers(1, 600), data=st.data())
def test_every_frame_is_found_where_it_is_drawn(qapp: Any, num_frames: int, data: st.DataObject) -> None:
    timeline = Timeline()
    timeline.resize(600, 50)
    timeline.show_state(state_of(np.ones(num_frames)))
    frame = data.draw(st.integers(0, num_frames - 1))
    assert timeline.frame_at(timeline.x_of(frame)) == frame


def test_provenance_is_drawn_in_its_colour(timeline: Timeline) -> None:
    picture = timeline.grab().toImage()
    for frame, provenance in ((3, Provenance.CORRECTED), (10, Provenance.PROPAGATED)):
        seen = picture.pixelColor(int(timeline.x_of(frame)), BAND_Y)
        assert (seen.red(), seen.green(), seen.blue()) == COLORS[provenance][:3]


def test_nothing_is_shown_of_no_track(timeline: Timeline) -> None:
    timeline.show_state(None)
    assert not timeline.isVisibleTo(timeline.parentWidget())
    assert timeline.frame_at(100) == 0
    timeline.grab()


def test_click_goes_to_the_frame(timeline: Timeline, qtbot: Any) -> None:
    with qtbot.waitSignal(timeline.frame_chosen) as chosen:
        qtbot.mouseClick(timeline, LEFT, pos=QPoint(105, BAND_Y))
    assert chosen.args == [10]


def test_click_near_a_mark_means_the_mark(timeline: Timeline, qtbot: Any) -> None:
    with qtbot.waitSignal(timeline.frame_chosen) as chosen:
        qtbot.mouseClick(timeline, LEFT, pos=QPoint(81, 5))
    assert chosen.args == [8]


def test_drag_goes_along_and_tells_every_frame_once(timeline: Timeline, qtbot: Any) -> None:
    seen: list[int] = []
    timeline.frame_chosen.connect(seen.append)
    qtbot.mousePress(timeline, LEFT, pos=QPoint(55, BAND_Y))
    for x in (56, 65, 68, 75, 400):
        qtbot.mouseMove(timeline, QPoint(x, BAND_Y))
    qtbot.mouseRelease(timeline, LEFT, pos=QPoint(400, BAND_Y))
    qtbot.mouseMove(timeline, QPoint(5, BAND_Y))
    assert seen == [5, 6, 7, 19]


@pytest.mark.parametrize(("start", "stop"), [(45, 95), (95, 45)], ids=["to-the-right", "to-the-left"])
def test_shift_drag_selects_and_a_click_ends_it(timeline: Timeline, qtbot: Any, start: int, stop: int) -> None:
    with qtbot.assertNotEmitted(timeline.frame_chosen):
        qtbot.mousePress(timeline, LEFT, SHIFT, QPoint(start, BAND_Y))
        qtbot.mouseMove(timeline, QPoint(stop, BAND_Y))
        qtbot.mouseRelease(timeline, LEFT, SHIFT, QPoint(stop, BAND_Y))
    assert timeline.selection == Span(4, 10)
    assert "Accept frames 4–9 (Shift+A)" in texts(timeline, 10)
    qtbot.mouseClick(timeline, LEFT, pos=QPoint(105, BAND_Y))
    assert timeline.selection is None


@pytest.mark.parametrize(
    ("frame", "start", "signal", "arguments"),
    [
        pytest.param(3, "Delete anchor", "anchor_deletion_requested", [3], id="delete-a-correction"),
        pytest.param(12, "Delete anchor", "anchor_deletion_requested", [12], id="delete-a-demoted-one"),
        pytest.param(0, "Pin anchor", "pin_requested", [0, True], id="pin"),
        pytest.param(12, "Pin anchor", "pin_requested", [12, True], id="pin-a-demoted-one"),
        pytest.param(8, "Unpin anchor", "pin_requested", [8, False], id="unpin"),
        pytest.param(16, "Use this anchor again", "anchor_reuse_requested", [16], id="use-again"),
        pytest.param(5, "Absent here", "absent_requested", [5], id="absent"),
        pytest.param(5, "Accept frame", "accept_requested", [], id="accept"),
        pytest.param(5, "Lock or unlock frame", "lock_requested", [], id="lock"),
    ],
)
def test_menu_of_a_frame_offers_what_fits(
    timeline: Timeline, qtbot: Any, frame: int, start: str, signal: str, arguments: list[Any]
) -> None:
    with qtbot.waitSignal(getattr(timeline, signal)) as wished:
        trigger(timeline, frame, start)
    assert wished.args == arguments


@pytest.mark.parametrize("frame", [3, 5, 16], ids=["correction", "no-anchor", "deleted"])
def test_only_what_language_found_can_be_pinned(timeline: Timeline, frame: int) -> None:
    assert not any("pin" in text.lower() for text in texts(timeline, frame))


def test_frame_without_anchor_has_none_to_delete(timeline: Timeline) -> None:
    assert not any(text.startswith("Delete") for text in texts(timeline, 5))
