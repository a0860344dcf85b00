from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fixtures.learners import SIZE, build_tiny, draw_asked

from napari_virst.training.auxiliary import Auxiliary
from napari_virst.training.learner import AskingPlan, Learner
from napari_virst.training.lessons import FollowLesson, SceneLessons, prepare_follow
from napari_virst.training.losses import TERMS, LossWeights
from napari_virst.training.mask_prompts import PERFECT, GivenMasks
from napari_virst.training.seeing import number_in_scene, see_clips
from napari_virst.training.steps import follow, ground_step, listen


@pytest.fixture(scope="module")
def tiny():
    model, processor = build_tiny()
    return model.train(), processor


def auxiliary_for(model):
    config = model.config
    torch.manual_seed(0)
    return Auxiliary(
        config.segmenter_config.num_channels, config.video_config.hidden_size, config.text_config.hidden_size
    )


def losses_over_steps(learner, lesson, plan, num_steps=8):
    optimiser = torch.optim.AdamW(learner.parameters(), lr=2e-3)
    losses = []
    for _ in range(num_steps):
        loss, _ = learner(lesson, plan)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


PLANS = {
    "ground": AskingPlan((0, 2), (0, 1)),
    "hidden-video": AskingPlan((1,), (0,), show_video=False),
    "frozen-encoder": AskingPlan((0, 3), (1,), freeze_encoder=True),
    "propagate": AskingPlan((1, 3), (0, 1), is_propagated=True),
}


@pytest.mark.parametrize("name", PLANS)
def test_loss_of_a_language_lesson_falls(name):
    model, processor = build_tiny()
    learner = Learner(model.train(), processor, LossWeights())
    losses = losses_over_steps(learner, draw_asked(processor), PLANS[name])
    assert losses[-1] < 0.9 * losses[0]


def test_loss_of_a_following_lesson_falls():
    model, processor = build_tiny()
    generator = torch.Generator().manual_seed(1)
    clips = SceneLessons().clips(2, 3, SIZE, generator, "window")
    lesson = prepare_follow(clips, processor, PERFECT, generator)
    losses = losses_over_steps(Learner(model.train(), processor, LossWeights()), lesson, None)
    assert losses[-1] < 0.9 * losses[0]


def test_published_weights_learn_from_the_answer_and_skip_auxiliary_tasks():
    model, processor = build_tiny()
    learner = Learner(model.train(), processor, LossWeights.published())
    _, terms = learner(draw_asked(processor), PLANS["ground"])
    assert set(terms) == {"mask", "iou", "presence", "token"}
    losses = losses_over_steps(learner, draw_asked(processor), PLANS["ground"])
    assert losses[-1] < losses[0]


def test_terms_are_columns_of_the_log(tiny):
    model, processor = tiny
    _, terms = Learner(model, processor, LossWeights(token=1.0))(draw_asked(processor), PLANS["ground"])
    assert set(terms) == set(TERMS)


def test_frames_of_a_scene_are_encoded_once_for_all_its_queries(tiny, monkeypatch):
    model, processor = tiny
    lesson = draw_asked(processor, num_scenes=2, num_queries=3)
    assert len(lesson.queries) > 2
    seen = []
    encode = model.segmenter.encode
    monkeypatch.setattr(model.segmenter, "encode", lambda pixels: seen.append(len(pixels)) or encode(pixels))
    ground_step(model, processor, lesson, LossWeights(), auxiliary_for(model), segmentation_frames=(0, 2))
    assert seen == [4]


def test_each_query_is_answered_as_if_it_were_asked_alone(tiny):
    model, processor = tiny
    lesson = draw_asked(processor, num_scenes=2, num_queries=2)
    with torch.no_grad():
        features = model.segmenter.encode(lesson.pixels_BT3SS.flatten(0, 1))
        maps = features.coarse_BCHW.unflatten(0, (2, 4))
        together = listen(model, processor, lesson, maps, (0, 1, 2, 3)).grounding.prompts_BNTC
        for row, query in enumerate(lesson.queries):
            scene = int(lesson.scene_of_X[row])
            tokens = processor.text_ids(query)
            visual = model.encode_clips(lesson.pixels_BT3SS[scene : scene + 1])
            alone = model.ground(visual, tokens.input_ids, None, maps[scene : scene + 1]).prompts_BNTC
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-4)


