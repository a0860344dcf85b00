from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.io._frame_cache import FrameCache


def frame(size: int) -> np.ndarray:
    return np.zeros(size, np.uint8)


def test_frame_not_used_for_longest_is_forgotten_first():
    cache = FrameCache(max_bytes=20)
    cache.put(0, frame(10))
    cache.put(1, frame(10))
    cache.get(0)
    cache.put(2, frame(10))
    assert cache.get(1) is None
    assert cache.get(0) is not None


def test_frame_larger_than_the_cache_is_kept_alone():
    cache = FrameCache(max_bytes=20)
    cache.put(0, frame(10))
    cache.put(1, frame(100))
    assert cache.get(0) is None
    assert cache.get(1) is not None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40))))
def test_bytes_kept_are_counted_rightly_and_bounded(puts: list[tuple[int, int]]):
    cache = FrameCache(max_bytes=100)
    for number, size in puts:
        cache.put(number, frame(size))
        kept = [f for f in (cache.get(n) for n in range(10)) if f is not None]
        assert cache.num_bytes == sum(f.nbytes for f in kept) <= 100
        assert cache.get(number) is not None


def test_cleared_cache_holds_nothing():
    cache = FrameCache(max_bytes=20)
    cache.put(0, frame(10))
    cache.clear()
    assert (len(cache), cache.num_bytes, cache.get(0)) == (0, 0, None)


def test_no_more_frames_are_kept_than_allowed_however_small() -> None:
    cache = FrameCache(max_bytes=10_000, max_frames=3)
    for number in range(10):
        cache.put(number, np.zeros(2, np.uint8))
    assert len(cache) == 3
    assert cache.num_bytes == 6
    assert cache.get(9) is not None
    assert cache.get(6) is None
