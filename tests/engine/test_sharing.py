"""What is shared between queries, corrections and sessions: never a pixel's difference, and little computed twice."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.frames import draw_moving_disc
from fixtures.recorded_frames import RecordedFrames, recorded_predictor
from fixtures.recordings import SHIPPED_PARITY, recording_of

from napari_virst.engine.cache import CacheLimits
from napari_virst.engine.predictor import Predictor, PredictorOptions
from napari_virst.engine.protocol import BatchSegmenter
from napari_virst.engine.reading import THREAD_NAME
from napari_virst.errors import QueryError, VideoError
from napari_virst.model.segmenter import Segmenter
from napari_virst.records import Anchor, Job, Provenance, Query, Span

NEVER = lambda: False  # noqa: E731
# Random weights say "absent" or "present" by chance; so every anchor passes.
TRUSTING = {"presence_threshold": -1.0, "agreement_iou": 0.0}
MEMORY_ALONE = CacheLimits(ram_bytes=10**9)
NO_CACHE = CacheLimits(ram_bytes=0)


@pytest.fixture(scope="module")
def recording():
    return recording_of(SHIPPED_PARITY, SHIPPED_PARITY)


@pytest.fixture
def open_predictor(recording, shared_tiny_model):
    """``open_predictor(kind, **options)``: "windows" follows with windows, "whole" with whole frames."""

    def open_one(kind: str, **options) -> Predictor:
        options = {**TRUSTING, "cache": MEMORY_ALONE, **options}
        if kind == "windows":
            return Predictor(*shared_tiny_model, "tiny", PredictorOptions(**options))
        return recorded_predictor(recording, **{"preset": "default", **options})

    return open_one


@pytest.fixture
def open_video(recording):
    """``open_video(kind)``: a video for that kind, and the mask of an object on its frame 5."""

    def open_one(kind: str):
        if kind == "windows":
            disc = draw_moving_disc(num_frames=10)
            return disc, disc.masks[5]
        return RecordedFrames(recording), recording.inputs["maskcase_mask"].astype(bool)

    return open_one


@pytest.fixture
def calls(monkeypatch):
    """How many frames or windows were encoded, and how many masks given."""
    counts = {"encode": 0, "decode_given": 0}

    def counted(name):
        whole = getattr(Segmenter, name)

        def count(self, first, *args, **options):
            counts[name] += len(first) if isinstance(first, torch.Tensor) else 1
            return whole(self, first, *args, **options)

        monkeypatch.setattr(Segmenter, name, count)

    for name in counts:
        counted(name)
    return counts


def words(video, text: str = "the red circle", **parts) -> Job:
    return Job(**{"query": Query(text), "span": Span(0, video.shape[0]), **parts})


def corrected(video, mask, **parts) -> Job:
    return words(video, anchors=(Anchor(5, mask),), focus_frame=5, **parts)


def masked(video, *anchors: Anchor, **parts) -> Job:
    return Job(Query("", name="it"), Span(0, video.shape[0]), anchors, **parts)


def results_of(predictor, video, job):
    return list(predictor.run(video, job, NEVER))


def assert_same(one, other):
    assert [r.frame for r in one] == [r.frame for r in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)
        assert (a.presence, a.provenance) == (b.presence, b.provenance)


both_kinds = pytest.mark.parametrize("kind", ["windows", "whole"])


# The cache ------------------------------------------------------------------------------------------------------------


@both_kinds
def test_masks_are_the_same_with_the_cache_cold_warm_and_off(kind, open_predictor, open_video):
    video, mask = open_video(kind)
    warm = open_predictor(kind)
    for job in (words(video), corrected(video, mask)):
        cold = results_of(open_predictor(kind), video, job)
        assert_same(cold, results_of(warm, video, job))
        assert_same(cold, results_of(warm, video, job))
        assert_same(cold, results_of(open_predictor(kind, cache=NO_CACHE), video, job))


@both_kinds
def test_masks_are_the_same_with_the_disk_cold_and_in_a_later_session(kind, open_predictor, open_video, tmp_path):
    video, mask = open_video(kind)
    limits = CacheLimits(ram_bytes=10**6, disk_bytes=10**9, folder=tmp_path)
    for job in (words(video), corrected(video, mask)):
        first = results_of(open_predictor(kind, cache=limits), video, job)
        later = open_predictor(kind, cache=limits)
        assert_same(first, results_of(later, video, job))
        assert later.cache_report().levels[2].num_hits > 0
        assert later.cache_report().num_misses == 0


def test_reference_preset_is_not_rounded_by_the_disk(open_predictor, open_video, tmp_path):
    video, _ = open_video("whole")
    limits = CacheLimits(ram_bytes=0, disk_bytes=10**9, folder=tmp_path)
    plain = results_of(open_predictor("whole", preset="reference", cache=NO_CACHE), video, words(video))
    for _ in range(2):
        kept = results_of(open_predictor("whole", preset="reference", cache=limits), video, words(video))
        assert_same(plain, kept)


def test_second_query_encodes_no_frame_again(open_predictor, open_video, calls):
    video, _ = open_video("whole")
    predictor = open_predictor("whole")
    results_of(predictor, video, words(video))
    encoded = calls["encode"]
    assert len({r.frame for r in results_of(predictor, video, words(video, "another"))}) == video.shape[0]
    assert (encoded, calls["encode"]) == (video.shape[0], video.shape[0])


def test_second_query_does_not_read_the_video_again(open_predictor, open_video):
    video, _ = open_video("whole")
    read = []

    class Watched(RecordedFrames):
        def __getitem__(self, frame):
            read.append(frame)
            return video[frame]

    watched = Watched.__new__(Watched)
    watched.__dict__.update(video.__dict__)
    predictor = open_predictor("whole")
    results_of(predictor, watched, words(video))
    read.clear()
    results_of(predictor, watched, words(video, "another"))
    assert read == []


def test_second_query_grounds_on_the_frames_of_the_first(open_predictor, open_video, calls):
    video, _ = open_video("windows")
    predictor = open_predictor("windows")
    list(predictor.ground(video, "the red circle", NEVER))
    encoded = calls["encode"]
    assert encoded > 0
    list(predictor.ground(video, "largest blue square", NEVER))
    assert calls["encode"] == encoded


@both_kinds
def test_anchor_that_is_already_known_is_not_encoded_again(kind, open_predictor, open_video, calls):
    video, mask = open_video(kind)
    predictor = open_predictor(kind)
    results_of(predictor, video, masked(video, Anchor(5, mask)))
    assert calls["decode_given"] == 1
    results_of(predictor, video, masked(video, Anchor(1, mask), Anchor(5, mask)))
    assert calls["decode_given"] == 2


def test_another_mask_on_the_same_frame_is_another_anchor(open_predictor, open_video, calls):
    video, mask = open_video("windows")
    predictor = open_predictor("windows")
    for changed in (mask, np.roll(mask, 2, 1)):
        results_of(predictor, video, masked(video, Anchor(5, changed)))
    assert calls["decode_given"] == 2


# Several queries together ---------------------------------------------------------------------------------------------


def test_predictor_is_a_batch_segmenter(open_predictor):
    assert isinstance(open_predictor("windows"), BatchSegmenter)


@both_kinds
def test_jobs_run_together_give_what_they_give_alone(kind, open_predictor, open_video):
    video, mask = open_video(kind)
    only_mask = Job(Query("", name="it"), Span(2, 9), (Anchor(5, mask),))
    jobs = (words(video, revision=1), words(video, "largest blue square", revision=2), replace(only_mask, revision=3))
    together = list(open_predictor(kind).run_many(video, jobs, NEVER))
    for index, job in enumerate(jobs):
        alone = {r.frame: r for r in results_of(open_predictor(kind), video, job)}
        mine = {r.frame: r for number, r in together if number == index}
        assert mine.keys() == alone.keys()
        for frame, result in mine.items():
            assert result.revision == job.revision
            # A batch may differ in the last digits of logits: a pixel on the edge, no more.
            assert np.count_nonzero(result.mask != alone[frame].mask) <= 2
            assert result.presence == pytest.approx(alone[frame].presence, abs=1e-3)


def test_jobs_run_together_encode_every_frame_once(open_predictor, open_video, calls):
    video, _ = open_video("whole")
    jobs = tuple(words(video, text) for text in ("one", "two", "three"))
    list(open_predictor("whole").run_many(video, jobs, NEVER))
    assert calls["encode"] == video.shape[0]


def test_jobs_run_together_read_every_frame_of_a_sweep_once(open_predictor, open_video):
    video, mask = open_video("windows")
    read = []

    class Watched:
        shape, fingerprint = video.shape, "watched"

        def __getitem__(self, frame):
            read.append(frame)
            return video[frame]

    jobs = tuple(Job(Query("", name=name), Span(0, 10), (Anchor(0, mask),)) for name in "abc")
    list(open_predictor("windows").run_many(Watched(), jobs, NEVER))
    assert sorted(read) == list(range(10))


def test_one_job_that_cannot_run_is_refused_before_any_begins(open_predictor, open_video):
    video, _ = open_video("windows")
    with pytest.raises(QueryError, match="words or a mask"):
        next(open_predictor("windows").run_many(video, (words(video), Job(Query("", name="x"), Span(0, 3))), NEVER))


def test_no_jobs_give_nothing(open_predictor, open_video):
    assert list(open_predictor("windows").run_many(open_video("windows")[0], (), NEVER)) == []


# Stopping -------------------------------------------------------------------------------------------------------------


@both_kinds
def test_stopping_anywhere_keeps_what_was_finished_and_asks_no_more(kind, open_predictor, open_video):
    video, mask = open_video(kind)
    jobs = (words(video), corrected(video, mask))
    whole = list(open_predictor(kind).run_many(video, jobs, NEVER))
    for stop_at in (1, 2, 5, 9, 11, 14, 18, 23, 27):
        asked = []

        def should_stop(asked=asked, stop_at=stop_at) -> bool:
            asked.append(None)
            return len(asked) >= stop_at

        part = list(open_predictor(kind).run_many(video, jobs, should_stop))
        assert len(asked) <= stop_at
        for (i, a), (j, b) in zip(part, whole[: len(part)], strict=True):
            assert (i, a.frame) == (j, b.frame)
            np.testing.assert_array_equal(a.mask, b.mask)


def test_no_reader_is_left_when_results_are_not_wanted_any_more(open_predictor, open_video):
    video = long_disc()
    results = open_predictor("windows").run(video, masked(video, Anchor(0, video.masks[0])), NEVER)
    assert next(results).provenance is Provenance.PROPAGATED
    assert any(thread.name == THREAD_NAME for thread in threading.enumerate())
    results.close()
    assert not any(thread.name == THREAD_NAME for thread in threading.enumerate())


def test_frame_that_cannot_be_read_ends_the_run_and_keeps_what_came_before(open_predictor, open_video):
    video, mask = open_video("windows")

    class Broken:
        shape, fingerprint = video.shape, "broken"

        def __getitem__(self, frame):
            if frame == 8:
                raise VideoError("Frame 8 must be readable; it is damaged; copy the file again.")
            return video[frame]

    job = masked(video, Anchor(5, mask), focus_frame=5)
    results = open_predictor("windows").run(Broken(), job, NEVER)
    assert [next(results).frame, next(results).frame] == [6, 7]
    with pytest.raises(VideoError, match="Frame 8"):
        next(results)


# Ending early ---------------------------------------------------------------------------------------------------------


def held_by(results) -> dict:
    return {r.frame: r.mask for r in results}


def long_disc():
    return draw_moving_disc(num_frames=30, size=(32, 96))


@pytest.fixture
def follow_disc(open_predictor):
    """A predictor whose answers depend on nothing, so that agreement can be staged by what is held."""
    return open_predictor("windows", convergence_frames=3, convergence_iou=0.9)


def stage(predictor, monkeypatch, video):
    """Have every answer be the true disc, whatever the weights say."""
    whole = type(predictor).run_many

    from napari_virst.engine import following

    step = following.Follower.step

    def true_step(self, frame, direction, things, should_stop):
        return [replace(r, mask=video.masks[frame]) for r in step(self, frame, direction, things, should_stop)]

    monkeypatch.setattr(following.Follower, "step", true_step)
    return whole


def test_leg_ends_where_enough_frames_agree_with_what_is_held(follow_disc, monkeypatch):
    video = long_disc()
    stage(follow_disc, monkeypatch, video)
    wrong = range(13, 20)
    held = {f: np.roll(video.masks[f], 20, 1) if f in wrong else video.masks[f] for f in range(30)}
    job = Job(Query("", name="it"), Span(0, 30), (Anchor(15, video.masks[15]),), focus_frame=15, known_mask=held.get)
    assert [r.frame for r in results_of(follow_disc, video, job)] == [*range(16, 23), *range(14, 9, -1)]


def test_other_end_is_tried_where_it_is_a_users_too(follow_disc, monkeypatch):
    video = long_disc()
    stage(follow_disc, monkeypatch, video)
    # Frame 25 was corrected as well: what is held beside it is wrong, though all agrees beside the focus.
    held = {f: np.roll(video.masks[f], 20, 1) if f in (23, 24) else video.masks[f] for f in range(30)}
    anchors = tuple(Anchor(f, video.masks[f]) for f in (5, 25))
    job = Job(Query("", name="it"), Span(6, 25), anchors, focus_frame=5, known_mask=held.get)
    assert [r.frame for r in results_of(follow_disc, video, job)] == [6, 7, 8, 24, 23, 22, 21, 20]


def test_nothing_ends_early_without_masks_to_agree_with(follow_disc, monkeypatch):
    video = long_disc()
    stage(follow_disc, monkeypatch, video)
    anchors = (Anchor(15, video.masks[15]),)
    for known in (None, lambda frame: None):
        job = Job(Query("", name="it"), Span(0, 30), anchors, known_mask=known)
        assert len(results_of(follow_disc, video, job)) == 29


def test_early_end_can_be_turned_off(open_predictor):
    video = long_disc()
    job = Job(Query("", name="it"), Span(0, 30), (Anchor(15, video.masks[15]),))
    predictor = open_predictor("windows", convergence_frames=0)
    held = held_by(results_of(predictor, video, job))
    assert len(results_of(predictor, video, replace(job, known_mask=held.get))) == 29


def test_frames_before_an_early_end_are_those_of_a_full_run(open_predictor):
    video = long_disc()
    job = Job(Query("", name="it"), Span(0, 30), (Anchor(15, video.masks[15]),), focus_frame=15)
    predictor = open_predictor("windows", convergence_frames=4)
    full = results_of(predictor, video, job)
    early = results_of(predictor, video, replace(job, known_mask=held_by(full).get))
    assert len(early) <= len(full)
    by_frame = held_by(full)
    for result in early:
        np.testing.assert_array_equal(result.mask, by_frame[result.frame])


def test_users_frames_are_respected_whatever_is_held(follow_disc, monkeypatch):
    video = long_disc()
    stage(follow_disc, monkeypatch, video)
    held = {f: video.masks[f] for f in range(30)}
    absent = (Anchor(f, np.zeros_like(video.masks[f])) for f in (3, 16, 17))
    anchors = (*absent, Anchor(20, video.masks[20]))
    job = Job(Query("", name="it"), Span(0, 30), anchors, known_mask=held.get)
    assert not {r.frame for r in results_of(follow_disc, video, job)} & {3, 16, 17, 20}


def test_run_that_was_stopped_goes_on_from_the_frames_it_had_finished(open_predictor, calls):
    video = long_disc()
    job = Job(Query("", name="it"), Span(6, 30), (Anchor(5, video.masks[5]),))
    predictor = open_predictor("windows", convergence_frames=0)
    done = {f: video.masks[f] for f in range(6, 20)}
    results_of(predictor, video, replace(job, span=Span(20, 30)))
    from_anchor = calls["decode_given"]
    results = results_of(predictor, video, replace(job, span=Span(20, 30), known_mask=done.get))
    assert [r.frame for r in results] == list(range(20, 30))
    assert calls["decode_given"] - from_anchor == 2  # the two frames of its FIFO memory
