"""The two presets, on the published architecture with the small recorded weights."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import numpy as np
import pytest
import torch
from fixtures.recorded_frames import RecordedFrames, recorded_predictor, recorded_words
from fixtures.recordings import SHIPPED_PARITY, recording_of

from napari_virst.engine.options import PredictorOptions, settle
from napari_virst.engine.predictor import Predictor
from napari_virst.errors import InputError
from napari_virst.model.config import VirstConfig
from napari_virst.model.segmenter import Segmenter
from napari_virst.records import Anchor, Job, Provenance, Query, Span

NEVER = lambda: False  # noqa: E731
# Random weights say "absent" or "present" by chance; so every anchor passes.
TRUSTING = {"presence_threshold": -1.0, "agreement_iou": 0.0}


@pytest.fixture(scope="module")
def recording():
    return recording_of(SHIPPED_PARITY, SHIPPED_PARITY)


@pytest.fixture
def video(recording):
    return RecordedFrames(recording)


@pytest.fixture
def calls(monkeypatch):
    """How often each part of the segmenter ran."""
    counts: Counter[str] = Counter()

    def counted(name):
        whole = getattr(Segmenter, name)

        def count(self, *args, **options):
            counts[name] += 1
            return whole(self, *args, **options)

        monkeypatch.setattr(Segmenter, name, count)

    for name in ("encode", "decode_prompted", "decode_tracked", "decode_given"):
        counted(name)
    return counts


def run(recording, video, *, span=None, anchors=(), excluded=frozenset(), **options):
    predictor = recorded_predictor(recording, **options)
    job = Job(Query("it"), span or Span(0, video.shape[0]), anchors, excluded)
    return list(predictor.run(video, job, NEVER))


def masks_of(results):
    return {result.frame: result.mask for result in results}


def test_default_encodes_every_frame_once(recording, video, calls):
    results = run(recording, video, preset="default", **TRUSTING)
    assert sorted(r.frame for r in results) == list(range(12))
    assert calls["encode"] == 12


def test_reference_encodes_prompter_frames_once_more_with_its_other_filter(recording, video, calls):
    run(recording, video, preset="reference")
    assert calls["encode"] == 12 + 8


def test_default_remembers_the_st_prompts_own_answer(recording, video, calls):
    run(recording, video, preset="default", **TRUSTING)
    assert calls["decode_given"] == 0
    assert calls["decode_prompted"] == 8 + 2  # every segmentation frame while grounding, the two anchors again


def test_default_follows_backward_before_the_first_anchor(recording, video):
    frames = [r.frame for r in run(recording, video, preset="default", num_anchors=1, **TRUSTING)]
    assert frames == [1, *range(2, 12), 0]


def test_reference_follows_forward_from_frame_0(recording, video):
    results = run(recording, video, preset="reference")
    followed = [r.frame for r in results if r.provenance is Provenance.PROPAGATED]
    assert followed == sorted(followed)
    assert followed[0] == 0


def test_reference_answers_part_of_a_video_as_it_answers_the_whole(recording, video):
    whole = masks_of(run(recording, video, preset="reference"))
    part = masks_of(run(recording, video, preset="reference", span=Span(4, 9)))
    assert sorted(part) == list(range(4, 9))
    for frame, mask in part.items():
        np.testing.assert_array_equal(mask, whole[frame])


@pytest.mark.parametrize("preset", ["default", "reference"])
def test_users_anchor_is_conditioned_on_and_not_returned(recording, video, preset, calls):
    anchor = Anchor(5, recording.inputs["maskcase_mask"])
    results = run(recording, video, preset=preset, anchors=(anchor,), **TRUSTING)
    assert calls["decode_given"] == 1
    assert sorted(r.frame for r in results) == [f for f in range(12) if f != 5]


def test_reference_keeps_anchors_that_language_calls_absent(recording, video):
    results = run(recording, video, preset="reference", presence_threshold=1.1)
    assert sum(r.provenance is Provenance.PREDICTED for r in results) == 2


def test_every_anchor_excluded_is_answered_as_not_found(recording, video):
    results = run(recording, video, preset="reference", excluded=frozenset({1, 10}))
    assert len(results) == 12
    assert not any(r.mask.any() for r in results)


@pytest.mark.parametrize("num_frames", [1, 3])
@pytest.mark.parametrize("preset", ["default", "reference"])
def test_video_shorter_than_a_clip(recording, num_frames, preset):
    class Few(RecordedFrames):
        shape = (num_frames, 90, 120, 3)

    results = run(recording, Few(recording), preset=preset, frame_sample=None, **TRUSTING)
    assert {r.frame for r in results} == set(range(num_frames))


def test_second_prompt_on_the_only_frame_sees_the_first_answer(recording, calls):
    class One(RecordedFrames):
        shape = (1, 90, 120, 3)

    run(recording, One(recording), preset="reference", frame_sample=None)
    # 8 positions of one frame have anchors at 0 and 7: two prompts, decoded while grounding and for memory.
    assert calls["decode_prompted"] == 4


def test_knobs_reach_the_sample_and_the_anchors(recording, video):
    options = {"num_vlm_frames": 8, "num_segmentation_frames": 4, "num_anchors": 3, "frame_sample": None}
    results = run(recording, video, preset="reference", **options)
    # 8 of 12 frames, the middle of each segment; 4 of those, spread; 3 of those.
    assert sorted(r.frame for r in results if r.provenance is Provenance.PREDICTED) == [0, 7, 10]


@pytest.mark.parametrize("knob", [{"max_anchors": 1}, {"num_fifo_frames": 0}, {"use_initial_fusion": True}], ids=str)
def test_each_knob_changes_the_answer(recording, video, knob):
    plain, other = (run(recording, video, preset="reference", **options) for options in ({}, knob))
    assert any((a.mask != b.mask).any() or a.presence != b.presence for a, b in zip(plain, other, strict=True))


def test_model_says_which_preset_it_runs_in():
    config = VirstConfig(inference_preset="reference")
    assert settle(PredictorOptions(), config).is_reference
    assert not settle(PredictorOptions(preset="default"), config).is_reference
    assert VirstConfig.from_dict(config.to_dict()).inference_preset == "reference"


def test_knobs_left_open_are_the_models():
    config = VirstConfig(num_vlm_frames=16, num_segmentation_frames=12, num_anchors=5, max_anchors=2, num_fifo_frames=4)
    settings = settle(PredictorOptions(), config)
    found = (settings.num_vlm_frames, settings.num_segmentation_frames, settings.num_anchors)
    assert (*found, settings.max_anchors, settings.num_fifo_frames) == (16, 12, 5, 2, 4)


def test_reference_leaves_the_first_fusion_off_as_released():
    config = VirstConfig(st_fusion_config={"use_initial_fusion": True})
    assert not settle(PredictorOptions(preset="reference"), config).use_initial_fusion
    assert settle(PredictorOptions(preset="default"), config).use_initial_fusion


@pytest.mark.parametrize(
    ("option", "said"),
    [({"preset": "fast"}, '"default" or "reference"; got "fast"'), ({"max_anchors": 0}, "at least 1; got 0")],
    ids=["preset", "knob"],
)
def test_choice_out_of_range_is_refused(option, said):
    with pytest.raises(InputError, match=said):
        PredictorOptions(**option)


@pytest.mark.parametrize("preset", ["default", "reference"])
def test_model_in_bfloat16_answers_every_frame(recording, preset):
    class Few(RecordedFrames):
        shape = (3, 90, 120, 3)

    model = deepcopy(recording.model).to(torch.bfloat16)
    predictor = Predictor(model, recorded_words(recording), "half", PredictorOptions(preset=preset, **TRUSTING))
    anchor = Anchor(1, recording.inputs["maskcase_mask"])
    results = list(predictor.run(Few(recording), Job(Query("it"), Span(0, 3), (anchor,)), NEVER))
    assert {r.frame for r in results} == {0, 2}
