from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_virst.engine.reading import NUM_FRAMES_AHEAD, THREAD_NAME, ReadAhead
from napari_virst.errors import VideoError


class Numbered:
    """Frame t is filled with t; remembers who read what, and fails on the frames it is told to."""

    shape, fingerprint = (100, 2, 2, 3), "numbered"

    def __init__(self, broken: frozenset[int] = frozenset()) -> None:
        self.broken, self.read = broken, []

    def __getitem__(self, frame: int) -> np.ndarray:
        self.read.append((frame, threading.current_thread().name))
        if frame in self.broken:
            raise VideoError(f"Frame {frame} must be readable; it is not; copy the file again.")
        return np.full((2, 2, 3), frame, np.uint8)


def readers() -> int:
    return sum(thread.name == THREAD_NAME for thread in threading.enumerate())


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.integers(0, 99), unique=True, max_size=30), data=st.data())
def test_every_frame_asked_for_is_the_right_one_and_read_once(order, data):
    asked = [frame for frame in order if data.draw(st.booleans())]
    frames = Numbered()
    with ReadAhead(frames, order) as ahead:
        for frame in asked:
            assert (ahead.take(frame) == frame).all()
    numbers = [frame for frame, _ in frames.read]
    assert len(set(numbers)) == len(numbers)
    assert readers() == 0


def test_frames_are_read_in_the_thread():
    frames = Numbered()
    with ReadAhead(frames, range(5)) as ahead:
        for frame in range(5):
            ahead.take(frame)
    assert {name for _, name in frames.read} == {THREAD_NAME}


def test_no_more_than_a_few_frames_are_read_ahead():
    frames = Numbered()
    with ReadAhead(frames, range(100)) as ahead:
        ahead.take(0)
    assert len(frames.read) <= 1 + NUM_FRAMES_AHEAD + 1


def test_frames_in_a_gap_are_not_read():
    frames = Numbered()
    with ReadAhead(frames, range(100)) as ahead:
        ahead.take(0)
        assert (ahead.take(90) == 90).all()
    assert not {frame for frame, _ in frames.read} & set(range(20, 90))


def test_frame_that_was_passed_or_never_announced_is_read_at_once():
    with ReadAhead(Numbered(), [5, 6, 7]) as ahead:
        ahead.take(7)
        assert (ahead.take(5) == 5).all()
        assert (ahead.take(42) == 42).all()


def test_frames_that_are_not_wanted_are_not_read():
    frames = Numbered()
    with ReadAhead(frames, range(10), wanted=lambda frame: frame % 2 == 0) as ahead:
        for frame in range(0, 10, 2):
            ahead.take(frame)
    assert {frame % 2 for frame, _ in frames.read} == {0}


def test_error_of_a_frame_is_raised_where_it_is_asked_for_and_no_thread_is_left():
    def take_all() -> None:
        with ReadAhead(Numbered(frozenset({2})), range(5)) as ahead:
            for frame in range(5):
                ahead.take(frame)

    with pytest.raises(VideoError, match="Frame 2"):
        take_all()
    assert readers() == 0


def test_error_of_a_frame_that_nobody_asks_for_is_nobodys_error():
    with ReadAhead(Numbered(frozenset({2})), range(5)) as ahead:
        assert (ahead.take(4) == 4).all()


def test_leaving_ends_the_thread_while_it_waits_for_room():
    with ReadAhead(Numbered(), range(100)):
        assert readers() == 1
    assert readers() == 0
