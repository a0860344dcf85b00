from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_virst.cli.spool import MaskSpool


@given(arrays(bool, (5, 7, 9)), st.permutations(range(5)))
def test_masks_come_back_whatever_the_order(masks, order):
    with MaskSpool(masks.shape) as spool:
        for frame in order:
            spool.put(frame, ~masks[frame])
            spool.put(frame, masks[frame])
        for frame, labels in enumerate(spool.label_frames(3)):
            np.testing.assert_array_equal(labels, masks[frame] * 3)
        assert spool.areas_px == {t: int(masks[t].sum()) for t in range(5)}


def test_frames_that_never_came_are_empty():
    with MaskSpool((3, 4, 4)) as spool:
        assert not spool.get(1).any()


def test_masks_are_on_disk_and_leave_nothing_there(tmp_path):
    mask = np.ones((64, 64), bool)
    with MaskSpool((100, 64, 64), tmp_path) as spool:
        for frame in range(100):
            spool.put(frame, mask)
        assert spool._file.seek(0, 2) > 100
        kept = [value for value in vars(spool).values() if isinstance(value, dict)]
        assert not any(isinstance(one, bytes | np.ndarray) for values in kept for one in values.values())
    assert list(tmp_path.iterdir()) == []
