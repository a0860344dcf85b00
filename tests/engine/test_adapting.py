from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.frames import draw_moving_disc

from napari_virst.engine.adapting import (
    AdaptedLinear,
    Adapters,
    adapted_copy,
    choose_lessons,
    corrections_key,
)
from napari_virst.engine.options import LearningRule
from napari_virst.engine.predictor import Predictor, PredictorOptions
from napari_virst.engine.protocol import LearningSegmenter
from napari_virst.records import Anchor, Job, Learned, Query, Span

NEVER = lambda: False  # noqa: E731
ALWAYS_USED = LearningRule(num_steps=2, min_gain=-1.0, learning_rate=0.05)
NEVER_USED = replace(ALWAYS_USED, min_gain=2.0)


@pytest.fixture
def video():
    return draw_moving_disc(num_frames=10)


@pytest.fixture
def predictor_of(shared_tiny_model):
    def build(rule: LearningRule = ALWAYS_USED) -> Predictor:
        return Predictor(*shared_tiny_model, "tiny", PredictorOptions(learning=rule))

    return build


def job_of(video, frames=(1, 5, 8), **fields) -> Job:
    return Job(Query("", name="it"), Span(0, 10), tuple(Anchor(f, video.masks[f]) for f in frames), **fields)


def answers(predictor, video, job: Job) -> dict[int, tuple[np.ndarray, float, float]]:
    return {r.frame: (r.mask, r.presence, r.predicted_iou) for r in predictor.run(video, job, NEVER)}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[f][0], b[f][0]) and a[f][1:] == b[f][1:] for f in a)


def weights_digest(model) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def test_predictor_can_learn(predictor_of):
    assert isinstance(predictor_of(), LearningSegmenter)


def test_learning_leaves_the_shared_weights_as_they_are(shared_tiny_model, predictor_of, video):
    model, _ = shared_tiny_model
    before = weights_digest(model)
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    answers(predictor_of(), video, job_of(video, learn=True))
    assert weights_digest(model) == before
    assert {name: p.requires_grad for name, p in model.named_parameters()} == trained
    assert all(p.grad is None for p in model.parameters())


def test_jobs_that_do_not_learn_answer_the_same_before_and_after_one_that_does(predictor_of, video):
    predictor = predictor_of()
    plain = answers(predictor, video, job_of(video))
    learned = answers(predictor, video, job_of(video, learn=True))
    assert not same(plain, learned)
    assert same(plain, answers(predictor, video, job_of(video)))


def test_a_job_beside_one_that_learns_answers_as_it_does_alone(predictor_of, video):
    predictor = predictor_of()
    jobs = (job_of(video), job_of(video, learn=True))
    together: tuple[dict, dict] = ({}, {})
    for index, r in predictor.run_many(video, jobs, NEVER):
        together[index][r.frame] = (r.mask, r.presence, r.predicted_iou)
    for job, result in zip(jobs, together, strict=True):
        alone = answers(predictor, video, job)
        assert all(np.array_equal(alone[f][0], result[f][0]) for f in alone)
        np.testing.assert_allclose([v[1] for v in alone.values()], [result[f][1] for f in alone], atol=1e-5)


def test_same_corrections_give_the_same_adapter(predictor_of, video):
    first, second = predictor_of(), predictor_of()
    job = job_of(video, learn=True)
    assert first.learn(video, job, NEVER) == second.learn(video, job, NEVER)
    assert same(answers(first, video, job), answers(second, video, job))


def test_dropped_learning_changes_nothing(predictor_of, video):
    predictor = predictor_of(NEVER_USED)
    learned = predictor.learn(video, job_of(video), NEVER)
    assert learned is not None
    assert not learned.helped
    assert same(answers(predictor, video, job_of(video, learn=True)), answers(predictor, video, job_of(video)))


@pytest.mark.parametrize("frames", [(), (4,)], ids=["no correction", "one"])
def test_nothing_is_learned_from_fewer_than_two_corrections(predictor_of, video, frames):
    job = replace(job_of(video, frames), query=Query("the red circle"), learn=True)
    assert predictor_of().learn(video, job, NEVER) is None


def test_an_empty_anchor_is_nothing_to_learn_from(predictor_of, video):
    absent = Anchor(8, np.zeros_like(video.masks[8]))
    job = replace(job_of(video, (1,)), anchors=(Anchor(1, video.masks[1]), absent))
    assert predictor_of().learn(video, job, NEVER) is None


