from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.errors import VideoError
from napari_virst.io._decoders import ArrayDecoder
from napari_virst.io.axes import find_layout
from napari_virst.io.display import Display
from napari_virst.io.reader import FrameReader, NativeFrames, spread

ARRAY = np.arange(5 * 4 * 6, dtype=np.uint8).reshape(5, 4, 6)


class Counting:
    """An array that notes which frames are asked for, and fails where told."""

    shape, dtype = ARRAY.shape, ARRAY.dtype

    def __init__(self, failing: int | None = None) -> None:
        self.read: list[int] = []
        self.failing = failing

    def __getitem__(self, index):
        self.read.append(index[0])
        if index[0] == self.failing:
            raise OSError("no more disk")
        return ARRAY[index]


def native(array) -> NativeFrames:
    decoder = ArrayDecoder(array, "the array")
    return NativeFrames(decoder, find_layout(decoder.shape, decoder.axes))


@given(st.slices(5), st.slices(4), st.integers(0, 5))
def test_native_frames_index_like_an_array(frames: slice, rows: slice, column: int):
    np.testing.assert_array_equal(native(ARRAY)[frames, rows, column], ARRAY[frames, rows, column])
    np.testing.assert_array_equal(native(ARRAY)[frames], ARRAY[frames])


def test_native_frame_by_number_indexes_like_an_array():
    np.testing.assert_array_equal(native(ARRAY)[np.int64(3), 1:, ::2], ARRAY[3, 1:, ::2])


def test_frame_read_twice_is_decoded_once():
    array = Counting()
    reader = FrameReader(native(array), Display())
    for number in (2, 3, 2, np.int64(3)):
        np.testing.assert_array_equal(reader[number][..., 0], ARRAY[number])
    assert array.read == [2, 3]


def test_frame_that_cannot_be_read_raises_with_its_number_and_the_next_is_read():
    reader = FrameReader(native(Counting(failing=2)), Display())
    with pytest.raises(VideoError, match='got "no more disk" at frame 2 of the array'):
        reader[2]
    np.testing.assert_array_equal(reader[3][..., 0], ARRAY[3])


@given(st.integers(1, 50), st.integers(1, 50))
def test_spread_numbers_are_within_and_hold_both_ends(size: int, count: int):
    numbers = spread(size, count)
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] == (size - 1 if min(size, count) > 1 else 0)
    assert len(numbers) == min(size, count)
