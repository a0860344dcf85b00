from __future__ import annotations

import threading
from typing import Any

import pytest
from fixtures.frames import draw_moving_disc
from fixtures.segmenter import BatchDiscSegmenter, DiscSegmenter

from napari_virst.engine.protocol import BatchSegmenter, LearningSegmenter
from napari_virst.gui.sessions import ChosenModel, SharedSegmenter
from napari_virst.records import Job, Learned, Query, Span

JOB = Job(Query("the disc"), Span(0, 12))


def test_model_is_loaded_once_until_another_is_chosen() -> None:
    loads: list[tuple[str, str]] = []

    def load(model: str, device: str) -> Any:
        loads.append((model, device))
        return DiscSegmenter(draw_moving_disc())

    model = ChosenModel(load)
    assert loads == []
    assert model() is model()
    model.choose("/a/folder", "cpu")
    model()
    assert loads == [("compact", "auto"), ("/a/folder", "cpu")]


def test_failed_loading_is_tried_again() -> None:
    answers: list[Any] = [OSError("gone"), DiscSegmenter(draw_moving_disc())]

    def load(model: str, device: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    model = ChosenModel(load)
    with pytest.raises(OSError, match="gone"):
        model()
    assert model().name == "compact"


def test_second_run_waits_for_the_first_and_can_be_cancelled_meanwhile() -> None:
    shared = SharedSegmenter(DiscSegmenter(draw_moving_disc()))
    first = shared.run(shared._segmenter.video, JOB, lambda: False)  # type: ignore[attr-defined]
    next(first)
    cancelled = threading.Event()
    second: list[Any] = []
    waiting = threading.Thread(target=lambda: second.extend(shared.run(None, JOB, cancelled.is_set)))  # type: ignore[arg-type]
    waiting.start()
    cancelled.set()
    waiting.join(10)
    assert second == []
    assert len(list(first)) == 11
    assert len(list(shared.run(shared._segmenter.video, JOB, lambda: False))) == 12  # type: ignore[attr-defined]


class Pupil(DiscSegmenter):
    """Learns until it is told to stop, or let end."""

    def __init__(self, video: Any) -> None:
        super().__init__(video)
        self.begun, self.may_end = threading.Semaphore(0), threading.Event()

    def learn(self, frames: Any, job: Job, should_stop: Any) -> Learned | None:
        self.begun.release()
        while not self.may_end.is_set():
            if should_stop():
                return None
            self.may_end.wait(0.005)
        return Learned(2, 0.5, 0.6, True, "it")


def test_shared_segmenter_can_all_that_a_session_asks_for() -> None:
    shared = SharedSegmenter(DiscSegmenter(draw_moving_disc()))
    assert isinstance(shared, BatchSegmenter)
    assert isinstance(shared, LearningSegmenter)


def test_jobs_of_one_session_are_handed_on_as_a_batch() -> None:
    segmenter = BatchDiscSegmenter(draw_moving_disc())
    shared = SharedSegmenter(segmenter)
    results = list(shared.run_many(segmenter.video, (JOB, JOB), lambda: False))
    assert [len(batch) for batch in segmenter.batches] == [2]
    assert sorted({index for index, _ in results}) == [0, 1]


def test_what_cannot_learn_learns_nothing() -> None:
    assert SharedSegmenter(DiscSegmenter(draw_moving_disc())).learn(None, JOB, lambda: False) is None  # type: ignore[arg-type]


def test_run_of_another_session_ends_learning_which_begins_anew_after_it() -> None:
    pupil = Pupil(draw_moving_disc())
    shared = SharedSegmenter(pupil)
    learned: list[Any] = []
    learning = threading.Thread(target=lambda: learned.append(shared.learn(pupil.video, JOB, lambda: False)))
    learning.start()
    assert pupil.begun.acquire(timeout=10)
    assert len(list(shared.run(pupil.video, JOB, lambda: False))) == 12
    assert pupil.begun.acquire(timeout=10)
    pupil.may_end.set()
    learning.join(10)
    assert [one.name for one in learned] == ["it"]