def test_visual_tokens_are_those_of_inference_and_shares_sum_to_the_masks(tiny):
    model, processor = tiny
    lesson = draw_asked(processor, num_scenes=2, num_queries=3)
    with torch.no_grad():
        seen = see_clips(model, lesson)
        torch.testing.assert_close(seen.visual_BVD, model.encode_clips(lesson.pixels_BT3SS))
        config = model.config.video_config
        from napari_virst.model.video_tower import merge_tokens

        _, sizes = merge_tokens(seen.tokens_cNC, config.num_tokens_per_clip, config.num_attention_heads)
    shares_XV = seen.shares(lesson)
    sizes_XV = sizes[lesson.scene_of_X, :, 0]
    num_patches = 4 * config.patch_grid**2
    expected_X = lesson.masks_XTSS.mean((1, 2, 3)) * num_patches
    torch.testing.assert_close((shares_XV * sizes_XV).sum(1), expected_X, atol=1e-4, rtol=1e-4)
    assert float(shares_XV.min()) >= 0
    assert float(shares_XV.max()) <= 1 + 1e-6


def test_the_last_frame_of_a_lesson_shorter_than_a_clip_is_repeated(tiny):
    model, processor = tiny
    lesson = draw_asked(processor, num_scenes=2, num_queries=2)
    short = replace(
        lesson,
        pixels_BT3SS=lesson.pixels_BT3SS[:, :3],
        owners_BTSS=lesson.owners_BTSS[:, :3],
        masks_XTSS=lesson.masks_XTSS[:, :3],
    )
    with torch.no_grad():
        seen = see_clips(model, short)
        filled = model.encode_clips(short.pixels_BT3SS[:, [0, 1, 2, 2]])
    torch.testing.assert_close(seen.visual_BVD, filled)
    torch.testing.assert_close(seen.owners_BTSS[:, 3], lesson.owners_BTSS[:, 2])


def test_queries_are_numbered_within_their_scene():
    assert number_in_scene(torch.tensor([0, 0, 0, 2, 5, 5])).tolist() == [0, 1, 2, 0, 0, 1]


def test_frozen_encoder_gets_no_gradient_from_language():
    model, processor = build_tiny()
    loss, _ = Learner(model.train(), processor, LossWeights())(draw_asked(processor), PLANS["frozen-encoder"])
    loss.backward()
    assert all(p.grad is None for p in model.segmenter.vision_encoder.parameters())
    assert any(p.grad is not None for p in model.segmenter.mask_decoder.parameters())


def test_given_frames_are_anchors_and_are_not_answered(tiny):
    model, processor = tiny
    generator = torch.Generator().manual_seed(1)
    clips = SceneLessons().clips(1, 4, SIZE, generator, "window")
    lesson = prepare_follow(clips, processor, PERFECT, generator)
    given = GivenMasks((0, 2), lesson.masks_BTSS[:, [0, 2]])
    answers = follow(model.segmenter, FollowLesson(lesson.pixels_BT3SS, lesson.masks_BTSS, given))
    assert sorted(answers) == [1, 3]


def test_a_later_given_mask_changes_the_frames_beside_it(tiny):
    model, processor = tiny
    generator = torch.Generator().manual_seed(1)
    clips = SceneLessons().clips(1, 4, SIZE, generator, "window")
    lesson = prepare_follow(clips, processor, PERFECT, generator)
    absent = torch.cat([lesson.masks_BTSS[:, :1], torch.zeros_like(lesson.masks_BTSS[:, :1])], 1)
    with torch.no_grad():
        plain = follow(model.segmenter, lesson)
        corrected = FollowLesson(lesson.pixels_BT3SS, lesson.masks_BTSS, GivenMasks((0, 2), absent))
        pulled = follow(model.segmenter, corrected)
    for frame in (1, 3):
        assert not torch.equal(plain[frame].candidates_BMhw, pulled[frame].candidates_BMhw)


def test_mixed_precision_gives_nearly_the_same_loss(tiny):
    model, processor = tiny
    lesson = draw_asked(processor)
    losses = {}
    for precision in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        losses[precision], _ = Learner(model, processor, LossWeights(), precision)(lesson, PLANS["propagate"])
    assert losses[torch.bfloat16].dtype == torch.float32
    assert losses[torch.bfloat16].item() == pytest.approx(losses[torch.float32].item(), rel=0.05)
