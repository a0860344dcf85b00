from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_virst.cli.spool import MaskSpool
from napari_virst.errors import InputError


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


def full_disk(dir=None, buffering=-1):
    return open("/dev/full", "w+b", buffering=buffering)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_full_disk_is_said_in_a_sentence_that_nothing_replaces(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", full_disk)
    with pytest.raises(InputError, match="must have room"), MaskSpool((3, 4, 4)) as spool:
        spool.put(0, np.ones((4, 4), bool))
    spool.close()


def test_folder_in_which_no_file_can_be_made_is_said(monkeypatch, tmp_path):
    def refuse(**_where):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        MaskSpool((3, 4, 4), tmp_path)


def test_mask_that_is_written_in_pieces_comes_back_whole():
    mask = np.random.default_rng(0).random((64, 64)) > 0.5
    with MaskSpool((1, 64, 64)) as spool:
        write = spool._file.write
        spool._file = SimpleNamespace(
            seek=spool._file.seek, read=spool._file.read, close=spool._file.close, write=lambda left: write(left[:100])
        )
        spool.put(0, mask)
        np.testing.assert_array_equal(spool.get(0), mask)


def test_masks_are_on_disk_and_leave_nothing_there(tmp_path):
    mask = np.ones((64, 64), bool)
    with MaskSpool((100, 64, 64), tmp_path) as spool:
        for frame in range(100):
            spool.put(frame, mask)
        assert spool._file.seek(0, 2) > 100
        kept = [value for value in vars(spool).values() if isinstance(value, dict)]
        assert not any(isinstance(one, bytes | np.ndarray) for values in kept for one in values.values())
    assert list(tmp_path.iterdir()) == []
