"""Given masks along optical flow: where they go, when they fall silent, and that nothing depends on the order."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_virst.engine.carrying import CarriedMasks
from napari_virst.engine.options import CarryRule
from napari_virst.engine.stopping import StoppedError
from napari_virst.errors import InputError, VideoError

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


EVERYWHERE = slice(0, HEIGHT), slice(0, WIDTH)


class Whole:
    """Asks for whole frames."""

    def __init__(self, masks: CarriedMasks) -> None:
        self.masks = masks

    def log_odds(self, frame: int) -> np.ndarray | None:
        return self.masks.log_odds(frame, EVERYWHERE)


def carried(video, masks, **options) -> Whole:
    rule = CarryRule(**{key: options.pop(key) for key in ("reach_frames", "weight") if key in options})
    return Whole(CarriedMasks(video[..., 0].__getitem__, masks, rule, **options))


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


@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (1, 2000), (16, 700), (33, 33), (500, 900)])
def test_frames_of_any_size(shape):
    frames = np.random.default_rng(0).integers(0, 255, (3, *shape), dtype=np.uint8)
    mask = np.zeros(shape, bool)
    mask[: shape[0] - 1, : shape[1] - 1] = True
    mask[0, 0] = True
    log_odds = CarriedMasks(frames.__getitem__, {0: mask}, CarryRule()).log_odds(2, tuple(map(slice, (0, 0), shape)))
    assert log_odds.shape == shape
    assert np.isfinite(log_odds).all()


def test_a_frame_wider_than_opencv_takes_is_no_error():
    frames, mask = np.zeros((2, 24, 33_000), np.uint8), np.ones((24, 33_000), bool)
    masks = CarriedMasks(frames.__getitem__, {0: mask}, CarryRule())
    assert masks.log_odds(1, (slice(0, 24), slice(100, 200))).shape == (24, 100)


def test_where_opencv_gives_up_nothing_is_said(video, monkeypatch):
    def refuse(*pictures: np.ndarray) -> None:
        raise cv2.error("(-215:Assertion failed) dst.cols < SHRT_MAX")

    masks = carried(video, {0: truth(0)})
    monkeypatch.setattr(masks.masks._flow, "between", refuse)
    assert not masks.log_odds(1).any()


def test_a_part_says_what_the_whole_says_there(video):
    place = slice(20, 60), slice(30, 90)
    masks = carried(video, {0: truth(0), 6: truth(6)})
    assert np.array_equal(masks.masks.log_odds(3, place), masks.log_odds(3)[place])


def test_a_large_object_is_carried_on_a_coarser_grid(video):
    large = np.kron(video[..., 0], np.ones((1, 10, 10), np.uint8))
    mask = np.kron(truth(0), np.ones((10, 10), bool))
    masks = CarriedMasks(large.__getitem__, {0: mask}, CarryRule())
    found = masks.log_odds(2, (slice(0, HEIGHT * 10), slice(0, WIDTH * 10))) > 0
    expected = np.kron(truth(2), np.ones((10, 10), bool))
    assert (found & expected).sum() / (found | expected).sum() > 0.9
    assert all(max(link.share_vu.shape) <= 384 + 2 for chain in masks._chains.values() for link in chain.links)


@pytest.mark.parametrize(("given_frame", "frame", "to_frame"), [(0, 0, 1), (0, 3, 4), (8, 8, 7), (8, 5, 4), (0, 0, 3)])
def test_it_says_how_far_the_object_goes(video, given_frame, frame, to_frame):
    down, right = carried(video, {given_frame: truth(given_frame)}).masks.step(frame, to_frame)
    assert abs(down) < 1
    assert right == pytest.approx(SPEED * (to_frame - frame), abs=1.5)


@pytest.mark.parametrize(("frame", "to_frame"), [(9, 10), (8, 9), (2, 12)])
def test_beyond_its_reach_it_knows_no_step(video, frame, to_frame):
    assert carried(video, {0: truth(0)}).masks.step(frame, to_frame) is None


def test_of_what_is_lost_it_knows_no_step(video):
    torn = video.copy()
    torn[2:] = np.random.default_rng(2).integers(0, 255, torn[2:].shape)
    assert carried(torn, {0: truth(0)}).masks.step(3, 4) is None


@pytest.mark.parametrize("speed_px", [14, 22])
def test_of_what_jumps_farther_than_flow_looks_it_says_nothing(speed_px):
    """A disc that is elsewhere on the next frame: the old place must not be claimed, nor the new one denied."""
    noise = np.random.default_rng(0).normal(90, 12, (100, 160))
    y, x = np.mgrid[:100, :160]
    discs = [(y - 50) ** 2 + (x - 15 - speed_px * t) ** 2 <= 64 for t in range(4)]
    frames = np.stack([np.clip(noise + 90 * disc, 0, 255) for disc in discs]).astype(np.uint8)
    masks = CarriedMasks(frames.__getitem__, {0: discs[0]}, CarryRule())
    for frame in (1, 2, 3):
        log_odds = masks.log_odds(frame, (slice(0, 100), slice(0, 160)))
        assert log_odds[discs[frame]].mean() > -0.5
        assert log_odds[discs[0]].mean() < 0.5


def test_beyond_what_flow_has_looked_at_nothing_is_known(video):
    assert not carried(video, {0: truth(0)}).log_odds(1)[:, -20:].any()


def test_a_frame_that_cannot_be_read_ends_what_is_carried(video):
    def read(frame: int) -> np.ndarray:
        if frame == 4:
            raise VideoError("Frame 4 must be readable; it is torn.")
        return video[frame, ..., 0]

    masks = Whole(CarriedMasks(read, {0: truth(0)}, CarryRule()))
    assert overlap(masks.log_odds(3), 3) > 0.8
    assert not masks.log_odds(5).any()


def test_it_stops_between_two_frames_and_goes_on_from_there(video):
    read: list[int] = []

    def note(frame: int) -> np.ndarray:
        read.append(frame)
        return video[frame, ..., 0]

    masks = CarriedMasks(note, {0: truth(0)}, CarryRule())
    with pytest.raises(StoppedError):
        masks.log_odds(6, EVERYWHERE, lambda: len(read) >= 4)
    assert max(read) == 2
    expected = carried(video, {0: truth(0)}).log_odds(6)
    assert np.array_equal(masks.log_odds(6, EVERYWHERE), expected)
    assert read[4] == 2


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
    assert len(masks.masks._chains) <= 2


def test_a_rule_with_negative_numbers_is_refused():
    with pytest.raises(InputError, match="negative"):
        CarryRule(reach_frames=-1)
