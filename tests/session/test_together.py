"""Queries that wait together go through the model as one batch, and come out as they do alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import DEFAULT, patch

import numpy as np
import pytest
from fixtures.segmenter import BatchDiscSegmenter, DiscSegmenter
from fixtures.study import Study, paint, shifted, start_study
from fixtures.worker import TIMEOUT_S, OwnerThread

from napari_virst.engine.runner import ThreadRunner
from napari_virst.errors import CheckpointError, ProjectError, QueryError, SegmentationError
from napari_virst.records import Provenance, Query, Span
from napari_virst.session.working import MAX_TOGETHER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_virst.session.session import Track

T = 12
TEXTS = ("the red disc", "the disc", "red")


@pytest.fixture
def batching(study: Study) -> Study:
    study.segmenter.__class__ = BatchDiscSegmenter
    study.segmenter.batches = []
    return study


def test_queries_asked_together_are_one_batch(batching: Study) -> None:
    tracks = batching.session.ask_together(TEXTS)
    (batch,) = batching.segmenter.batches
    assert [job.query.text for job in batch] == list(TEXTS)
    assert batching.segmenter.jobs == []
    for track in tracks:
        np.testing.assert_array_equal(np.asarray(track.masks) != 0, batching.video.masks)
        assert track.spans_to_run() == ()
    assert batching.heard.busy == [True, False]


def test_queries_asked_together_come_out_as_alone(batching: Study, tmp_path: Path) -> None:
    together = batching.session.ask_together(TEXTS)
    alone = start_study(tmp_path / "alone")
    for track, text in zip(together, TEXTS, strict=True):
        other = alone.session.ask(text)
        np.testing.assert_array_equal(np.array(track.masks), np.array(other.masks))
        np.testing.assert_array_equal(track.masks.provenances, other.masks.provenances)
        assert track.record().run == other.record().run
    alone.close()


def test_each_of_a_batch_has_its_own_lines_in_the_ledger(batching: Study) -> None:
    batching.session.ask_together(TEXTS[:2])
    assert batching.actions == ["ask", "ask", "run", "run", "result", "result"]


def test_progress_counts_the_frames_of_all_of_them(batching: Study) -> None:
    batching.session.ask_together(TEXTS)
    following = [p for p in batching.heard.progress if p.stage == "following" and p.num_done]
    assert [p.num_done for p in following] == list(range(1, 3 * T + 1))
    assert {p.num_total for p in following} == {3 * T}
    assert {p.track_ids for p in following} == {tuple(track.track_id for track in batching.session.tracks)}


def test_a_query_without_words_cannot_be_asked_together_and_nothing_is_asked(batching: Study) -> None:
    with pytest.raises(QueryError, match="by itself"):
        batching.session.ask_together(["the disc", Query("", name="a mask")])
    assert batching.session.tracks == ()


def test_a_segmenter_that_knows_no_batches_runs_them_one_after_another(study: Study) -> None:
    tracks = study.session.ask_together(TEXTS)
    assert [job.query.text for job in study.segmenter.jobs] == list(TEXTS)
    for track in tracks:
        np.testing.assert_array_equal(np.asarray(track.masks) != 0, study.video.masks)


def test_more_queries_than_fit_are_several_batches(batching: Study) -> None:
    batching.session.ask_together([f"disc {number}" for number in range(MAX_TOGETHER + 2)])
    assert [len(batch) for batch in batching.segmenter.batches] == [MAX_TOGETHER, 2]


def test_what_fails_together_is_tried_alone(batching: Study, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_args: object) -> Iterator[Any]:
        raise SegmentationError("out of memory")
        yield

    batching.segmenter.run_many = fail
    tracks = batching.session.ask_together(TEXTS)
    assert [job.query.text for job in batching.segmenter.jobs] == list(TEXTS)
    assert all(track.spans_to_run() == () for track in tracks)
    assert batching.heard.failed == []
    assert "tried alone" in caplog.text


# -- in a worker's thread ----------------------------------------------------------------------------------------


class Gated:
    """A study in a worker's thread whose model takes as many frames as it is let."""

    def __init__(self, folder: Path) -> None:
        self.owner = OwnerThread()
        self.runner = ThreadRunner(self.owner.dispatch)
        self.study = start_study(folder, self.runner)
        self.study.segmenter.__class__ = BatchDiscSegmenter
        self.study.segmenter.batches = []
        self.study.segmenter.before_frame = self.wait
        self.gate = threading.Semaphore(0)
        self.session, self.segmenter, self.heard = self.study.session, self.study.segmenter, self.study.heard

    def wait(self, _frame: int) -> None:
        assert self.gate.acquire(timeout=TIMEOUT_S), "the gate stayed shut"

    def until_frames(self, number: int) -> None:
        self.owner.work_until(lambda: len(self.heard.frames) == number)

    def until_idle(self) -> None:
        self.gate.release(1000)
        self.owner.work_until(lambda: not self.session.busy)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Gated]:
    gated = Gated(tmp_path / "threaded")
    yield gated
    gated.gate.release(1000)
    gated.study.close()
    gated.runner.close()


