"""Which anchors condition: arbitration, pinning, and the switches of the comparison with other rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fixtures.frames import draw_moving_disc

from napari_virst.engine.options import PredictorOptions
from napari_virst.engine.predictor import Predictor
from napari_virst.errors import InputError
from napari_virst.records import Anchor, Job, Provenance, Query, Span

NEVER = lambda: False  # noqa: E731
NUM_FRAMES = 10
WORDS = Query("the red circle")


@pytest.fixture
def video():
    return draw_moving_disc(num_frames=NUM_FRAMES)


@pytest.fixture
def answer(shared_tiny_model, video):
    """Results of a job with two user anchors, by frame; the last of each."""

    def ask(query=WORDS, anchors=(2, 7), job=None, **options):
        settings = PredictorOptions(presence_threshold=-1.0, **options)
        given = tuple(Anchor(frame, video.masks[frame]) for frame in anchors)
        asked = Job(query, Span(0, NUM_FRAMES), given, **(job or {}))
        return {r.frame: r for r in Predictor(*shared_tiny_model, "tiny", settings).run(video, asked, NEVER)}

    return ask


def frames_of(results, provenance):
    return {frame for frame, result in results.items() if result.provenance is provenance}


def test_contradicted_anchors_are_demoted_and_say_so(answer):
    kept = frames_of(answer(agreement_iou=0.0), Provenance.PREDICTED)
    results = answer(agreement_iou=1.1)
    assert kept
    assert not frames_of(results, Provenance.PREDICTED)
    assert {frame for frame, result in results.items() if result.is_demoted} == kept
    assert all(0 <= results[frame].agreement <= 1 for frame in kept)
    assert all(math.isnan(results[frame].agreement) for frame in set(results) - kept)


def test_pinned_anchor_is_not_demoted(answer):
    pinned = min(frames_of(answer(agreement_iou=0.0), Provenance.PREDICTED))
    results = answer(agreement_iou=1.1, job={"pinned_anchors": frozenset({pinned})})
    assert frames_of(results, Provenance.PREDICTED) == {pinned}
    assert not results[pinned].is_demoted


def test_without_arbitration_every_anchor_is_kept(answer):
    kept = frames_of(answer(agreement_iou=0.0), Provenance.PREDICTED)
    assert frames_of(answer(agreement_iou=1.1, arbitrate=False), Provenance.PREDICTED) == kept


def test_demotion_ends_trust_in_what_is_held_around_the_anchor(answer):
    before = answer(anchors=())
    held = {frame: result.mask for frame, result in before.items()}
    trusting = answer(agreement_iou=0.0, job={"known_mask": held.get}, convergence_frames=1, convergence_iou=1e-6)
    demoting = answer(agreement_iou=1.1, job={"known_mask": held.get}, convergence_frames=1, convergence_iou=1e-6)
    assert set(demoting) == set(range(NUM_FRAMES)) - {2, 7}
    assert len(trusting) < len(demoting)


def test_non_conditioning_corrections_change_only_what_follows_soon_after(answer):
    only_first = answer(Query("", name="disc"), anchors=(0,), directions="forward")
    corrected = answer(
        Query("", name="disc"), anchors=(0, 5), correction_memory="non_conditioning", directions="forward"
    )
    assert set(corrected) == {1, 2, 3, 4, 6, 7, 8, 9}
    for frame in range(1, 5):
        np.testing.assert_array_equal(corrected[frame].mask, only_first[frame].mask)


@pytest.mark.parametrize("wrong", [{"correction_memory": "none"}, {"directions": "back"}], ids=["memory", "directions"])
def test_unknown_switch_is_refused(wrong):
    with pytest.raises(InputError, match="choose one"):
        PredictorOptions(**wrong)
