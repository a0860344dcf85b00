"""Learning from corrections, as a session does it beside, tells of it, and uses it."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fixtures.segmenter import DiscSegmenter
from fixtures.study import paint, shifted, start_study
from fixtures.worker import TIMEOUT_S, OwnerThread

from napari_virst.engine.protocol import LearningSegmenter
from napari_virst.engine.runner import ThreadRunner
from napari_virst.errors import SegmentationError
from napari_virst.records import Learned, Provenance, Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fixtures.study import Study

T = 12
HELPED = Learned(2, 0.81, 0.88, True)
DROPPED = Learned(2, 0.81, 0.8, False)


class Pupil(DiscSegmenter):
    """A disc segmenter that says what it is told to of learning, and names it by the frames learned from."""

    outcome: Learned = HELPED

    def learn(self, frames, job, should_stop) -> Learned | None:
        self.lessons = [*getattr(self, "lessons", []), job]
        shown = [anchor for anchor in job.anchors if not anchor.is_absent]
        name = " ".join(str(anchor.frame) for anchor in shown)
        return replace(self.outcome, num_corrections=len(shown), name=name) if len(shown) > 1 else None


@pytest.fixture
def study(study: Study) -> Study:
    study.segmenter.__class__ = Pupil
    study.segmenter.lessons = []
    return study


def correct(study: Study, track, *frames: int) -> None:
    for frame in frames:
        study.session.give_mask(track, frame, study.video.masks[frame])


def corrected(study: Study, *frames: int):
    """A track with corrections that a run has followed."""
    track = study.session.ask("the red disc")
    correct(study, track, *frames)
    study.session.repropagate(track)
    return track


def learning_notices(study: Study) -> list[str]:
    return [notice for notice in study.heard.notices if "earn" in notice]


def test_learning_is_off_until_asked_for(study: Study) -> None:
    track = corrected(study, 2, 8)
    assert isinstance(study.segmenter, LearningSegmenter)
    assert not track.learns
    assert study.segmenter.lessons == []
    assert not any(job.learn or job.adapter for job in study.segmenter.jobs)


def test_learning_follows_the_run_of_a_correction(study: Study) -> None:
    track = study.session.ask("the red disc")
    study.session.set_learning(track)
    correct(study, track, 2, 8)
    assert study.segmenter.lessons == []
    job = study.session.repropagate(track)
    assert job is not None
    assert (job.learn, job.adapter) == (False, "")
    (lesson,) = study.segmenter.lessons
    assert [anchor.frame for anchor in lesson.anchors] == [2, 8]
    assert learning_notices(study)[1:] == ["Learned from 2 corrections: 0.81 → 0.88, each looked at from the others."]


def test_next_run_uses_what_was_learned_and_goes_over_the_whole_video_the_first_time(study: Study) -> None:
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    job = study.session.repropagate(track)
    assert job is not None
    assert (job.adapter, job.span, job.known_mask) == ("2 8", Span(0, T), None)
    assert study.session.repropagate(track) is None
    assert len(study.segmenter.lessons) == 1


def test_what_is_learned_from_further_corrections_is_for_what_follows_from_them(study: Study) -> None:
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    for frame, span, adapter in ((5, Span(3, 8), "2 8"), (6, Span(6, 8), "2 5 8")):
        correct(study, track, frame)
        job = study.session.repropagate(track)
        assert job is not None
        assert (job.span, job.adapter) == (span, adapter)
    assert [len(lesson.anchors) for lesson in study.segmenter.lessons] == [2, 3, 4]
    assert track.spans_to_run() == ()


def test_what_was_learned_from_a_correction_that_is_gone_is_not_used(study: Study) -> None:
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    assert track.adapter
    study.session.restore_prediction(track, 8)
    assert not track.adapter
    job = study.session.repropagate(track)
    assert job is not None
    assert not job.adapter


def test_what_did_not_help_is_dropped_and_not_used(study: Study) -> None:
    study.segmenter.outcome = DROPPED
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    assert learning_notices(study) == [
        "Learning from 2 corrections did not help and was dropped: 0.81 → 0.80, each looked at from the others."
    ]
    assert track.spans_to_run() == ()
    correct(study, track, 5)
    job = study.session.repropagate(track)
    assert job is not None
    assert not job.adapter


def test_switching_off_computes_the_whole_video_without_it(study: Study) -> None:
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    study.session.set_learning(track, on=False)
    job = study.session.repropagate(track)
    assert job is not None
    assert (job.adapter, job.span) == ("", Span(0, T))
    assert study.session.repropagate(track) is None


def test_switching_on_tells_whether_there_is_anything_to_learn(study: Study) -> None:
    track = corrected(study, 2, 8)
    assert study.session.set_learning(track)
    assert not study.session.set_learning(track)
    assert not study.session.set_learning(track, on=False)
    assert not study.session.set_learning(track), "the corrections are those it has learned from"


def test_switching_off_before_anything_was_used_leaves_nothing_to_run(study: Study) -> None:
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    study.session.set_learning(track, on=False)
    assert track.spans_to_run() == ()


def test_with_one_correction_it_says_when_learning_begins(study: Study) -> None:
    track = corrected(study, 2)
    study.session.set_learning(track)
    assert learning_notices(study) == ["Learning begins with the second corrected frame that shows the object."]
    assert study.segmenter.lessons == []
    assert study.session.repropagate(track) is None


class Particular(Pupil):
    """Knows only what it has learned itself."""

    def run(self, frames, job, should_stop):
        self.known = [job.adapter in [" ".join(str(a.frame) for a in lesson.anchors) for lesson in self.lessons]]
        yield from super().run(frames, job, should_stop)


@pytest.mark.parametrize("change", ["loaded anew", "another device"])
def test_another_model_learns_anew_from_the_same_corrections(study: Study, change: str) -> None:
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    other = Particular(study.video)
    other.lessons = []
    other.device = "cuda:0" if change == "another device" else other.device
    study.session._runs._wake = lambda: other
    study.session.run(track)
    assert other.known == [False]
    assert [len(lesson.anchors) for lesson in other.lessons] == [2]
    job = study.session.repropagate(track)
    assert job is not None
    assert (job.adapter, job.span) == ("2 8", Span(0, T))
    assert other.known == [True]
    assert track.spans_to_run() == ()


def test_same_corrections_are_learned_from_once(study: Study) -> None:
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    study.session.run(track)
    study.session.run(track)
    assert len(study.segmenter.lessons) == 1


def test_many_corrections_are_spread_over_time(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_virst.session.track.NUM_LESSONS", 4)
    track = study.session.ask("the red disc")
    study.session.set_learning(track)
    study.session.accept_frames(track, Span(0, T))
    lesson = track.lesson()
    assert lesson is not None
    assert [anchor.frame for anchor in lesson.anchors] == [0, 4, 7, 11]


def test_the_switch_survives_closing_and_what_was_learned_does_not(study: Study) -> None:
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    again = study.reopen()
    again.segmenter.__class__ = Pupil
    (reopened,) = again.session.tracks
    assert reopened.learns
    assert not reopened.adapter
    assert reopened.spans_to_run() == ()
    correct(again, reopened, 5)
    job = again.session.repropagate(reopened)
    assert job is not None
    assert not job.adapter
    assert [len(lesson.anchors) for lesson in again.segmenter.lessons] == [3]


def test_learning_leaves_every_corrected_pixel_alone(study: Study) -> None:
    track = study.session.ask("the red disc")
    painted = np.roll(study.video.masks[2], 3, axis=0)
    study.session.give_mask(track, 2, painted)
    correct(study, track, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    study.session.repropagate(track)
    np.testing.assert_array_equal(track.masks.mask(2), painted)
    assert track.masks.provenance(2) is Provenance.CORRECTED


def test_a_segmenter_that_cannot_learn_runs_as_ever(study: Study) -> None:
    study.segmenter.__class__ = DiscSegmenter
    track = study.session.ask("the red disc")
    study.session.set_learning(track)
    correct(study, track, 2, 8)
    assert study.session.repropagate(track) is not None
    assert not study.heard.failed


def test_failing_to_learn_is_said_and_the_next_run_is_as_ever(study: Study) -> None:
    def fail(*_args: object) -> None:
        raise SegmentationError("no memory left on the moon")

    study.segmenter.learn = fail
    track = corrected(study, 2, 8)
    study.session.set_learning(track)
    assert study.heard.failed == ["no memory left on the moon"]
    correct(study, track, 5)
    assert study.session.repropagate(track) is not None


def test_the_ledger_tells_of_the_switch_and_of_what_came_of_it(study: Study) -> None:
    track = study.session.ask("the red disc")
    correct(study, track, 2, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    assert study.actions[-4:] == ["learning on", "learn", "run", "result"]


# -- in a worker's thread ----------------------------------------------------------------------------------------


class SlowPupil(Pupil):
    """Learns in steps, each of which waits for the test."""

    def learn(self, frames, job, should_stop) -> Learned | None:
        self.begun.release()
        while not self.may_end.is_set():
            if should_stop():
                self.stopped.append(job)
                return None
            self.may_end.wait(0.005)
        return super().learn(frames, job, should_stop)


@pytest.fixture
def owner() -> OwnerThread:
    return OwnerThread()


@pytest.fixture
def slow(tmp_path: Path, owner: OwnerThread) -> Iterator[Study]:
    """A study that is learning, in a worker's thread, from two corrections that have been followed."""
    runner = ThreadRunner(owner.dispatch)
    slow = start_study(tmp_path / "slow", runner)
    slow.segmenter.__class__ = SlowPupil
    slow.segmenter.begun, slow.segmenter.may_end = threading.Semaphore(0), threading.Event()
    slow.segmenter.stopped = []
    track = slow.session.ask("the red disc")
    slow.session.set_learning(track)
    correct(slow, track, 2, 8)
    slow.session.repropagate(track)
    owner.work_until(lambda: not slow.session.busy)
    assert slow.segmenter.begun.acquire(timeout=TIMEOUT_S)
    yield slow
    slow.segmenter.may_end.set()
    slow.close()
    runner.close()


