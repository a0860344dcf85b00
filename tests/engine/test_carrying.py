"""Given masks along optical flow: where they go, when they fall silent, and that nothing depends on the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_virst.engine.carrying import CarriedMasks
from napari_virst.engine.options import CarryRule
from napari_virst.errors import InputError

NUM_FRAMES, HEIGHT, WIDTH = 12, 96, 120
SPEED = 3
"""Pixels to the right per frame."""


@pytest.fixture(scope="module")
def ground() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (HEIGHT // 6, WIDTH // 6))
    return np.kron(coarse, np.ones((6, 6))).astype(np.uint8)


@pytest.fixture(scope="module")
def video(ground) -> np.ndarray:
    """A textured square that moves over textured ground."""
    frames = np.repeat(np.repeat(ground[None, ..., None] // 3, 3, -1), NUM_FRAMES, 0)
    patch = np.random.default_rng(1).integers(150, 255, (6, 6))
    patch = np.kron(patch, np.ones((4, 4))).astype(np.uint8)
    for t in range(NUM_FRAMES):
        frames[t, 30:54, 20 + SPEED * t : 44 + SPEED * t] = patch[..., None]
    return frames


def truth(frame: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:54, 20 + SPEED * frame : 44 + SPEED * frame] = True
    return mask


ABSENT = np.zeros((HEIGHT, WIDTH), bool)


def carried(video, masks, **options) -> CarriedMasks:
    rule = CarryRule(**{key: options.pop(key) for key in ("reach_frames", "weight") if key in options})
    return CarriedMasks(video.__getitem__, masks, rule, **options)


def overlap(log_odds, frame: int) -> float:
    found = log_odds > 0
    return (found & truth(frame)).sum() / (found | truth(frame)).sum()


@pytest.mark.parametrize(("given_frame", "frame"), [(0, 1), (0, 6), (8, 7), (11, 4)])
def test_a_mask_goes_with_what_it_was_painted_on(video, given_frame, frame):
    stayed = (truth(given_frame) & truth(frame)).sum() / (truth(given_frame) | truth(frame)).sum()
    assert overlap(carried(video, {given_frame: truth(given_frame)}).log_odds(frame), frame) > max(0.7, stayed + 0.1)


def test_it_counts_less_with_every_frame(video):
    masks = carried(video, {0: truth(0)})
    strongest = [float(masks.log_odds(frame).max()) for frame in range(1, 9)]
    assert strongest == sorted(strongest, reverse=True)
    assert strongest[7] < 0.3 * strongest[0]


def test_between_two_masks_both_are_asked(video):
    one, two = carried(video, {0: truth(0)}), carried(video, {0: truth(0), 6: truth(6)})
    assert np.array_equal(one.log_odds(1).shape, two.log_odds(1).shape)
    assert float(two.log_odds(5).max()) > 2 * float(one.log_odds(5).max())
    assert overlap(two.log_odds(5), 5) > 0.9


@pytest.mark.parametrize("frame", [0, 9, 11])
def test_beyond_its_reach_and_on_its_own_frame_it_says_nothing(video, frame):
    assert carried(video, {0: truth(0)}).log_odds(frame) is None


def test_a_reach_of_nothing_carries_nothing(video):
    assert carried(video, {0: truth(0)}, reach_frames=0).log_odds(1) is None


def test_absent_carries_nothing_and_ends_what_comes_from_beyond(video):
    masks = carried(video, {0: truth(0), 3: ABSENT})
    assert masks.log_odds(4) is None
    assert masks.log_odds(2) is not None


def test_only_onward_asks_no_later_mask(video):
    assert carried(video, {5: truth(5)}, only_onward=True).log_odds(4) is None
    assert carried(video, {5: truth(5)}, only_onward=True).log_odds(6) is not None


def test_where_flow_contradicts_itself_it_is_not_trusted(video):
    torn = video.copy()
    torn[1] = np.random.default_rng(2).integers(0, 255, torn[1].shape)
    whole, broken = (carried(frames, {0: truth(0)}).log_odds(1) for frames in (video, torn))
    assert np.abs(broken[truth(0)]).mean() < 0.85 * np.abs(whole[truth(0)]).mean()


def test_an_object_that_leaves_the_frame_is_no_error(video):
    masks = carried(video[::-1], {0: ABSENT | (np.arange(WIDTH) > WIDTH - 3)})
    assert all(masks.log_odds(frame).shape == (HEIGHT, WIDTH) for frame in range(1, 9))


@pytest.mark.parametrize("shape", [(4, 5), (16, 700), (33, 33)])
def test_frames_of_any_size(shape):
    frames = np.random.default_rng(0).integers(0, 255, (3, *shape, 3), dtype=np.uint8)
    mask = np.zeros(shape, bool)
    mask[1:3, 1:4] = True
    log_odds = CarriedMasks(frames.__getitem__, {0: mask}, CarryRule()).log_odds(2)
    assert log_odds.shape == shape
    assert np.isfinite(log_odds).all()


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(NUM_FRAMES)))
def test_what_is_said_does_not_depend_on_the_order_of_asking(video, order):
    asked = carried(video, {2: truth(2), 9: truth(9)})
    for frame in order:
        fresh, again = carried(video, {2: truth(2), 9: truth(9)}).log_odds(frame), asked.log_odds(frame)
        assert (fresh is None and again is None) or np.array_equal(fresh, again)


def test_memory_is_bounded_whatever_the_number_of_masks(video):
    masks = carried(video, {frame: truth(frame) for frame in range(0, NUM_FRAMES, 2)})
    for frame in range(NUM_FRAMES):
        masks.log_odds(frame)
    assert len(masks._chains) <= 2


def test_a_rule_with_negative_numbers_is_refused():
    with pytest.raises(InputError, match="negative"):
        CarryRule(reach_frames=-1)
