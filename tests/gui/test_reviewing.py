from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from napari_virst.gui.reviewing import describe, timeline_state
from napari_virst.records import Provenance, Span


def session_of(bench: Any) -> Any:
    return bench.presenter._desk.session


def track_of(bench: Any) -> Any:
    return session_of(bench).tracks[0]


def doubtful_at(bench: Any, frame: int) -> None:
    """Have the segmenter be unsure of one frame."""
    known = bench.segmenter.result

    def result(job: Any, at: int) -> Any:
        return dataclasses.replace(known(job, at), predicted_iou=0.1 if at == frame else 0.95)

    bench.segmenter.result = result


def select(bench: Any, start: int, stop: int) -> None:
    bench.dock.timeline._select(Span(start, stop))


def frame_in_view(bench: Any) -> int:
    return int(bench.viewer.dims.current_step[0])


def test_n_goes_to_the_doubtful_frame_and_says_why(bench: Any) -> None:
    doubtful_at(bench, 7)
    layer = bench.ask()
    bench.go_to(2)
    bench.presenter.review_next(layer)
    bench.presenter._showing._tell()
    assert frame_in_view(bench) == 7
    assert bench.dock.reason_label.text().startswith("Frame 7, doubt ")
    assert "outline uncertain, no correction yet" in bench.dock.reason_label.text()


def test_n_goes_on_and_shift_n_back(bench: Any) -> None:
    layer = bench.ask()
    seen = []
    for _ in range(3):
        bench.presenter.review_next(layer)
        seen.append(frame_in_view(bench))
    assert len(set(seen)) == 3
    bench.presenter.review_previous(layer)
    assert frame_in_view(bench) == seen[1]


def test_reason_is_not_told_of_other_frames_nor_of_settled_ones(bench: Any) -> None:
    layer = bench.ask()
    bench.presenter.review_next(layer)
    frame = frame_in_view(bench)
    bench.go_to((frame + 1) % 12)
    bench.presenter._showing._tell()
    assert bench.dock.reason_label.text() == ""
    bench.go_to(frame)
    bench.presenter.accept(layer)
    bench.presenter._showing._tell()
    assert bench.dock.reason_label.text() == ""


@pytest.mark.parametrize("wish", ["commit", "mark_absent", "accept", "lock"])
@pytest.mark.parametrize(
    ("num_frames", "advice"),
    [pytest.param(5, "frames 0–4", id="several"), pytest.param(1, "frame 0", id="one")],
)
def test_frame_beyond_the_video_is_not_taken_for_its_last(bench: Any, wish: str, num_frames: int, advice: str) -> None:
    bench.viewer.add_image(bench.video.pixels[:num_frames], rgb=True, name="short")
    layer = bench.ask()
    before, provenances = np.array(layer.data), track_of(bench).masks.provenances
    bench.go_to(9)
    getattr(bench.presenter, wish)(layer)
    assert bench.message == (
        f"⚠ The frame in view must be one of this video's {num_frames}; got 9; move the slider back to {advice}."
    )
    np.testing.assert_array_equal(layer.data, before)
    np.testing.assert_array_equal(track_of(bench).masks.provenances, provenances)
    assert not track_of(bench).locked.any()


def test_frames_on_the_timeline_need_not_be_in_view(bench: Any) -> None:
    bench.viewer.add_image(bench.video.pixels[:5], rgb=True, name="short")
    layer = bench.ask()
    bench.go_to(9)
    select(bench, 1, 3)
    bench.presenter.lock(layer)
    select(bench, 3, 5)
    bench.presenter.accept(layer)
    bench.dock.timeline.absent_requested.emit(0)
    assert np.flatnonzero(track_of(bench).locked).tolist() == [1, 2]
    assert track_of(bench).masks.owned_frames == (0, 3, 4)


def test_going_to_a_frame_clears_what_is_no_longer_to_the_point(bench: Any) -> None:
    layer = bench.ask()
    bench.presenter.repropagate(layer)
    assert bench.message.startswith("Nothing to re-propagate")
    bench.presenter.review_next(layer)
    assert bench.message == ""
    bench.presenter.review_next(layer)
    bench.presenter.repropagate(layer)
    bench.presenter.review_previous(layer)
    assert bench.message == ""


def test_going_to_a_frame_leaves_the_error_of_a_run(bench: Any) -> None:
    layer = bench.ask()
    bench.presenter.report("no memory left")
    bench.presenter.review_next(layer)
    assert bench.message == "⚠ no memory left"


def test_every_frame_settled_is_said(bench: Any) -> None:
    layer = bench.ask()
    select(bench, 0, 12)
    bench.presenter.accept(layer)
    bench.presenter.review_next(layer)
    assert "every frame" in bench.message


def test_accepted_frame_is_an_anchor_of_the_person(bench: Any) -> None:
    layer = bench.ask()
    bench.go_to(3)
    bench.presenter.accept(layer)
    assert track_of(bench).masks.provenance(3) is Provenance.ACCEPTED
    assert bench.message == "Frame 3 accepted."


def test_selected_frames_are_accepted_but_not_those_of_the_person(bench: Any) -> None:
    layer = bench.ask()
    bench.go_to(6)
    bench.presenter.commit(layer)
    select(bench, 5, 9)
    bench.presenter.accept(layer)
    assert track_of(bench).masks.provenances[5:9].tolist() == [4, 3, 4, 4]
    assert bench.message.startswith("3 frames accepted; 1 frame ")
    assert bench.dock.selected_frames is None


