"""Learning from corrections, as a session asks for it and tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from fixtures.segmenter import DiscSegmenter

from napari_virst.engine.protocol import LearningSegmenter
from napari_virst.records import Learned, Provenance, Span

if TYPE_CHECKING:
    from fixtures.study import Study

T = 12
HELPED = Learned(2, 0.81, 0.88, True)


class Pupil(DiscSegmenter):
    """A disc segmenter that says what it is told to of learning."""

    outcome: Learned | None = HELPED

    def learn(self, frames, job, should_stop) -> Learned | None:
        self.asked = [*getattr(self, "asked", []), job]
        shown = [anchor for anchor in job.anchors if not anchor.is_absent]
        return self.outcome if len(shown) > 1 else None


@pytest.fixture
def study(study: Study) -> Study:
    study.segmenter.__class__ = Pupil
    return study


def correct(study: Study, track, *frames: int) -> None:
    for frame in frames:
        study.session.give_mask(track, frame, study.video.masks[frame])


def learning_notices(study: Study) -> list[str]:
    return [notice for notice in study.heard.notices if "earn" in notice]


def test_learning_is_off_until_asked_for(study: Study) -> None:
    track = study.session.ask("the red disc")
    correct(study, track, 2, 8)
    study.session.repropagate(track)
    assert isinstance(study.segmenter, LearningSegmenter)
    assert not track.learns
    assert not any(job.learn for job in study.segmenter.jobs)
    assert not hasattr(study.segmenter, "asked")


def test_switching_on_computes_the_whole_video_once_and_says_what_came_of_it(study: Study) -> None:
    track = study.session.ask("the red disc")
    correct(study, track, 2, 8)
    study.session.repropagate(track)
    study.session.set_learning(track)
    job = study.session.repropagate(track)
    assert job is not None
    assert job.learn
    assert job.span == Span(0, T)
    assert job.known_mask is None
    assert learning_notices(study) == ["Learned from 2 corrections: 0.81 → 0.88, each looked at from the others."]
    assert study.session.repropagate(track) is None


def test_a_correction_with_learning_on_computes_its_span_as_ever(study: Study) -> None:
    track = study.session.ask("the red disc")
    study.session.set_learning(track)
    correct(study, track, 2, 8)
    study.session.repropagate(track)
    correct(study, track, 5)
    job = study.session.repropagate(track)
    assert job is not None
    assert job.learn
    assert job.span == Span(3, 8)


def test_switching_off_computes_the_whole_video_without_it(study: Study) -> None:
    track = study.session.ask("the red disc")
    correct(study, track, 2, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    study.session.set_learning(track, on=False)
    job = study.session.repropagate(track)
    assert job is not None
    assert not job.learn
    assert job.span == Span(0, T)


def test_what_did_not_help_is_said_to_be_dropped_and_said_once(study: Study) -> None:
    study.segmenter.outcome = Learned(2, 0.81, 0.8, False)
    track = study.session.ask("the red disc")
    study.session.set_learning(track)
    correct(study, track, 2, 8)
    study.session.repropagate(track)
    study.session.run(track)
    dropped = [notice for notice in learning_notices(study) if "did not help" in notice]
    assert dropped == [
        "Learning from 2 corrections did not help and was dropped: 0.81 → 0.80, each looked at from the others."
    ]


def test_with_one_correction_it_says_when_learning_begins(study: Study) -> None:
    track = study.session.ask("the red disc")
    correct(study, track, 2)
    study.session.repropagate(track)
    study.session.set_learning(track)
    assert learning_notices(study) == ["Learning begins with the second corrected frame that shows the object."]
    assert study.session.repropagate(track) is None


def test_the_switch_survives_closing(study: Study) -> None:
    track = study.session.ask("the red disc")
    correct(study, track, 2, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    again = study.reopen()
    (reopened,) = again.session.tracks
    assert reopened.learns
    assert reopened.spans_to_run() == ()


def test_learning_leaves_every_corrected_pixel_alone(study: Study) -> None:
    track = study.session.ask("the red disc")
    painted = np.roll(study.video.masks[2], 3, axis=0)
    study.session.give_mask(track, 2, painted)
    correct(study, track, 8)
    study.session.set_learning(track)
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


def test_the_ledger_tells_of_the_switch_and_of_what_came_of_it(study: Study) -> None:
    track = study.session.ask("the red disc")
    correct(study, track, 2, 8)
    study.session.set_learning(track)
    study.session.repropagate(track)
    assert study.actions[-4:] == ["learning on", "run", "learn", "result"]
