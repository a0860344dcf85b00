from __future__ import annotations

import numpy as np
import pytest
from fixtures.benchmarks import compressed, run_lengths
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_virst.errors import MaskError
from napari_virst.io.run_lengths import decode_run_lengths, encode_run_lengths

pytest.importorskip("pycocotools")


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_decode_to_the_mask_they_were_made_from(mask):
    np.testing.assert_array_equal(decode_run_lengths(run_lengths(mask), mask.shape), mask)
    np.testing.assert_array_equal(decode_run_lengths(compressed(mask), mask.shape), mask)


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_masks_are_encoded_as_pycocotools_encodes_them(mask):
    assert encode_run_lengths(mask) == compressed(mask)


@settings(deadline=None)
@given(
    arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))),
    st.tuples(*[st.one_of(st.just(0), st.integers(1, 2000))] * 4),
)
def test_part_of_a_frame_is_encoded_as_the_whole_frame(part, margins):
    top, bottom, left, right = margins
    whole = np.pad(part, ((top, bottom), (left, right)))
    assert encode_run_lengths(part, whole.shape, (top, left)) == compressed(whole)


def test_run_lengths_go_down_the_columns():
    decoded = decode_run_lengths({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3))
    np.testing.assert_array_equal(decoded, [[False, True, False], [True, False, False]])


@pytest.mark.parametrize(
    "wrong",
    [{"size": [3, 2], "counts": [6]}, {"size": [2, 3]}, {"size": [2, 3], "counts": 5}, ["no"]],
    ids=["another-size", "no-counts", "counts-a-number", "not-an-object"],
)
def test_malformed_run_lengths_are_refused(wrong):
    with pytest.raises(MaskError):
        decode_run_lengths(wrong, (2, 3))
