"""The simulated annotator, on a segmenter whose every mistake is known."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fixtures.frames import disc, draw_moving_disc

from napari_virst.errors import InputError
from napari_virst.evaluation.annotator import Annotation, Practice, Round, annotate, write_curves
from napari_virst.records import FrameResult, Provenance

if TYPE_CHECKING:
    from pathlib import Path

T = 16


class DriftingSegmenter:
    """Loses a pixel for every frame of distance to the nearest anchor; without anchors it finds nothing."""

    name, device = "drifting", "cpu"

    def __init__(self, video) -> None:
        self.video, self.jobs = video, []

    def unknown_words(self, text: str) -> tuple[str, ...]:
        return ()

    def run(self, frames, job, should_stop):
        self.jobs.append(job)
        fixed = [anchor.frame for anchor in job.anchors]
        for frame in job.span:
            if frame in fixed:
                continue
            drift = min((abs(frame - f) for f in fixed), default=100)
            y, x = self.video.centers[frame]
            mask = disc((y + drift, x), self.video.radius, self.video.masks.shape[1:])
            yield FrameResult(frame, mask, 0.9, max(0.0, 1 - drift / 12), Provenance.PROPAGATED)


@pytest.fixture
def video():
    return draw_moving_disc(T, (48, 64))


def work(video, truth=None, query="", **practice):
    segmenter = DriftingSegmenter(video)
    done = annotate(segmenter, video, truth or (lambda t: video.masks[t]), query, Practice(**practice))
    return done, segmenter


@pytest.mark.parametrize("policy", ["suggested", "worst", "uniform", "random"])
def test_every_policy_reaches_the_goal_and_stops_there(video, policy) -> None:
    done, _ = work(video, policy=policy)
    assert done.rounds[-1].j_and_f >= 0.9 > done.rounds[-2].j_and_f
    corrected = [one.frame for one in done.rounds[1:]]
    assert len(set(corrected)) == len(corrected)
    assert done.corrections_to(0.9) == len(corrected)


def test_worst_frame_is_the_one_farthest_from_anchors_here(video) -> None:
    done, _ = work(video, policy="worst")
    assert done.rounds[1].frame in range(T - 6, T)


def test_first_mask_is_no_correction_and_is_never_corrected(video) -> None:
    done, segmenter = work(video)
    assert (done.rounds[0].num_corrections, done.rounds[0].frame) == (0, None)
    assert [anchor.frame for anchor in segmenter.jobs[0].anchors] == [0]
    assert 0 not in [one.frame for one in done.rounds]


def test_query_starts_without_a_mask(video) -> None:
    done, segmenter = work(video, query="the red disc")
    assert segmenter.jobs[0].anchors == ()
    assert done.rounds[0].j_and_f < 0.1


@pytest.mark.parametrize(
    ("reach", "expected"), [("both", (0, T)), ("forward", (8, T)), ("everything", (0, T))], ids=lambda value: str(value)
)
def test_correction_reaches_as_far_as_told(video, reach, expected) -> None:
    _, segmenter = work(video, query="the red disc", reach=reach, policy="uniform", budget=2)
    spans = [(job.span.start, job.span.stop) for job in segmenter.jobs[1:]]
    frames = [max(anchor.frame for anchor in job.anchors) for job in segmenter.jobs[1:]]
    assert spans[0] == (expected if reach != "forward" else (frames[0], T))


def test_anchors_hem_in_what_is_computed_again(video) -> None:
    _, segmenter = work(video, policy="uniform", goal=1.0, budget=2)
    first, second = segmenter.jobs[1:]
    assert (first.span.start, first.span.stop) == (1, T)
    assert second.span.start == 1
    assert second.span.stop == T - 1
    assert second.known_mask is not None


def test_budget_ends_the_work_and_counts_as_one_more(video) -> None:
    done, _ = work(video, budget=1, goal=1.0)
    assert len(done.rounds) == 2
    assert done.corrections_to(1.0) == 2


def test_frames_without_truth_are_neither_scored_nor_corrected(video) -> None:
    done, _ = work(video, truth=lambda t: video.masks[t] if t % 4 == 0 else None, goal=1.0)
    assert {one.frame for one in done.rounds[1:]} == {4, 8, 12}
    assert done.rounds[-1].j_and_f == 1.0


@pytest.mark.parametrize("query", ["", "the red disc"], ids=["mask", "words"])
def test_video_without_any_truth_is_refused(video, query) -> None:
    with pytest.raises(InputError, match="true mask"):
        work(video, truth=lambda t: None, query=query)


@pytest.mark.parametrize(
    "wrong",
    [{"policy": "best"}, {"reach": "back"}, {"goal": 0.0}, {"budget": -1}],
    ids=["policy", "reach", "goal", "budget"],
)
def test_impossible_practice_is_refused(wrong) -> None:
    with pytest.raises(InputError):
        Practice(**wrong)


def test_same_seed_chooses_the_same_frames(video) -> None:
    first, second = (work(video, policy="random", seed=3)[0] for _ in range(2))
    assert [one.frame for one in first.rounds] == [one.frame for one in second.rounds]


def test_curves_are_written_one_line_per_round(tmp_path: Path) -> None:
    done = Annotation((Round(0, None, 0.5, 0.7, 0, 0.0), Round(1, 4, 0.9, 0.9, 6, 1.5)), 15)
    write_curves(tmp_path / "curves.csv", {"a": done})
    first, second = csv.DictReader((tmp_path / "curves.csv").read_text().splitlines())
    assert (first["frame"], first["j_and_f"]) == ("", "0.6000")
    assert (second["name"], second["frame"], second["frames_recomputed"]) == ("a", "4", "6")
    assert (done.num_recomputed, done.seconds) == (6, 1.5)
    assert np.isclose(done.rounds[1].j_and_f, 0.9)