def test_learning_is_not_being_busy(slow: Study) -> None:
    assert not slow.session.busy
    assert slow.heard.busy[-1] is False
    assert slow.session.learning


@pytest.mark.parametrize("wish", ["query", "correction"])
def test_whatever_is_asked_for_ends_learning_and_is_done_first(slow: Study, owner: OwnerThread, wish: str) -> None:
    (track,) = slow.session.tracks
    if wish == "query":
        slow.session.ask("the disc")
    else:
        paint(track, 5, shifted(slow.video, 5, 2))
        slow.session.repropagate(track)
    owner.work_until(lambda: not slow.session.busy)
    assert len(slow.segmenter.stopped) == 1
    assert not track.adapter
    assert slow.segmenter.begun.acquire(timeout=TIMEOUT_S), "it begins anew when nothing runs"
    slow.segmenter.may_end.set()
    owner.work_until(lambda: bool(track.adapter))
    assert track.adapter == ("2 8" if wish == "query" else "2 5 8")


@pytest.mark.parametrize("end", ["cancel", "switch off", "remove", "close"])
def test_learning_ends_for_good_when_told_to(slow: Study, owner: OwnerThread, end: str) -> None:
    (track,) = slow.session.tracks
    {
        "cancel": slow.session.cancel,
        "switch off": lambda: slow.session.set_learning(track, on=False),
        "remove": lambda: slow.session.remove_track(track),
        "close": slow.session.close,
    }[end]()
    slow.session._runner.close()
    assert len(slow.segmenter.stopped) == 1
    assert not slow.segmenter.begun.acquire(blocking=False)
    assert not track.adapter
    assert slow.heard.failed == []
