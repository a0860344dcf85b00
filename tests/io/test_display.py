from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.errors import VideoError
from napari_virst.io.display import Display, robust_limits

RED_TO_WHITE = np.array([[1.0, 0, 0, 1], [1, 1, 1, 0.5]])


@pytest.mark.parametrize("limits", [None, (0, 255)], ids=["no limits", "full range"])
def test_rgb_uint8_passes_through_unchanged(rng, limits):
    frame = rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    assert Display(limits).to_rgb(frame) is frame


def test_gray_uint8_is_repeated_exactly(rng):
    frame = rng.integers(0, 256, (5, 6)).astype(np.uint8)
    np.testing.assert_array_equal(Display().to_rgb(frame), np.repeat(frame[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(4, 5), (400, 300)], ids=["by value", "by table"])
def test_limits_map_to_black_and_white_in_every_dtype(dtype, shape):
    frame = np.full(shape, 15).astype(dtype)
    frame[0, :3] = (10, 20, 100)
    rgb = Display((10, 20)).to_rgb(frame)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (*shape, 3)
    assert rgb[0, :4, 0].tolist() == [0, 255, 255, 128]


def test_nan_is_dark_and_infinities_are_clipped():
    frame = np.array([[np.nan, np.inf, -np.inf, 0.5]], np.float32)
    assert Display((0, 1)).to_rgb(frame)[0, :, 0].tolist() == [0, 255, 0, 128]


def test_gamma_below_one_brightens():
    frame = np.full((2, 2), 64, np.uint8)
    assert Display(gamma=0.5).to_rgb(frame)[0, 0, 0] == round(255 * (64 / 255) ** 0.5)


def test_colormap_is_interpolated_between_evenly_spaced_points():
    rgb = Display((0, 1), RED_TO_WHITE).to_rgb(np.array([[0.0, 0.5, 1.0]]))
    assert rgb[0].tolist() == [[255, 0, 0], [255, 128, 128], [255, 255, 255]]


def test_colormap_leaves_colour_videos_alone(rng):
    frame = rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    np.testing.assert_array_equal(Display(colormap=RED_TO_WHITE).to_rgb(frame), frame)


def test_empty_range_of_limits_does_not_divide_by_zero():
    assert Display((5, 5)).to_rgb(np.array([[4.0, 5.0, 6.0]]))[0, :, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    "settings",
    [
        {"contrast_limits": (2, 1)},
        {"contrast_limits": (0, np.inf)},
        {"gamma": 0},
        {"gamma": np.nan},
        {"colormap": np.zeros((1, 3))},
        {"colormap": np.zeros((5, 2))},
    ],
    ids=["descending", "infinite", "no gamma", "NaN gamma", "one colour", "two components"],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(VideoError, match="must be"):
        Display(**settings)


def test_equal_settings_are_equal_and_others_are_not():
    displays = [Display((0, 1), RED_TO_WHITE), Display((0.0, 1.0), RED_TO_WHITE.copy())]
    assert displays[0] == displays[1]
    assert len({*displays}) == 1
    others = [Display(), Display((0, 2), RED_TO_WHITE), Display((0, 1)), Display((0, 1), RED_TO_WHITE, 2)]
    assert len({display.fingerprint for display in (*displays, *others)}) == 5


def test_robust_limits_ignore_hot_pixels_and_nan(rng):
    frame = rng.uniform(10, 20, (200, 200))
    frame[0, :4] = (1e9, np.nan, np.inf, -1e9)
    low, high = robust_limits([frame], frame.dtype)
    assert 9.9 <= low < high <= 20.1


def test_robust_limits_take_the_widest_of_the_frames():
    frames = [np.linspace(0, 5, 1000), np.linspace(3, 9, 1000)]
    assert robust_limits(frames, np.dtype(float)) == pytest.approx((0, 9), abs=0.01)


def test_robust_limits_of_nothing_finite_are_the_full_range():
    assert robust_limits([np.full((3, 3), np.nan)], np.dtype(float)) == (0, 1)


@given(st.integers(0, 65535))
def test_robust_limits_of_a_flat_video_ascend(value: int):
    low, high = robust_limits([np.full((3, 3), value, np.uint16)], np.dtype(np.uint16))
    assert low <= value <= high
    assert low < high
