"""Annotation stories: ask, correct, re-propagate, cancel, reopen."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.frames import draw_moving_disc
from fixtures.study import Study, paint, shifted, start_study
from fixtures.worker import TIMEOUT_S, OwnerThread

from napari_virst.engine.runner import ThreadRunner
from napari_virst.errors import CheckpointError, InputError, MaskError, ProjectError, QueryError, SegmentationError
from napari_virst.io.project import ProjectFolder
from napari_virst.records import Anchor, FrameResult, Provenance, Query, Span
from napari_virst.session.session import AnnotationSession, Track

T = 12


def the_track(study: Study) -> Track:
    return study.session.tracks[-1]


def frames_run(study: Study) -> list[int]:
    """Frames that the segmenter was asked for since the last look, sorted."""
    jobs, study.segmenter.jobs = study.segmenter.jobs, []
    return sorted(frame for job in jobs for frame in job.span)


def computed(study: Study) -> list[int]:
    """Frames that changed by the model since the last look, sorted."""
    frames = sorted(frame for _, frame in study.heard.frames)
    study.heard.frames.clear()
    return frames


# -- asking ------------------------------------------------------------------------------------------------------


def test_asking_follows_the_query_through_the_whole_video(study: Study) -> None:
    track = study.session.ask("  the red   disc ")
    assert track.query == Query("the red disc")
    np.testing.assert_array_equal(np.asarray(track.masks) != 0, study.video.masks)
    assert computed(study) == list(range(T))
    assert study.heard.tracks == [track.track_id]
    assert study.session.tracks == (track,)
    assert (track.label, track.revision) == (1, 1)
    assert study.heard.failed == study.heard.notices == []


def test_asking_records_where_each_frame_comes_from(followed: Study) -> None:
    track = the_track(followed)
    expected = [Provenance.PROPAGATED] * T
    for frame in (0, 4, 8):
        expected[frame] = Provenance.PREDICTED
    assert track.masks.provenances.tolist() == expected
    assert track.anchors.model_anchors() == (0, 4, 8)
    assert (track.last_presence == 1).all()
    assert track.last_iou[3] == np.float32(0.9)


def test_track_is_announced_before_anything_is_computed(study: Study) -> None:
    order: list[str] = []
    study.session.track_added.connect(lambda track: order.append("track"))
    study.session.provenance_changed.connect(lambda track_id, frames: order.append("provenance"))
    study.session.frame_changed.connect(lambda track_id, frame: order.append("frame"))
    study.session.ask("the red disc", anchors=[Anchor(3, study.video.masks[3])])
    assert order[0] == "track"


@pytest.mark.parametrize("text", ["", "   "], ids=["empty", "blanks"])
def test_empty_query_is_refused_and_leaves_nothing(study: Study, text: str) -> None:
    with pytest.raises(QueryError, match="type what to follow"):
        study.session.ask(text)
    assert study.session.tracks == ()
    assert list((study.session.folder / "masks").iterdir()) == []


def test_asking_about_a_span_computes_only_that(study: Study) -> None:
    track = study.session.ask("the red disc", Span(3, 6))
    assert computed(study) == [3, 4, 5]
    paint(track, 4, shifted(study.video, 4, 3))
    assert study.session.predict_span(track)[0] == Span(3, 6)
    study.session.repropagate(track)
    assert computed(study) == [3, 5]


def test_correction_outside_the_asked_span_leaves_it(study: Study) -> None:
    track = study.session.ask("the red disc", Span(3, 6))
    paint(track, 9, shifted(study.video, 9, 3))
    assert study.session.predict_span(track)[0] == Span(0, T)


def test_running_the_whole_video_forgets_the_asked_span(study: Study) -> None:
    track = study.session.ask("the red disc", Span(3, 6))
    study.session.run(track)
    assert track.window is None
    assert (track.masks.provenances != Provenance.EMPTY).all()


def test_given_anchors_are_obeyed_from_the_first_run(study: Study) -> None:
    track = study.session.ask("the red disc", anchors=[Anchor(5, shifted(study.video, 5, 4))])
    assert track.anchors.user_anchors() == (5,)
    np.testing.assert_array_equal(track.masks.mask(2), shifted(study.video, 2, 4))
    assert 5 not in computed(study)


def test_anchor_of_another_shape_is_refused(study: Study) -> None:
    with pytest.raises(MaskError, match="must have the video's shape"):
        study.session.ask("the red disc", anchors=[Anchor(0, np.ones((3, 3), bool))])
    with pytest.raises(InputError, match="0…11"):
        study.session.ask("the red disc", anchors=[Anchor(12, study.video.masks[0])])
    assert study.session.tracks == ()
    assert list((study.session.folder / "masks").iterdir()) == []


def test_query_without_words_waits_for_its_first_mask(study: Study) -> None:
    track = study.session.ask(Query("", "by hand"))
    assert study.heard.notices == ["“by hand” has no words to follow: paint the object on one frame, then run."]
    assert study.session.repropagate(track) is None
    assert frames_run(study) == []
    paint(track, 2, study.video.masks[2])
    assert study.session.repropagate(track) is not None
    np.testing.assert_array_equal(np.asarray(track.masks) != 0, study.video.masks)


def test_two_queries_are_two_tracks_of_their_own(study: Study) -> None:
    a, b = study.session.ask("the red disc"), study.session.ask("the red disc")
    assert a.track_id != b.track_id
    paint(a, 3, shifted(study.video, 3, 2))
    assert b.masks.owned_frames == ()


# -- correcting --------------------------------------------------------------------------------------------------


def test_describe_propagate_correct_repropagate(followed: Study) -> None:
    """A person paints one frame, presses Shift+S, and its neighbours follow; painted pixels stay as they are."""
    track, video = the_track(followed), followed.video
    painted = shifted(video, 6, 4)
    paint(track, 6, painted, label=3)
    assert followed.session.repropagate(track, focus_frame=6) is not None
    np.testing.assert_array_equal(track.masks[6], painted * 3)
    for frame in (0, 5, 7, 11):
        np.testing.assert_array_equal(track.masks[frame], shifted(video, frame, 4).astype(np.uint16))
    assert track.masks.provenance(6) is Provenance.CORRECTED


def test_correction_leaves_frames_beyond_next_anchor_untouched(followed: Study) -> None:
    track, video, session = the_track(followed), followed.video, followed.session
    session.correct(track, 3)
    session.correct(track, 9)
    session.repropagate(track)
    before = np.array(track.masks)
    frames_run(followed)
    paint(track, 6, shifted(video, 6, 4))
    assert session.predict_span(track)[0] == Span(4, 9)
    session.repropagate(track)
    assert frames_run(followed) == [4, 5, 6, 7, 8]
    untouched = [0, 1, 2, 3, 9, 10, 11]
    np.testing.assert_array_equal(np.asarray(track.masks)[untouched], before[untouched])


def test_two_corrections_far_apart_leave_what_lies_between(followed: Study) -> None:
    track, video, session = the_track(followed), followed.video, followed.session
    for frame in (2, 5, 8):
        session.correct(track, frame)
    session.repropagate(track)
    frames_run(followed)
    paint(track, 0, shifted(video, 0, 3))
    paint(track, 10, shifted(video, 10, 3))
    assert session.predict_span(track)[0] == Span(0, T)
    job = session.repropagate(track, focus_frame=11)
    assert job is not None
    assert job.span == Span(9, 12)
    assert frames_run(followed) == [0, 1, 9, 10, 11]


def test_nothing_touched_is_nothing_to_run(followed: Study) -> None:
    track = the_track(followed)
    assert followed.session.predict_span(track) == (None, None)
    assert followed.session.repropagate(track) is None
    assert frames_run(followed) == []


def test_commit_without_a_change_is_a_user_anchor(followed: Study) -> None:
    track = the_track(followed)
    assert followed.session.correct(track, 6) == Span(0, T)
    assert track.anchors.user_anchors() == (6,)
    assert track.masks.is_committed(6)
    followed.session.repropagate(track)
    assert [anchor.frame for anchor in followed.segmenter.jobs[0].anchors] == [6]


def test_job_carries_every_user_anchor_and_excluded_model_anchor(followed: Study) -> None:
    track, session = the_track(followed), followed.session
    session.correct(track, 1)
    session.mark_absent(track, 10)
    session.exclude_anchor(track, 4)
    job = session.repropagate(track, focus_frame=5)
    assert job is not None
    assert [(anchor.frame, anchor.is_absent) for anchor in job.anchors] == [(1, False), (10, True)]
    assert (job.excluded_anchors, job.focus_frame, job.revision) == (frozenset({4}), 5, 2)
    assert track.masks.provenance(4) is Provenance.PROPAGATED
    assert track.anchors.model_anchors() == (0, 8)


def test_excluding_an_anchor_touches_the_span_around_it(followed: Study) -> None:
    track, session = the_track(followed), followed.session
    session.correct(track, 6)
    session.repropagate(track)
    assert session.exclude_anchor(track, 8) == Span(7, 12)
    assert session.predict_span(track)[0] == Span(7, 12)
    session.exclude_anchor(track, 8, excluded=False)
    assert session.predict_span(track)[0] is None


def test_absent_frame_empties_its_neighbours(followed: Study) -> None:
    track = the_track(followed)
    span = followed.session.mark_absent(track, 8)
    assert span == Span(0, T)
    assert not track.masks[8].any()
    assert computed(followed) == [8]
    followed.session.repropagate(track)
    assert not track.masks[11].any()
    assert track.last_presence[11] == 0


def test_given_mask_is_a_user_anchor(followed: Study) -> None:
    track, mask = the_track(followed), shifted(followed.video, 6, 4)
    assert followed.session.give_mask(track, 6, mask) == Span(0, T)
    assert computed(followed) == [6]
    np.testing.assert_array_equal(track.masks.mask(6), mask)
    followed.session.repropagate(track)
    np.testing.assert_array_equal(track.masks.mask(7), shifted(followed.video, 7, 4))


def test_accepted_frame_is_a_user_anchor(followed: Study) -> None:
    track = the_track(followed)
    followed.session.accept_frame(track, 6)
    assert track.masks.provenance(6) is Provenance.ACCEPTED
    assert track.anchors.user_anchors() == (6,)


@pytest.mark.parametrize("frame", [-1, T])
@pytest.mark.parametrize("wish", ["correct", "accept_frame", "mark_absent", "restore_prediction", "exclude_anchor"])
def test_frame_outside_the_video_is_refused(followed: Study, wish: str, frame: int) -> None:
    with pytest.raises(InputError, match="0…11"):
        getattr(followed.session, wish)(the_track(followed), frame)
    assert the_track(followed).masks.owned_frames == ()


def test_undone_stroke_leaves_nothing_to_run(followed: Study) -> None:
    track = the_track(followed)
    before = track.masks[6]
    paint(track, 6, shifted(followed.video, 6, 4))
    assert followed.session.predict_span(track)[0] == Span(0, T)
    track.masks[6:7] = before[None]
    assert followed.session.predict_span(track)[0] is None


def test_stroke_undone_after_a_run_has_its_span_run_again(followed: Study) -> None:
    track, session = the_track(followed), followed.session
    before = track.masks[6]
    paint(track, 6, shifted(followed.video, 6, 4))
    session.repropagate(track)
    track.masks[6:7] = before[None]
    assert track.masks.owned_frames == ()
    session.repropagate(track)
    np.testing.assert_array_equal(np.asarray(track.masks) != 0, followed.video.masks)


def test_restored_prediction_is_a_models_frame_again(followed: Study) -> None:
    track, session = the_track(followed), followed.session
    session.mark_absent(track, 6)
    assert session.restore_prediction(track, 6)
    np.testing.assert_array_equal(track.masks.mask(6), followed.video.masks[6])
    assert track.masks.owned_frames == ()
    assert session.predict_span(track)[0] is None
    assert not session.restore_prediction(track, 6)


def test_strokes_are_told_as_provenance_not_as_frames_to_redraw(followed: Study) -> None:
    track = the_track(followed)
    paint(track, 6, shifted(followed.video, 6, 4))
    assert followed.heard.provenances == [(track.track_id, (6,))]
    assert followed.heard.frames == []


# -- running -----------------------------------------------------------------------------------------------------


def test_progress_tells_the_stage_and_counts_distinct_frames(study: Study) -> None:
    study.segmenter.before_frame = lambda frame: setattr(study.clock, "now_s", study.clock.now_s + 0.5)
    study.session.ask("the red disc")
    stages = [progress.stage for progress in study.heard.progress]
    assert stages[0] == "waking the model"
    assert set(stages[2:]) == {"following"}
    last = study.heard.progress[-1]
    assert (last.num_done, last.num_total, last.elapsed_s) == (T, T, 6.0)
    assert study.heard.busy == [True, False]


def test_frame_that_comes_twice_counts_once_and_the_last_result_stays(study: Study) -> None:
    once = study.segmenter.run

    def twice(frames: Any, job: Any, should_stop: Any) -> Any:
        for result in once(frames, job, should_stop):
            yield FrameResult(result.frame, ~result.mask, 0.5, 0.5, Provenance.PREDICTED, job.revision)
            yield result

    study.segmenter.run = twice  # type: ignore[method-assign]
    track = study.session.ask("the red disc")
    assert study.heard.progress[-1].num_done == T
    np.testing.assert_array_equal(np.asarray(track.masks) != 0, study.video.masks)
    assert track.anchors.model_anchors() == (0, 4, 8)


def test_estimate_is_the_span_at_the_measured_rate(study: Study) -> None:
    study.segmenter.before_frame = lambda frame: setattr(study.clock, "now_s", study.clock.now_s + 0.5)
    track = study.session.ask("the red disc")
    study.session.correct(track, 5)
    assert study.session.predict_span(track) == (Span(0, T), pytest.approx(11 * 0.5))


def test_estimate_is_unknown_before_the_first_run(study: Study) -> None:
    track = study.session.ask(Query("", "by hand"))
    assert study.session.predict_span(track) == (None, None)
    paint(track, 2, study.video.masks[2])
    assert study.session.predict_span(track) == (Span(0, T), None)


def test_a_video_that_shows_nothing_of_a_query_is_a_notice(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study.segmenter, "predict", lambda anchors, frame: np.zeros_like(study.video.masks[frame]))
    track = study.session.ask("the disc")
    said = "“the disc” is not in this video, says the model: use other words, or paint it on one frame, then run."
    assert study.heard.notices == [said]
    study.session.mark_absent(track, 3)
    study.session.repropagate(track)
    assert study.heard.notices == [said]


def test_nothing_is_said_of_a_part_that_shows_nothing(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    track = study.session.ask("the disc")
    monkeypatch.setattr(study.segmenter, "predict", lambda anchors, frame: np.zeros_like(study.video.masks[frame]))
    study.session.mark_absent(track, 3)
    study.session.repropagate(track)
    assert study.heard.notices == []


def test_unknown_words_are_said_once_per_track(study: Study) -> None:
    track = study.session.ask("the purple giraffe")
    said = "'purple' and 'giraffe' are unknown to the compact model and were ignored; the full model knows them."
    assert study.heard.notices == [said]
    study.session.run(track)
    assert study.heard.notices == [said]
    study.session.ask("the giraffe")
    assert study.heard.notices[1:] == [
        "'giraffe' is unknown to the compact model and was ignored; the full model knows it."
    ]


def test_results_of_an_older_revision_are_dropped(followed: Study) -> None:
    track = the_track(followed)
    followed.session.run(track)
    result = FrameResult(3, ~followed.video.masks[3], 1.0, 1.0, Provenance.PROPAGATED, revision=1)
    assert not followed.session.accept(track.track_id, result)
    np.testing.assert_array_equal(track.masks.mask(3), followed.video.masks[3])


def test_results_of_an_unknown_track_are_dropped(followed: Study) -> None:
    result = FrameResult(3, followed.video.masks[3], 1.0, 1.0, Provenance.PROPAGATED, revision=1)
    assert not followed.session.accept("no such track", result)


def test_results_outside_the_asked_span_are_dropped(study: Study) -> None:
    run = study.segmenter.run

    def too_far(frames: Any, job: Any, should_stop: Any) -> Any:
        yield from run(frames, job, should_stop)
        yield study.segmenter.result(job, 9)

    study.segmenter.run = too_far  # type: ignore[method-assign]
    track = study.session.ask("the red disc", Span(0, 4))
    assert track.masks.provenance(9) is Provenance.EMPTY


def test_frame_painted_during_a_run_keeps_its_pixels(study: Study) -> None:
    painted = shifted(study.video, 7, 4)

    def paint_meanwhile(frame: int) -> None:
        if frame == 7:
            paint(the_track(study), 7, painted)

    study.segmenter.before_frame = paint_meanwhile
    track = study.session.ask("the red disc")
    np.testing.assert_array_equal(track.masks.mask(7), painted)
    assert track.masks.provenance(7) is Provenance.CORRECTED
    np.testing.assert_array_equal(track.masks.mask(8), study.video.masks[8])
    assert study.session.predict_span(track)[0] == Span(0, T)


def test_frame_painted_during_a_run_and_handed_back_is_unfinished(study: Study) -> None:
    def paint_meanwhile(frame: int) -> None:
        if frame == 7:
            paint(the_track(study), 7, shifted(study.video, 7, 4))

    study.segmenter.before_frame = paint_meanwhile
    track = study.session.ask("the red disc")
    study.segmenter.before_frame = lambda frame: None
    study.session.restore_prediction(track, 7)
    frames_run(study)
    study.session.repropagate(track)
    assert frames_run(study) == [7]
    np.testing.assert_array_equal(np.asarray(track.masks) != 0, study.video.masks)


def test_cancelled_run_keeps_its_frames_and_the_rest_is_resumed(study: Study) -> None:
    study.segmenter.before_frame = lambda frame: study.session.cancel() if frame == 4 else None
    track = study.session.ask("the red disc")
    assert computed(study) == [0, 1, 2, 3, 4]
    assert not study.session.busy
    assert study.heard.failed == []
    study.segmenter.before_frame = lambda frame: None
    frames_run(study)
    assert study.session.predict_span(track)[0] == Span(5, T)
    study.session.repropagate(track)
    assert frames_run(study) == [5, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(np.asarray(track.masks) != 0, study.video.masks)
    assert study.session.predict_span(track)[0] is None


def test_correction_after_a_cancelled_run_adds_its_span_to_the_rest(study: Study) -> None:
    study.segmenter.before_frame = lambda frame: study.session.cancel() if frame == 8 else None
    track = study.session.ask("the red disc")
    study.segmenter.before_frame = lambda frame: None
    for frame in (2, 4):
        study.session.correct(track, frame)
    frames_run(study)
    study.session.repropagate(track)
    assert frames_run(study) == list(range(T))


def test_failing_model_is_told_and_the_session_goes_on(study: Study) -> None:
    def fail(frame: int) -> None:
        if frame == 5:
            raise RuntimeError("the tensor is too tense")

    study.segmenter.before_frame = fail
    track = study.session.ask("the red disc")
    (message,) = study.heard.failed
    assert "the tensor is too tense" in message
    assert study.heard.busy == [True, False]
    assert computed(study) == [0, 1, 2, 3, 4]
    study.segmenter.before_frame = lambda frame: None
    study.session.repropagate(track)
    np.testing.assert_array_equal(np.asarray(track.masks) != 0, study.video.masks)


def test_model_that_cannot_be_woken_is_told(tmp_path: Path) -> None:
    def asleep() -> Any:
        raise CheckpointError("The model must be on disk; got no file; download it.")

    from napari_virst.engine.runner import InlineRunner

    session = AnnotationSession(draw_moving_disc(), asleep, InlineRunner(), tmp_path / "p")
    failed: list[str] = []
    session.failed.connect(failed.append)
    track = session.ask("the red disc")
    assert failed == ["The model must be on disk; got no file; download it."]
    assert not session.busy
    assert session.predict_span(track)[0] == Span(0, T)
    session.close()


def test_mask_that_does_not_fit_fails_the_run(study: Study) -> None:
    study.segmenter.predict = lambda anchors, frame: np.ones((3, 3), bool)  # type: ignore[method-assign]
    study.session.ask("the red disc")
    assert len(study.heard.failed) == 1
    assert "must have the video's shape" in study.heard.failed[0]
    assert not study.session.busy


def test_disk_that_is_too_small_is_a_notice(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(study.session.folder)._replace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    study.session.ask(Query("", "by hand"))
    assert "too small for masks on every frame" in study.heard.notices[0]
    assert study.heard.failed == []


def test_full_disk_fails_the_run_and_not_the_session(followed: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(followed.session.folder)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    followed.session.run(the_track(followed))
    assert "make room" in followed.heard.failed[0]
    assert not followed.session.busy


# -- in a thread -------------------------------------------------------------------------------------------------


@pytest.fixture
def desk() -> OwnerThread:
    return OwnerThread()


@pytest.fixture
def threaded(tmp_path: Path, desk: OwnerThread) -> Any:
    runner = ThreadRunner(desk.dispatch)
    study = start_study(tmp_path / "threaded", runner)
    yield study
    study.session.close()
    runner.close()


def test_model_wakes_and_works_in_the_worker(threaded: Study, desk: OwnerThread) -> None:
    threads: set[str] = set()
    threaded.segmenter.before_frame = lambda frame: threads.add(threading.current_thread().name)
    track = threaded.session.ask("the red disc")
    assert threaded.session.busy
    desk.work_until(lambda: not threaded.session.busy)
    assert threads == {"napari-virst worker"}
    np.testing.assert_array_equal(np.asarray(track.masks) != 0, threaded.video.masks)


def test_new_run_replaces_one_at_work_without_looking_idle_between(threaded: Study, desk: OwnerThread) -> None:
    gate = threading.Semaphore(3)
    threaded.segmenter.before_frame = lambda frame: assert_(gate.acquire(timeout=TIMEOUT_S))
    track = threaded.session.ask("the red disc")
    desk.work_until(lambda: len(threaded.heard.frames) == 3)
    paint(track, 1, shifted(threaded.video, 1, 4))
    job = threaded.session.repropagate(track)
    assert job is not None
    assert job.span == Span(0, T)
    gate.release(100)
    desk.work_until(lambda: not threaded.session.busy)
    assert threaded.heard.busy == [True, False]
    assert threaded.heard.failed == []
    for frame in range(T):
        np.testing.assert_array_equal(track.masks.mask(frame), shifted(threaded.video, frame, 4))


def test_closing_during_a_run_drops_what_still_comes(threaded: Study, desk: OwnerThread) -> None:
    gate = threading.Semaphore(3)
    threaded.segmenter.before_frame = lambda frame: assert_(gate.acquire(timeout=TIMEOUT_S))
    track = threaded.session.ask("the red disc")
    desk.work_until(lambda: len(threaded.heard.frames) == 3)
    gate.release(100)
    threaded.session.close()
    threaded.session.close()
    desk.work_until(lambda: not threaded.session.busy)
    assert len(threaded.heard.frames) == 3
    assert (track.masks.provenances != Provenance.EMPTY).sum() == 3
    assert threaded.heard.failed == []
    assert threaded.actions == ["ask", "run", "result"]


def test_runs_of_two_tracks_wait_for_each_other(threaded: Study, desk: OwnerThread) -> None:
    a, b = threaded.session.ask("the red disc"), threaded.session.ask("the disc")
    desk.work_until(lambda: not threaded.session.busy)
    for track in (a, b):
        np.testing.assert_array_equal(np.asarray(track.masks) != 0, threaded.video.masks)
    assert threaded.heard.busy == [True, False]


def test_cancel_stops_running_and_waiting_tracks(threaded: Study, desk: OwnerThread) -> None:
    gate = threading.Semaphore(2)
    threaded.segmenter.before_frame = lambda frame: assert_(gate.acquire(timeout=TIMEOUT_S))
    a, b = threaded.session.ask("the red disc"), threaded.session.ask("the disc")
    desk.work_until(lambda: len(threaded.heard.frames) == 2)
    threaded.session.cancel()
    gate.release(100)
    desk.work_until(lambda: not threaded.session.busy)
    assert 2 <= len(threaded.heard.frames) <= 3
    assert threaded.session.predict_span(b)[0] == Span(0, T)
    assert threaded.session.predict_span(a)[0] is not None


def assert_(condition: bool) -> None:
    assert condition, "the gate stayed shut"


# -- the project -------------------------------------------------------------------------------------------------


def test_reopened_project_is_exactly_the_same(followed: Study) -> None:
    track, session = the_track(followed), followed.session
    paint(track, 2, shifted(followed.video, 2, 3), label=700)
    session.correct(track, 5)
    session.accept_frame(track, 6)
    session.mark_absent(track, 9)
    session.exclude_anchor(track, 4)
    session.ask(Query("the disc", "second"), Span(2, 5))
    again = followed.reopen().session
    assert [one.track_id for one in again.tracks] == [one.track_id for one in session.tracks]
    for old, new in zip(session.tracks, again.tracks, strict=True):
        assert new.record() == old.record()
        np.testing.assert_array_equal(np.asarray(new.masks), np.asarray(old.masks))
        np.testing.assert_array_equal(new.masks.provenances, old.masks.provenances)
        np.testing.assert_array_equal(new.last_presence, old.last_presence)
        np.testing.assert_array_equal(new.last_iou, old.last_iou)
        assert new.anchors.describe() == old.anchors.describe()
        assert again.predict_span(new)[0] == session.predict_span(old)[0]
    assert again.opening_notices == ()
    assert again.video == session.video


def test_reopened_project_goes_on(followed: Study) -> None:
    paint(the_track(followed), 6, shifted(followed.video, 6, 4))
    again = followed.reopen()
    track = again.session.tracks[0]
    job = again.session.repropagate(track)
    assert job is not None
    assert job.revision == 2
    np.testing.assert_array_equal(track.masks.mask(7), shifted(followed.video, 7, 4))
    paint(track, 7, followed.video.masks[7])
    assert again.heard.provenances[-1] == (track.track_id, (7,))
    assert again.session.ask("the red disc").track_id != track.track_id


def test_ledger_has_one_line_for_each_thing_done(followed: Study) -> None:
    track, session = the_track(followed), followed.session
    paint(track, 2, shifted(followed.video, 2, 3))
    session.correct(track, 2)
    session.mark_absent(track, 9)
    session.give_mask(track, 10, followed.video.masks[10])
    session.repropagate(track)
    entries = list(ProjectFolder(session.folder).ledger())
    assert [entry.action for entry in entries] == [
        "ask", "run", "result", "paint", "correct", "absent", "give", "run", "result",
    ]  # fmt: skip
    assert {entry.track for entry in entries} == {track.track_id}
    assert [entry.frames for entry in entries[3:7]] == [(2,), (2,), (9,), (10,)]
    assert entries[0].detail == {"text": "the red disc"}
    assert entries[2].frames == tuple(range(T))
    assert entries[2].detail == {"outcome": "finished", "revision": 1, "model": "compact", "device": "cpu"}
    assert 0 < entries[4].detail["iou_with_prediction"] < 1
    assert all(entry.time_iso for entry in entries)


def test_one_drag_of_the_brush_is_one_line(followed: Study) -> None:
    track = the_track(followed)
    for column in range(5):
        followed.clock.now_s += 0.1
        track.masks[6, 0, column] = 1
    assert followed.actions.count("paint") == 1
    followed.clock.now_s += 2
    track.masks[6, 1, 0] = 1
    assert followed.actions.count("paint") == 2
    track.masks[7, 1, 0] = 1
    assert followed.actions.count("paint") == 3


def test_ledger_that_cannot_be_written_does_not_break_the_stroke(followed: Study) -> None:
    followed.session._files.ledger_path.unlink()
    followed.session._files.ledger_path.mkdir()
    track = the_track(followed)
    track.masks[6, 0, 0] = 7
    assert track.masks[6, 0, 0] == 7
    assert "ledger" in followed.heard.failed[0]
    followed.session._files.ledger_path.rmdir()


def test_video_of_another_shape_is_refused(followed: Study) -> None:
    with pytest.raises(ProjectError, match=r"\(12, 32, 48\) of this project's video; got \(9, 32, 48\)"):
        followed.reopen(draw_moving_disc(9))


def test_other_frames_of_the_same_shape_are_a_notice(followed: Study) -> None:
    other = draw_moving_disc()
    object.__setattr__(other, "fingerprint", "other")
    (notice,) = followed.reopen(other).session.opening_notices
    assert "The frames differ" in notice


def test_new_session_refuses_a_folder_with_a_project(followed: Study) -> None:
    with pytest.raises(ProjectError, match="open that project"):
        start_study(followed.session.folder)


@pytest.mark.parametrize("suffix", [".tif", ".npy"], ids=["masks", "records"])
def test_missing_file_is_named_and_not_made_anew(followed: Study, suffix: str) -> None:
    path = the_track(followed).masks.path.with_suffix(suffix)
    path.unlink()
    with pytest.raises(ProjectError, match=f"lacks masks/the-red-disc-1{suffix}; restore"):
        followed.reopen()
    assert not path.exists()


def test_session_that_cannot_save_still_closes_its_runner(followed: Study) -> None:
    path = followed.session._files.project_path
    path.unlink()
    path.mkdir()
    with pytest.raises(ProjectError, match="must be saved"):
        followed.session.close()
    path.rmdir()
    with pytest.raises(SegmentationError, match="must be open"):
        followed.session.run(the_track(followed))


def test_new_name_of_a_track_is_kept_and_its_words_stay(followed: Study) -> None:
    track = the_track(followed)
    words = track.query.text
    followed.session.rename_track(track, " mother  cell ")
    assert followed.reopen().session.tracks[0].query == Query(words, "mother cell")


def test_track_without_words_keeps_its_name_where_the_new_one_is_empty(followed: Study) -> None:
    track = followed.session.ask(Query("", "object"))
    with pytest.raises(QueryError):
        followed.session.rename_track(track, "  ")
    assert track.query.name == "object"


def test_removed_track_stays_away_and_its_masks_stay_on_disk(followed: Study) -> None:
    track = the_track(followed)
    removed: list[Track] = []
    followed.session.track_removed.connect(removed.append)
    followed.session.remove_track(track)
    assert removed == [track]
    assert followed.session.tracks == ()
    assert track.masks.path.exists()
    assert followed.reopen().session.tracks == ()
    assert followed.session.ask("the red disc").track_id != track.track_id
    with pytest.raises(KeyError):
        followed.session.track(track.track_id)


DIES = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from fixtures.study import start_study, paint, shifted
from pathlib import Path
study = start_study(Path({folder!r}))
def meanwhile(frame):
    if frame == 6:
        track = study.session.tracks[0]
        paint(track, 3, shifted(study.video, 3, 4), label=9)
        paint(track, 9, shifted(study.video, 9, 4), label=9)
        print("painted", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
study.segmenter.before_frame = meanwhile
study.session.ask("the red disc")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process outright")
def test_process_killed_in_the_middle_of_a_run_loses_no_stroke(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    script = DIES.format(tests=str(Path(__file__).parents[1]), folder=str(folder))
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "painted\n"), died.stderr
    video = draw_moving_disc()
    again = Study.open(folder, video)
    track = again.session.tracks[0]
    for frame in (3, 9):
        np.testing.assert_array_equal(track.masks[frame], shifted(video, frame, 4) * 9)
        assert track.masks.provenance(frame) is Provenance.CORRECTED
    np.testing.assert_array_equal(track.masks.prediction(3) != 0, video.masks[3])
    assert not track.masks.prediction(9).any()
    assert track.unfinished() == (6, 7, 8, 10, 11)
    again.session.repropagate(track)
    np.testing.assert_array_equal(track.masks.mask(11), shifted(video, 11, 4))
    assert again.actions == ["ask", "run", "paint", "paint", "run", "result"]
    again.session.close()


# -- one window at a time ----------------------------------------------------------------------------------------


def test_open_project_cannot_be_opened_again_until_it_is_closed(followed: Study) -> None:
    video, folder = followed.video, followed.session.folder
    with pytest.raises(ProjectError, match="open in one window at a time"):
        AnnotationSession.open(folder, video, lambda: followed.segmenter, followed.session._runner)
    followed.session.close()
    again = Study.open(folder, video)
    assert len(again.session.tracks) == 1
    again.session.close()
