from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.model.windows import Window, WindowRule, add_evidence, cut, cut_at, expected_step, mask_tensor, paste


def square(height: int, width: int, y: int, x: int, side: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[y : y + side, x : x + side] = True
    return mask


@pytest.mark.parametrize(
    "window",
    [
        Window.whole(60, 80),
        Window(10, 20, 32, 32),
        Window(-10, -12, 40, 40),
        Window(40, 60, 50, 50),
        Window(-20, -20, 140, 140),
    ],
    ids=["whole-frame", "inside", "beyond-top-left", "beyond-bottom-right", "around-the-frame"],
)
def test_a_mask_survives_the_way_through_a_window(window):
    mask = square(60, 80, 18, 26, 16) | square(60, 80, 45, 65, 10)
    inside = np.zeros_like(mask)
    inside[max(0, window.y0) : window.y0 + window.height, max(0, window.x0) : window.x0 + window.width] = True
    logits = mask_tensor(mask, window, 160, torch.device("cpu"))[0, 0] * 20 - 10
    back = paste(logits, window, 60, 80)
    union = np.count_nonzero(back | (mask & inside))
    assert np.count_nonzero(back & mask) >= 0.9 * union
    assert not (back & ~inside).any()


@given(st.lists(st.floats(0.05, 0.95), min_size=3, max_size=40))
def test_no_other_cut_has_a_higher_expected_iou(probabilities):
    falling = np.sort(probabilities)[::-1]
    inside = np.cumsum(falling)
    expected = inside / (np.arange(1, len(falling) + 1) + falling.sum() - inside)
    kept = falling[np.log(falling / (1 - falling)) > cut_at(float(expected.max()))]
    ours = kept.sum() / (len(kept) + falling.sum() - kept.sum())
    assert ours == pytest.approx(expected.max(), abs=1e-6)


def test_an_unsure_mask_is_cut_lower_and_a_sure_one_where_it_always_was():
    logits = torch.full((4, 4), -0.5)
    assert not paste(logits, Window.whole(8, 8), 8, 8, cut_at(1.0)).any()
    assert paste(logits, Window.whole(8, 8), 8, 8, cut_at(0.5)).all()
    assert cut_at(0.0) == cut_at(0.01) > -4.0


@given(st.integers(-90, 90), st.integers(-90, 90), st.integers(32, 120))
def test_every_window_gives_the_asked_size(y0, x0, side):
    image = torch.rand(1, 3, 60, 80)
    assert cut(image, Window(y0, x0, side, side), 16, 0.5).shape == (1, 3, 16, 16)
    assert paste(torch.zeros(4, 4), Window(y0, x0, side, side), 60, 80).shape == (60, 80)


def test_beyond_the_frame_is_filled():
    out = cut(torch.ones(1, 1, 10, 10), Window(-40, -40, 32, 32), 8, 0.25)
    torch.testing.assert_close(out, torch.full_like(out, 0.25))


def test_window_follows_the_box():
    window = WindowRule().around(square(200, 200, 80, 100, 40))
    assert window is not None
    assert window.centre == pytest.approx((99.5, 119.5), abs=1)
    assert window.height == pytest.approx(1.7 * 40, abs=2)


@given(
    st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1), st.integers(0, 2**16), st.sampled_from([None, 20, 70])
)
def test_window_is_around_the_percentiles_of_the_pixels(height, width, density, seed, previous):
    mask = np.random.default_rng(seed).random((height, width)) < density
    y, x = np.nonzero(mask)
    before = None if previous is None else Window(0, 0, previous, previous)
    rule, found = WindowRule(min_side=1), WindowRule(min_side=1).around(mask, before)
    if len(y) < 4:
        assert found is None
        return
    (top, bottom), (left, right) = np.percentile(y, [1, 99]), np.percentile(x, [1, 99])
    side = rule.context * (max(bottom - top, right - left) + 1)
    if previous is not None:
        side = rule.smoothing * previous + (1 - rule.smoothing) * side
    assert found == rule._square((top + bottom) / 2, (left + right) / 2, side, mask.shape)


def test_specks_do_not_move_the_window():
    mask = square(200, 200, 80, 100, 40)
    mask[5, 5] = True
    assert WindowRule().around(mask) == WindowRule().around(square(200, 200, 80, 100, 40))