@pytest.mark.parametrize("num_asked", [1, 7, 12], ids=str)
def test_learning_ends_when_told_and_leaves_nothing_half_learned(predictor_of, video, num_asked):
    predictor, asked = predictor_of(), []

    def stop() -> bool:
        asked.append(True)
        return len(asked) >= num_asked

    assert predictor.learn(video, job_of(video), stop) is None
    assert len(asked) == num_asked
    assert predictor.learn(video, job_of(video), NEVER) == predictor_of().learn(video, job_of(video), NEVER)


def test_corrections_are_learned_from_once(predictor_of, video):
    predictor, asked = predictor_of(), []
    predictor.learn(video, job_of(video), NEVER)
    predictor.learn(video, job_of(video), lambda: bool(asked.append(True)))
    assert not asked


def test_learning_raises_the_agreement_with_the_corrections_it_learned_from(shared_tiny_model, video):
    from napari_virst.engine import adapting

    model, _ = shared_tiny_model
    rule = LearningRule(num_steps=25, learning_rate=0.02)
    predictor = Predictor(*shared_tiny_model, "tiny", PredictorOptions(learning=rule))
    job = job_of(video)
    follower = predictor._follower(predictor._encoder(video))
    features, masks = zip(*(follower.lesson(job, anchor, NEVER) for anchor in job.anchors), strict=True)
    lessons = adapting.Lessons.of(features, masks)
    with torch.no_grad():
        decoder = adapting._train(model.segmenter, lessons, rule, NEVER)
        first = model.segmenter.decode_conditioned(lessons.features)
        after = model.segmenter.decode_conditioned(lessons.features, decoder)
        losses = [adapting._loss(decoded, first, lessons.target_N1hw).item() for decoded in (first, after)]
    assert losses[1] < 0.7 * losses[0]


# The pieces ----------------------------------------------------------------------------------------------------------


def test_an_untrained_copy_shares_every_tensor_and_leaves_the_judges_alone(shared_tiny_model):
    decoder = shared_tiny_model[0].segmenter.mask_decoder
    copy = adapted_copy(decoder, rank=2, seed=0)
    own = {id(p) for m in copy.modules() if isinstance(m, AdaptedLinear) for p in (m.down_RI, m.up_OR)}
    shared = {id(p) for p in decoder.parameters()}
    assert own
    assert {id(p) for p in copy.parameters()} == shared | own
    assert not any(isinstance(m, AdaptedLinear) for m in copy.iou_prediction_head.modules())
    assert not any(isinstance(m, AdaptedLinear) for m in decoder.modules())


def test_an_addition_has_the_rank_asked_for():
    linear = torch.nn.Linear(12, 9)
    layer = AdaptedLinear(linear, 3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.up_OR.normal_()
        expected = layer(torch.eye(12))
        layer.settle()
        torch.testing.assert_close(layer(torch.eye(12)), expected)
        assert torch.linalg.matrix_rank(layer.merged_OI - linear.weight, tol=1e-4) == 3


def test_lessons_are_spread_over_time_and_show_the_object():
    mask = np.ones((2, 2), np.bool_)
    anchors = [Anchor(f, mask if f % 2 else ~mask) for f in range(40)]
    assert [a.frame for a in choose_lessons(anchors, 4)] == [1, 13, 27, 39]
    assert len(choose_lessons(anchors[:6], 4)) == 3


def test_another_pixel_or_another_video_is_another_key():
    mask = np.zeros((4, 4), np.bool_)
    other = mask.copy()
    other[1, 1] = True
    keys = {
        corrections_key("a", [Anchor(0, mask)]),
        corrections_key("a", [Anchor(0, other)]),
        corrections_key("a", [Anchor(1, mask)]),
        corrections_key("b", [Anchor(0, mask)]),
    }
    assert len(keys) == 4


def test_the_oldest_adapter_goes_first():
    adapters, made = Adapters(num_kept=2), []

    def make_of(key: str):
        made.append(key)
        return None, Learned(2, 0.5, 0.6, False)

    for key in ("a", "b", "a", "c", "a", "b"):
        adapters.fetch(key, lambda key=key: make_of(key))
    assert made == ["a", "b", "c", "b"]
