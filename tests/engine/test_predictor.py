from __future__ import annotations

import json
import math

import numpy as np
import pytest
from fixtures.frames import draw_moving_disc

from napari_virst.engine.loading import load_model, pick_device
from napari_virst.engine.predictor import Predictor, PredictorOptions, load_segmenter
from napari_virst.engine.protocol import Segmenter
from napari_virst.errors import CheckpointError, DeviceError, MaskError, QueryError
from napari_virst.records import Anchor, Job, Provenance, Query, Span

NEVER = lambda: False  # noqa: E731


@pytest.fixture
def predictor(shared_tiny_model):
    # Random weights say "absent" or "present" by chance; a threshold of -1 lets every anchor pass.
    return Predictor(*shared_tiny_model, "tiny", PredictorOptions(presence_threshold=-1.0, agreement_iou=0.0))


@pytest.fixture
def video():
    return draw_moving_disc(num_frames=10)


def disc_anchor(video, frame: int) -> Anchor:
    return Anchor(frame, video.masks[frame])


def run(predictor, video, **job):
    job = {"query": Query("the red circle"), "span": Span(0, 10), **job}
    return list(predictor.run(video, Job(**job), NEVER))


def test_predictor_is_a_segmenter(predictor):
    assert isinstance(predictor, Segmenter)


def test_every_frame_of_the_span_is_answered_once_but_for_user_anchors(predictor, video):
    anchors = (disc_anchor(video, 2), disc_anchor(video, 7))
    results = run(predictor, video, anchors=anchors, span=Span(1, 9))
    assert sorted(r.frame for r in results) == [1, 3, 4, 5, 6, 8]


def test_results_have_the_size_of_the_video_and_probabilities(predictor, video):
    for result in run(predictor, video, anchors=(disc_anchor(video, 0),), revision=4):
        assert result.mask.shape == video.shape[1:3]
        assert result.mask.dtype == np.bool_
        assert 0 <= result.presence <= 1
        assert math.isnan(result.predicted_iou) or 0 <= result.predicted_iou <= 1
        assert result.revision == 4


def test_model_anchors_come_first_and_say_so(predictor, video):
    results = run(predictor, video)
    kinds = [r.provenance for r in results]
    num_anchors = kinds.count(Provenance.PREDICTED)
    assert num_anchors >= 1
    assert set(kinds[:num_anchors]) == {Provenance.PREDICTED}


def test_excluded_model_anchor_is_followed_instead(predictor, video):
    anchors = [r.frame for r in run(predictor, video) if r.provenance is Provenance.PREDICTED]
    results = run(predictor, video, excluded_anchors=frozenset(anchors[:1]))
    assert anchors[0] not in [r.frame for r in results if r.provenance is Provenance.PREDICTED]
    assert sorted({r.frame for r in results}) == list(range(10))


def test_stopping_ends_within_one_frame(predictor, video):
    asked = []

    def stop_after_three() -> bool:
        asked.append(None)
        return len(asked) > 3

    job = Job(Query("", name="disc"), Span(0, 10), (disc_anchor(video, 0),))
    results = list(predictor.run(video, job, stop_after_three))
    assert len(results) <= 3
    assert len(asked) == 4


def test_stopping_while_grounding_gives_nothing_and_is_not_remembered(predictor, video):
    job = Job(Query("a cell that moves"), Span(0, 10))
    assert list(predictor.run(video, job, lambda: True)) == []
    assert len(run(predictor, video, query=Query("a cell that moves"))) >= 10


def test_same_job_gives_the_same_masks(predictor, video):
    first, second = (run(predictor, video, anchors=(disc_anchor(video, 3),)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.frame == b.frame
        np.testing.assert_array_equal(a.mask, b.mask)


def test_a_track_without_words_or_mask_is_refused(predictor, video):
    with pytest.raises(QueryError, match="words or a mask"):
        run(predictor, video, query=Query("", name="disc"))


def test_a_mask_of_another_shape_is_refused_by_name_of_its_frame(predictor, video):
    small = Anchor(3, disc_anchor(video, 3).mask[:-4])
    with pytest.raises(MaskError, match="on frame 3; paint it"):
        run(predictor, video, query=Query("", name="disc"), anchors=(small,))


def test_absent_everywhere_is_answered_for_every_frame(shared_tiny_model, video):
    predictor = Predictor(*shared_tiny_model, "tiny", PredictorOptions(presence_threshold=1.1))
    results = run(predictor, video)
    assert [r.frame for r in results] == list(range(10))
    assert not any(r.mask.any() for r in results)


def test_absent_anchor_alone_does_not_fail(predictor, video):
    empty = Anchor(4, np.zeros(video.shape[1:3], bool))
    assert len(run(predictor, video, anchors=(empty,), query=Query("", name="disc"))) == 9


def test_a_query_that_names_nothing_known_is_answered_not_here(shared_tiny_model, video):
    predictor = Predictor(*shared_tiny_model, "tiny", PredictorOptions(presence_threshold=0.0))
    assert any(result.mask.any() for result in run(predictor, video, query=Query("the red giraffe")))
    results = run(predictor, video, query=Query("the giraffe"))
    assert len(results) == len(video.masks)
    assert not any(result.mask.any() for result in results)
    assert {result.presence for result in results} == {0.0}


def test_unknown_words_are_named(predictor):
    assert predictor.unknown_words("the red giraffe") == ("giraffe",)


def test_a_track_without_words_has_no_unknown_ones(predictor):
    assert predictor.unknown_words("") == ()


def test_a_saved_model_answers_as_before(shared_tiny_model, tiny_model_folder, video):
    options = PredictorOptions(presence_threshold=-1.0)
    saved = load_segmenter(tiny_model_folder, "cpu", options)
    fresh = Predictor(*shared_tiny_model, "tiny", options)
    for a, b in zip(run(saved, video), run(fresh, video), strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_missing_folder_says_what_to_give(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(tmp_path / "nothing")


def test_foreign_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match='"virst"; got "bert"'):
        load_model(tmp_path)


def test_damaged_weights_are_refused(tiny_model_folder, tmp_path):
    for file in tiny_model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(tmp_path)


def test_pickled_weights_are_not_opened(tiny_model_folder, tmp_path):
    (tmp_path / "config.json").write_bytes((tiny_model_folder / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError):
        load_model(tmp_path)


def test_absent_device_is_refused():
    with pytest.raises(DeviceError, match='choose "auto" or "cpu"'):
        pick_device("cuda:99")