def test_lost_object_widens_the_window_up_to_a_limit():
    rule, window = WindowRule(), Window(50, 50, 40, 40)
    assert rule.grown(window, (200, 200)).height == 50
    for _ in range(30):
        window = rule.grown(window, (200, 200))
    assert window.height == 260


def test_empty_mask_has_no_window():
    assert WindowRule().around(np.zeros((20, 20), bool)) is None


@given(st.integers(-90, 90), st.integers(-90, 90), st.integers(32, 120))
def test_trimming_first_gives_the_same_pixels(y0, x0, side):
    image, window = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8), Window(y0, x0, side, side)
    part, moved = window.trim(image)
    as_tensor = lambda a: torch.from_numpy(np.ascontiguousarray(a)).permute(2, 0, 1)[None].float()  # noqa: E731
    overlaps = y0 < 60 and x0 < 80 and y0 + side > 0 and x0 + side > 0
    if overlaps:
        torch.testing.assert_close(cut(as_tensor(part), moved, 16, 127.0), cut(as_tensor(image), window, 16, 127.0))


places = st.dictionaries(
    st.integers(0, 60), st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=2, max_size=6
)


@given(places)
def test_steps_between_known_places_add_up_to_the_way_between_them(centres):
    known = sorted(centres)
    for first, last in pairwise(known):
        steps = [expected_step(centres, frame, frame + 1) for frame in range(first, last)]
        way = np.subtract(centres[last], centres[first])
        np.testing.assert_allclose(np.sum(steps, axis=0), way, atol=1e-6)


@given(places, st.integers(-5, 65), st.integers(-5, 65))
def test_a_step_back_undoes_the_step_there(centres, frame, other):
    there, back = expected_step(centres, frame, other), expected_step(centres, other, frame)
    if there is None or back is None:
        assert there is back is None
    else:
        np.testing.assert_allclose(there, np.negative(back), atol=1e-9)


@given(places, st.integers(1, 9))
def test_nothing_is_expected_beyond_the_known_places(centres, distance):
    before, after = min(centres) - distance, max(centres)
    assert expected_step(centres, before, before + 1) is None
    assert expected_step(centres, after, after + distance) is None
    assert expected_step({}, 0, 1) is None


def test_a_window_moves_by_whole_pixels():
    assert Window(3, 4, 32, 40).moved(1.6, -2.4) == Window(5, 2, 32, 40)


def test_evidence_is_added_at_full_resolution():
    evidence = np.zeros((16, 16), np.float32)
    evidence[4, 5] = 3
    mask = paste(torch.full((4, 4), -1.0), Window.whole(16, 16), 16, 16, evidence=evidence)
    assert np.argwhere(mask).tolist() == [[4, 5]]


def test_evidence_outweighs_no_logit_without_bound():
    evidence = np.full((16, 16), 9, np.float32)
    assert paste(torch.full((4, 4), -1024.0), Window.whole(16, 16), 16, 16, evidence=evidence).all()


@pytest.mark.parametrize("window", [Window(-8, -8, 32, 32), Window(4, 4, 8, 8), Window(10, -20, 40, 40)])
def test_evidence_on_a_window_lies_where_it_does_on_the_frame(window):
    evidence = np.zeros((24, 24), np.float32)
    evidence[8:16, 8:16] = 4
    part = np.ascontiguousarray(evidence[window.place(24, 24)])
    low_res = add_evidence(torch.full((32, 32), -2.0), window, part, (24, 24))
    y0, x0, y1, x1 = max(0, window.y0), max(0, window.x0), window.y0 + window.height, window.x0 + window.width
    inside = np.zeros((24, 24), bool)
    inside[y0:y1, x0:x1] = True
    assert np.array_equal(paste(low_res, window, 24, 24), (evidence > 0) & inside)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_evidence_is_added_to_logits_of_any_precision(dtype):
    found = add_evidence(torch.zeros(8, 8, dtype=dtype), Window(0, 0, 16, 16), np.ones((16, 16), np.float32), (16, 16))
    assert found.dtype == dtype
    assert torch.equal(found, torch.ones_like(found))
