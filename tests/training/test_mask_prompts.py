from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_virst.training.mask_prompts import PERFECT, MaskPrompts, cut_away, draw_given


def clips(batch=6, num_frames=5, side=24):
    masks = torch.zeros(batch, num_frames, side, side)
    masks[:, :, 6:16, 8:20] = 1
    return masks


def draw(prompts, seed=0, masks=None):
    return draw_given(clips() if masks is None else masks, prompts, torch.Generator().manual_seed(seed))


def test_perfect_prompts_give_the_first_mask_and_nothing_else():
    given_masks = draw(PERFECT)
    assert given_masks.frames == (0,)
    assert torch.equal(given_masks.masks_BGSS, clips()[:, :1])


def test_partial_masks_lie_within_the_object_and_keep_half_of_it():
    first = draw(MaskPrompts(partial=1, shifted=0, later=0, cut=0)).masks_BGSS[:, 0]
    share = first.sum((1, 2)) / clips()[:, 0].sum((1, 2))
    assert not bool((first > clips()[:, 0]).any())
    assert 0.45 < float(share.min()) <= float(share.max()) < 0.95


def test_shifted_masks_still_touch_the_object():
    first = draw(MaskPrompts(partial=0, shifted=1, later=0, cut=0), seed=2).masks_BGSS[:, 0]
    overlap = (first * clips()[:, 0]).sum((1, 2)) / clips()[:, 0].sum((1, 2))
    assert float(overlap.min()) > 0.3
    assert float(overlap.min()) < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_later_frames_bring_the_truth_and_leave_one_frame_to_follow(seed, num_frames):
    masks = clips(num_frames=num_frames)
    masks[2, 1:] = 0
    given_masks = draw(MaskPrompts(later=1), seed, masks)
    later = given_masks.frames[1:]
    assert list(later) == sorted(set(later))
    assert len(given_masks.frames) < num_frames
    assert (num_frames > 2) == bool(later)
    for place, frame in enumerate(given_masks.frames[1:], 1):
        assert torch.equal(given_masks.masks_BGSS[:, place], masks[:, frame])


def test_a_cut_clip_shows_its_neighbour_and_no_object_from_there_on():
    pixels, masks = torch.arange(4.0)[:, None, None, None, None].expand(4, 5, 3, 24, 24), clips(4)
    cut_pixels, cut_masks = cut_away(pixels, masks, 1.0, torch.Generator().manual_seed(0))
    for row in range(4):
        is_gone = ~cut_masks[row].flatten(1).any(1)
        assert not bool(is_gone[0])
        assert bool(is_gone[-1])
        assert bool((is_gone.int().diff() >= 0).all())
        assert torch.equal(cut_pixels[row, is_gone], pixels[row - 1, is_gone])
        assert torch.equal(cut_pixels[row, ~is_gone], pixels[row, ~is_gone])


def test_plain_following_is_the_most_frequent_lesson_by_default():
    prompts = MaskPrompts()
    plain = (1 - prompts.partial - prompts.shifted) * (1 - prompts.later) * (1 - prompts.cut)
    assert plain > 0.5


@pytest.mark.parametrize("shares", [{"later": 1.2}, {"cut": -0.1}, {"partial": 0.6, "shifted": 0.6}], ids=str)
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="in 0…1"):
        MaskPrompts(**shares)
