from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_virst.cli.spool import MaskSpool


@given(arrays(bool, (5, 7, 9)), st.permutations(range(5)))
def test_masks_come_back_whatever_the_order(masks, order):
    spool = MaskSpool(masks.shape)
    for frame in order:
        spool.put(frame, masks[frame])
    for frame, labels in enumerate(spool.label_frames(3)):
        np.testing.assert_array_equal(labels, masks[frame] * 3)
    assert spool.areas_px == {t: int(masks[t].sum()) for t in range(5)}


def test_frames_that_never_came_are_empty():
    assert not MaskSpool((3, 4, 4)).get(1).any()
