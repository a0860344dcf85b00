from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.errors import VideoError
from napari_virst.io.axes import find_layout


def cut(array: np.ndarray, frame: int, found: str | None = None, **choice) -> np.ndarray:
    layout = find_layout(array.shape, found, **choice)
    return layout.arrange(array[layout.index(frame)])


@pytest.mark.parametrize(
    ("shape", "found", "expected"),
    [
        pytest.param((5, 6), None, "YX", id="one image"),
        pytest.param((9, 5, 6), None, "TYX", id="a stack is time"),
        pytest.param((5, 6, 3), None, "YXS", id="one colour image"),
        pytest.param((9, 5, 6, 3), None, "TYXS", id="trailing 3 is RGB"),
        pytest.param((9, 5, 6, 4), None, "TYXS", id="trailing 4 is RGBA"),
        pytest.param((9, 5, 3), None, "YXS", id="9×5 colour image rather than a stack 3 wide"),
        pytest.param((9, 3, 3), None, "TYX", id="tiny frames are not colours"),
        pytest.param((9, 5, 6), "QYX", "TYX", id="one unknown axis is time"),
        pytest.param((9, 2, 5, 6), "TCYX", "TCYX", id="named axes are kept"),
        pytest.param((2, 9, 5, 6), "ctyx", "CTYX", id="lower case"),
        pytest.param((9, 5, 6, 1), "TYXS", "TYXC", id="one sample is no colour"),
        pytest.param((9, 2, 5, 6), "ZCYX", "TCYX", id="planes are frames where there is no time"),
        pytest.param((9, 5, 6, 3), "TYXC", "TYXS", id="three trailing channels are RGB"),
        pytest.param((1, 9, 5, 6), "QTYX", "QTYX", id="unknown axis of size 1 is harmless"),
    ],
)
def test_axes_come_from_names_else_from_the_shape(shape, found, expected):
    assert find_layout(shape, found).axes == expected


@pytest.mark.parametrize("shape", [(9, 2, 5, 6), (9, 7, 2, 5, 6), (9, 7, 2, 5, 6, 3)], ids=["4-D", "5-D", "6-D"])
def test_unnamed_axes_raise_with_the_axes_to_give(shape):
    with pytest.raises(VideoError, match=r'give axes="T[A-Z]+"') as caught:
        find_layout(shape, None)
    suggested = str(caught.value).split('axes="')[1].split('"')[0]
    assert find_layout(shape, None, axes=suggested).size("T") == 9


@pytest.mark.parametrize("axes", ["TYX", "TCYXX", "TTYX", "TCZX", "TCYW", "", "TCYS"], ids=lambda axes: axes or "empty")
def test_impossible_axes_are_refused(axes):
    with pytest.raises(VideoError, match="must"):
        find_layout((9, 2, 5, 6), None, axes=axes)


@pytest.mark.parametrize(
    "choice", [{"channel": 2}, {"channel": -1}, {"z": 7}, {"z": -1}, {"z": "median"}], ids=lambda choice: str(choice)
)
def test_impossible_channel_or_plane_is_refused_with_what_there_is(choice):
    with pytest.raises(VideoError, match=r"must be .*(0…1|0…6)"):
        find_layout((9, 2, 7, 5, 6), "TCZYX", **choice)


@pytest.mark.parametrize("choice", [{"channel": 1}, {"z": 1}, {"z": "max"}], ids=lambda choice: str(choice))
def test_choice_without_its_axis_is_refused(choice):
    with pytest.raises(VideoError, match="must be"):
        find_layout((9, 5, 6), "TYX", **choice)


@pytest.mark.parametrize("shape", [(0, 5, 6), (9, 0, 6)], ids=["no frames", "no rows"])
def test_empty_video_is_refused(shape):
    with pytest.raises(VideoError, match="at least one frame"):
        find_layout(shape, None)


def test_one_axis_is_refused():
    with pytest.raises(VideoError, match="at least two axes"):
        find_layout((9,), None)


def test_planes_of_colour_that_may_be_frames_are_said():
    assert 'give axes="TYX"' in find_layout((3, 5, 6), "SYX").notes[0]
    assert find_layout((3, 5, 6), "SYX", axes="TYX").notes == ()


def test_first_channel_and_middle_plane_are_chosen_and_said(rng):
    array = rng.integers(0, 99, (4, 2, 5, 6, 7))
    layout = find_layout(array.shape, "TCZYX")
    assert (layout.channel, layout.z) == (0, 2)
    assert len(layout.notes) == 2
    np.testing.assert_array_equal(cut(array, 3, "TCZYX"), array[3, 0, 2])


def test_given_choices_leave_nothing_to_say():
    assert find_layout((4, 2, 5, 6, 7), "TCZYX", channel=1, z="max").notes == ()


@pytest.mark.parametrize("how", ["max", "mean"])
def test_projection_keeps_the_dtype(rng, how):
    array = rng.integers(0, 256, (4, 5, 6, 7)).astype(np.uint8)
    frame = cut(array, 1, "TZYX", z=how)
    assert frame.dtype == np.uint8
    np.testing.assert_allclose(frame, getattr(array[1].astype(float), how)(axis=0), atol=0.5)


def test_plane_of_a_stack_without_time_is_one_frame():
    array = np.arange(3 * 5 * 6).reshape(3, 5, 6)
    assert find_layout(array.shape, "ZYX", z=1).size("T") == 1
    np.testing.assert_array_equal(cut(array, 0, "ZYX", z=1), array[1])


def test_channel_of_a_colour_video_is_gray(rng):
    array = rng.integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    np.testing.assert_array_equal(cut(array, 2, channel=1), array[2, ..., 1])


def test_alpha_is_dropped(rng):
    array = rng.integers(0, 256, (4, 5, 6, 4)).astype(np.uint8)
    np.testing.assert_array_equal(cut(array, 2), array[2, ..., :3])


def test_foreign_byte_order_and_bool_become_native():
    assert cut(np.ones((3, 5, 6), ">u2"), 0).dtype == np.dtype("=u2")
    assert cut(np.ones((3, 5, 6), bool), 0).dtype == np.uint8


@given(st.permutations("TCZYX"), st.integers(0, 3))
def test_frame_is_the_same_whatever_the_order_of_axes(order: list[str], frame: int):
    array = np.arange(4 * 2 * 5 * 6 * 7).reshape(4, 2, 5, 6, 7)
    moved = array.transpose(["TCZYX".index(letter) for letter in order])
    np.testing.assert_array_equal(cut(moved, frame, axes="".join(order), channel=1, z=3), array[frame, 1, 3])
    np.testing.assert_array_equal(
        cut(moved, frame, axes="".join(order), channel=1, z="max"), array[frame, 1].max(axis=0)
    )


def test_colour_movie_with_wrong_axes_is_told_its_own():
    with pytest.raises(VideoError, match=r'give axes="TYXS"\.'):
        find_layout((12, 96, 128, 3), "TYXS", axes="TYX")
