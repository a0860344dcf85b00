"""Told to stop, whatever it is busy with, the engine is done within a frame of work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fixtures.frames import draw_moving_disc

from napari_virst.engine.flow import Flow
from napari_virst.engine.options import LearningRule
from napari_virst.engine.predictor import Predictor, PredictorOptions
from napari_virst.engine.reading import NUM_FRAMES_AHEAD
from napari_virst.model.segmenter import Segmenter
from napari_virst.records import Anchor, Job, Query, Span

if TYPE_CHECKING:
    import numpy as np

T = 16


class Watched:
    """A video that tells which frames are read, in whichever thread."""

    def __init__(self, on_read=lambda frame: None) -> None:
        self.video, self.read, self.on_read = draw_moving_disc(num_frames=T), [], on_read
        self.shape, self.fingerprint = self.video.shape, self.video.fingerprint

    def __getitem__(self, frame: int) -> np.ndarray:
        self.read.append(frame)
        self.on_read(frame)
        return self.video[frame]


class Stop:
    """Nobody has asked for a stop, until it is called for; counts how often it is looked at from then on."""

    def __init__(self) -> None:
        self.wanted, self.num_looks = False, 0

    def now(self, *_: object) -> None:
        self.wanted = True

    def __call__(self) -> bool:
        self.num_looks += self.wanted
        return self.wanted


@pytest.fixture
def predictor(shared_tiny_model):
    rule = LearningRule(num_steps=40, min_gain=-1.0)
    options = PredictorOptions(presence_threshold=-1.0, agreement_iou=0.0, learning=rule)
    return Predictor(*shared_tiny_model, "tiny", options)


def words(text: str = "the red circle", **parts) -> Job:
    return Job(Query(text), Span(0, T), **parts)


def corrections(video: Watched, *frames: int) -> tuple[Anchor, ...]:
    return tuple(Anchor(frame, video.video.masks[frame]) for frame in frames)


def test_while_language_looks_at_the_frames(predictor):
    stop = Stop()
    video = Watched(stop.now)
    assert list(predictor.run(video, words(), stop)) == []
    assert len(video.read) <= 1 + NUM_FRAMES_AHEAD
    assert stop.num_looks == 1


@pytest.mark.parametrize("num_jobs", [1, 3], ids=["one query", "three together"])
def test_while_following_and_reading_ahead(predictor, num_jobs):
    stop, results = Stop(), []
    video = Watched()
    jobs = [words(text) for text in ("the red circle", "a star", "it")[:num_jobs]]
    for index, result in predictor.run_many(video, jobs, stop):
        if stop.wanted:
            results.append((index, result.frame))
        if len(results) == 0 and result.provenance.name == "PROPAGATED" and not stop.wanted:
            stop.now()
            video.read.clear()
    assert len({frame for _, frame in results}) <= 1
    assert len(results) < max(num_jobs, 1)
    assert len(video.read) <= NUM_FRAMES_AHEAD + 1


def test_while_a_frame_is_slow_to_read(predictor):
    """The frame in work is finished, and no other is."""
    stop = Stop()
    video = Watched(lambda frame: stop.now() if frame == 12 else None)
    job = Job(Query("", name="it"), Span(0, T), corrections(video, 1))
    frames = [result.frame for result in predictor.run(video, job, stop)]
    assert max(frames, default=0) <= 12
    assert stop.num_looks <= 1


def test_while_a_mask_is_carried_back(predictor, monkeypatch):
    """Flow looks at many frames for one: it stops between two of them, and no frame comes half told."""
    stop, looked, whole = Stop(), [], Flow.between

    def between(self, *pictures):
        looked.append(True)
        if len(looked) == 3:
            stop.now()
        return whole(self, *pictures)

    monkeypatch.setattr(Flow, "between", between)
    video = Watched()
    job = Job(Query("", name="it"), Span(0, 9), corrections(video, 0, 8))
    assert [result.frame for result in predictor.run(video, job, stop)] == []
    assert len(looked) == 3


def test_while_corrections_are_taken_in(predictor, monkeypatch):
    stop, given = Stop(), []
    whole = Segmenter.decode_given

    def give(self, *args, **options):
        given.append(True)
        stop.now()
        return whole(self, *args, **options)

    monkeypatch.setattr(Segmenter, "decode_given", give)
    video = Watched()
    job = Job(Query("", name="it"), Span(0, T), corrections(video, 1, 5, 9, 13))
    assert list(predictor.run(video, job, stop)) == []
    assert len(given) == 1


@pytest.mark.parametrize("when", ["first", "in the middle"])
def test_while_learning(predictor, monkeypatch, when):
    """Within one step of the optimiser."""
    from napari_virst.engine import adapting

    stop, steps, whole = Stop(), [], adapting._loss

    def loss(*args):
        steps.append(stop.wanted)
        if len(steps) == (1 if when == "first" else 25):
            stop.now()
        return whole(*args)

    monkeypatch.setattr(adapting, "_loss", loss)
    video = Watched()
    job = Job(Query("", name="it"), Span(0, T), corrections(video, 1, 5, 9))
    assert predictor.learn(video, job, stop) is None
    assert steps.count(True) == 0