def test_acceptance_that_is_cancelled_says_so_and_not_that_the_rest_was_settled(bench: Any) -> None:
    layer, session = bench.ask(), session_of(bench)
    commit = track_of(bench).masks.commit

    def cancel_after_three(frame: int, *how: Any) -> None:
        commit(frame, *how)
        if frame == 2:
            bench.dock.cancel_requested.emit()

    track_of(bench).masks.commit = cancel_after_three
    select(bench, 0, 12)
    bench.presenter.accept(layer)
    assert session.was_halted
    assert track_of(bench).masks.owned_frames == (0, 1, 2)
    assert bench.message == "Cancelled; 3 frames accepted by then stay so, and Ctrl+Alt+Z takes it back."


def test_locked_frame_is_left_alone_by_runs_and_unlocks_again(bench: Any) -> None:
    layer = bench.ask()
    bench.go_to(6)
    bench.presenter.lock(layer)
    bench.presenter._showing._tell()
    assert bench.dock.frame_label.text().startswith("frame 6: propagated, locked")
    before = layer.data[6].copy()
    bench.go_to(5)
    layer.data[5:6] = np.roll(bench.video.masks[5], 3, axis=0)[None]
    bench.presenter.repropagate(layer)
    np.testing.assert_array_equal(layer.data[6], before)
    bench.go_to(6)
    bench.presenter.lock(layer)
    assert not track_of(bench).locked.any()


def test_partly_locked_selection_is_locked_as_a_whole(bench: Any) -> None:
    layer = bench.ask()
    bench.go_to(3)
    bench.presenter.lock(layer)
    select(bench, 2, 6)
    bench.presenter.lock(layer)
    assert np.flatnonzero(track_of(bench).locked).tolist() == [2, 3, 4, 5]


def test_timeline_shows_the_track_and_goes_to_frames(bench: Any, qtbot: Any) -> None:
    bench.ask()
    bench.presenter._showing._show_timeline()
    state = bench.dock.timeline._state
    assert state.model_anchors == (0, 4, 8)
    bench.dock.timeline.frame_chosen.emit(9)
    qtbot.waitUntil(lambda: frame_in_view(bench) == 9)


def test_timeline_is_gone_with_the_image(bench: Any) -> None:
    bench.ask()
    bench.viewer.layers.remove("disc")
    assert bench.dock.timeline._state is None


def test_deleted_model_anchor_is_crossed_out_and_used_again_when_wished(bench: Any) -> None:
    bench.ask()
    timeline = bench.dock.timeline
    timeline.anchor_deletion_requested.emit(4)
    state = timeline_state(session_of(bench), track_of(bench))
    assert (state.model_anchors, state.excluded) == ((0, 8), (4,))
    timeline.anchor_reuse_requested.emit(4)
    assert timeline_state(session_of(bench), track_of(bench)).excluded == ()


def test_pinned_anchor_is_shown_so(bench: Any) -> None:
    bench.ask()
    bench.dock.timeline.pin_requested.emit(4, True)
    assert timeline_state(session_of(bench), track_of(bench)).pinned == {4}
    bench.dock.timeline.pin_requested.emit(4, False)
    assert not timeline_state(session_of(bench), track_of(bench)).pinned


def test_deleted_correction_goes_back_to_the_model(bench: Any) -> None:
    layer = bench.ask()
    layer.data[5:6] = 0
    bench.dock.timeline.anchor_deletion_requested.emit(5)
    assert track_of(bench).masks.provenance(5) is Provenance.PROPAGATED
    np.testing.assert_array_equal(layer.data[5] != 0, bench.video.masks[5])


def test_absent_on_the_timeline_means_that_frame(bench: Any) -> None:
    layer = bench.ask()
    bench.go_to(2)
    bench.dock.timeline.absent_requested.emit(8)
    assert layer.data[2].any()
    assert not layer.data[8].any()


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        pytest.param(4, ("predicted (anchor)", "model anchor, used", "doubt "), id="model-anchor"),
        pytest.param(5, ("frame 5: corrected", "user anchor, used"), id="correction"),
        pytest.param(6, ("propagated", "doubt ", "nearest anchor in use: frame 5 (user)"), id="between"),
    ],
)
def test_tooltip_says_what_governs_a_frame(bench: Any, frame: int, parts: tuple[str, ...]) -> None:
    layer = bench.ask()
    layer.data[5:6, 0:3, 0:3] = 1
    text = describe(session_of(bench), track_of(bench), frame)
    assert all(part in text for part in parts)


def test_run_that_ends_early_is_done_not_stopped(bench: Any) -> None:
    layer = bench.ask()
    known = bench.segmenter.run

    def end_early(frames: Any, job: Any, should_stop: Any) -> Any:
        yield from (result for result in known(frames, job, should_stop) if abs(result.frame - 5) < 3)

    bench.segmenter.run = end_early
    bench.go_to(5)
    bench.presenter.commit(layer)
    bench.presenter.repropagate(layer)
    bench.presenter._showing._show_work()
    assert bench.dock.progress_label.text().startswith("done")
    assert "agreed" in bench.dock.progress_label.text()