def test_queries_that_come_while_another_waits_join_it(gated: Gated) -> None:
    gated.session.ask("the red disc")
    gated.gate.release(1)
    gated.until_frames(1)
    tracks = [gated.session.ask(text) for text in ("the disc", "red")]
    gated.until_idle()
    assert [job.query.text for job in gated.segmenter.jobs] == ["the red disc"]
    assert [[job.query.text for job in batch] for batch in gated.segmenter.batches] == [["the disc", "red"]]
    assert all(track.spans_to_run() == () for track in tracks)


def test_cancel_keeps_the_finished_frames_of_all_and_is_answered_within_a_frame(gated: Gated) -> None:
    tracks = gated.session.ask_together(TEXTS)
    gated.gate.release(3)
    gated.until_frames(3 * len(TEXTS))
    gated.session.cancel()
    gated.until_idle()
    assert 3 <= len(gated.heard.frames) / len(TEXTS) <= 4
    for track in tracks:
        done = np.flatnonzero(track.masks.provenances != Provenance.EMPTY)
        np.testing.assert_array_equal(np.asarray(track.masks)[done] != 0, gated.study.video.masks[done])
        assert gated.session.predict_span(track)[0] == Span(len(done), T)


def test_cancelled_batch_is_resumed_from_there(gated: Gated) -> None:
    tracks = gated.session.ask_together(TEXTS[:2])
    gated.gate.release(3)
    gated.until_frames(6)
    gated.session.cancel()
    gated.until_idle()
    num_before = len(gated.heard.frames)
    for track in tracks:
        gated.session.repropagate(track)
    gated.until_idle()
    assert len(gated.heard.frames) - num_before == 2 * T - num_before
    assert all(track.spans_to_run() == () for track in tracks)


def test_correction_of_one_of_a_batch_does_not_wait_for_the_others(gated: Gated) -> None:
    """The others are put off, go on behind it as a batch, and keep what they had."""
    first, second, third = gated.session.ask_together(TEXTS)
    gated.gate.release(4)
    gated.until_frames(12)
    gated.session.give_mask(second, 2, shifted(gated.study.video, 2, 3))
    gated.session.repropagate(second)
    gated.until_idle()
    (corrected,) = gated.segmenter.jobs
    assert corrected.query.text == "the disc"
    _, rest = gated.segmenter.batches
    assert [job.query.text for job in rest] == ["the red disc", "red"]
    assert all(job.span.start >= 4 for job in rest)
    for track in (first, third):
        np.testing.assert_array_equal(np.asarray(track.masks) != 0, gated.study.video.masks)
        assert track.spans_to_run() == ()
    np.testing.assert_array_equal(second.masks.mask(7), shifted(gated.study.video, 7, 3))
    assert gated.heard.busy == [True, False]


def put_off_by_a_correction(gated: Gated) -> tuple[Track, Track]:
    """Two tracks that ran as a batch until, after 8 frames of each, the first was corrected."""
    first, second = gated.session.ask_together(TEXTS[:2])
    gated.gate.release(8)
    gated.until_frames(16)
    gated.session.give_mask(first, 10, gated.study.video.masks[10])
    return first, second


def test_stroke_that_is_not_finished_changes_nothing_when_a_batch_goes_on(gated: Gated) -> None:
    first, second = put_off_by_a_correction(gated)
    stroke = shifted(gated.study.video, 2, 3)
    paint(second, 2, stroke)
    gated.session.repropagate(first)
    gated.until_idle()
    expected = gated.study.video.masks.copy()
    expected[2] = stroke
    np.testing.assert_array_equal(np.asarray(second.masks) != 0, expected)
    assert second.touched() == (2,)
    assert second.unfinished() == ()
    gated.session.repropagate(second)
    gated.until_idle()
    np.testing.assert_array_equal(second.masks.mask(7), shifted(gated.study.video, 7, 3))


def test_undo_takes_back_the_whole_of_a_run_that_was_put_off(gated: Gated) -> None:
    first, second = put_off_by_a_correction(gated)
    gated.session.repropagate(first)
    gated.until_idle()
    assert second.spans_to_run() == ()
    assert gated.session.undo(second) == "run"
    assert not np.asarray(second.masks).any()


def test_ledger_that_cannot_be_written_when_a_batch_goes_on_is_said_and_ends_being_busy(gated: Gated) -> None:
    first, second = put_off_by_a_correction(gated)
    gated.session.repropagate(first)
    write = gated.session._journal.write

    def full(action: str, *words: Any, **detail: Any) -> None:
        if action == "run":
            raise ProjectError("The disk must have room.")
        write(action, *words, **detail)

    gated.session._journal.write = full
    gated.until_idle()
    assert gated.heard.failed == ["The disk must have room."]
    assert gated.heard.busy == [True, False]
    assert second.unfinished()


def test_run_that_follows_a_correction_joins_no_batch(gated: Gated) -> None:
    track = gated.session.ask("the red disc")
    gated.gate.release(T)
    gated.owner.work_until(lambda: not gated.session.busy)
    gated.session.ask("the disc")
    gated.gate.release(1)
    gated.until_frames(T + 1)
    gated.session.give_mask(track, 2, shifted(gated.study.video, 2, 3))
    gated.session.repropagate(track)
    gated.session.ask("red")
    gated.until_idle()
    assert gated.segmenter.batches == []
    assert [job.query.text for job in gated.segmenter.jobs] == ["the red disc", "the disc", "the red disc", "red"]


def test_removing_one_of_a_batch_leaves_the_others_to_go_on(gated: Gated) -> None:
    first, second = gated.session.ask_together(TEXTS[:2])
    gated.gate.release(2)
    gated.until_frames(4)
    gated.session.remove_track(second)
    gated.until_idle()
    np.testing.assert_array_equal(np.asarray(first.masks) != 0, gated.study.video.masks)
    assert first.spans_to_run() == ()


def test_closing_during_a_batch_drops_what_still_comes(gated: Gated) -> None:
    tracks = gated.session.ask_together(TEXTS[:2])
    gated.gate.release(2)
    gated.until_frames(4)
    with patch.object(gated.runner, "close", wraps=gated.runner.close) as close:
        close.side_effect = lambda: gated.gate.release(1000) or DEFAULT  # the frame at work comes while closing waits
        gated.session.close()
    gated.until_idle()
    assert len(gated.heard.frames) == 4
    assert [int((track.masks.provenances != 0).sum()) for track in tracks] == [2, 2]
    assert gated.heard.failed == []


# -- several stretches of one track ------------------------------------------------------------------------------


def test_stretches_of_one_run_come_from_the_frame_in_view_outwards(batching: Study) -> None:
    session, track = batching.session, batching.session.ask("the red disc")
    for frame in (4, 8):
        session.give_mask(track, frame, batching.video.masks[frame])
    session.repropagate(track)
    for frame in (2, 10):
        session.give_mask(track, frame, shifted(batching.video, frame, 2))
    batching.heard.forget()
    session.repropagate(track, focus_frame=10)
    assert batching.segmenter.batches == []
    order = [frame for _, frame in batching.heard.frames]
    assert sorted(order[:2]) == [9, 11]
    assert order[2:] == [3, 1, 0]


def test_batch_counts_jobs_not_runs(gated: Gated) -> None:
    gated.session.ask("the red disc")
    gated.gate.release(1)
    gated.until_frames(1)
    waiting = gated.session._runs._waiting
    tracks = gated.session.ask_together([f"disc {number}" for number in range(4)])
    runs = waiting._runs
    assert [run.track_id for run in runs] == [track.track_id for track in tracks]
    for run in runs:
        run.jobs = run.jobs * 3
    batch = waiting.take(runs[0], MAX_TOGETHER)
    assert [run.track_id for run in batch] == [track.track_id for track in tracks[:2]]


# -- the model wakes ---------------------------------------------------------------------------------------------


def test_runs_whose_model_could_not_be_loaded_are_over_and_said_once(study: Study) -> None:
    def broken() -> DiscSegmenter:
        raise CheckpointError("The model folder must have weights.")

    study.segmenter.__class__ = BatchDiscSegmenter
    study.segmenter.batches = []
    study.session._runs._wake = broken
    lost = study.session.ask_together(TEXTS)
    assert study.heard.failed == ["The model folder must have weights."]
    study.heard.forget()
    study.session._runs._wake = lambda: study.segmenter
    study.session.repropagate(lost[1])
    assert study.segmenter.batches == []
    assert [job.query.text for job in study.segmenter.jobs] == [TEXTS[1]]
    assert study.heard.progress[-1].num_done == study.heard.progress[-1].num_total == T
    study.session._runs._wake = broken
    study.session.repropagate(lost[0])
    assert study.heard.failed == ["The model folder must have weights."]


def test_cancel_while_the_model_wakes_is_answered_at_once_and_its_waking_is_not_lost(tmp_path: Path) -> None:
    owner, may_wake, wakes = OwnerThread(), threading.Event(), []
    runner = ThreadRunner(owner.dispatch)
    study = start_study(tmp_path / "project", runner)
    waking = threading.Lock()

    def wake() -> DiscSegmenter:
        with waking:
            if not wakes:
                assert may_wake.wait(TIMEOUT_S)
                wakes.append(True)
            return study.segmenter

    study.session._runs._wake = wake
    track = study.session.ask("the red disc")
    owner.work_until(lambda: bool(study.heard.progress))
    study.session.cancel()
    owner.work_until(lambda: not study.session.busy)
    assert wakes == []
    study.session.repropagate(track)
    may_wake.set()
    owner.work_until(lambda: not study.session.busy)
    assert track.spans_to_run() == ()
    assert wakes == [True]
    study.close()
    runner.close()
