from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.engine.convergence import Convergence

FULL, HALF, EMPTY = np.ones((4, 4), bool), np.eye(4, dtype=bool), np.zeros((4, 4), bool)
MASKS = {"full": FULL, "half": HALF, "empty": EMPTY}


def outcome(held, again, num_frames: int = 2, min_iou: float = 0.9) -> list[bool]:
    rule = Convergence(held.__getitem__, num_frames, min_iou)
    return [rule.reached(frame, mask) for frame, mask in enumerate(again)]


def test_enough_frames_that_agree_in_a_row_end_a_leg():
    assert outcome([FULL] * 3, [FULL] * 3) == [False, True, True]


def test_one_frame_that_differs_starts_the_count_anew():
    assert outcome([FULL] * 4, [FULL, HALF, FULL, FULL]) == [False, False, False, True]


def test_frames_on_which_both_see_nothing_are_no_evidence():
    assert not any(outcome([EMPTY] * 9, [EMPTY] * 9))
    assert outcome([FULL, EMPTY, FULL], [FULL, EMPTY, FULL]) == [False, False, True]


def test_frame_that_was_never_computed_starts_the_count_anew():
    assert outcome([FULL, None, FULL], [FULL] * 3) == [False, False, False]


def test_new_leg_counts_from_zero():
    rule = Convergence(lambda frame: FULL, 2, 0.9)
    rule.reached(0, FULL)
    rule.restart()
    assert not rule.reached(1, FULL)


@given(
    pairs=st.lists(st.tuples(*[st.sampled_from(sorted(MASKS))] * 2), max_size=20),
    num_frames=st.integers(1, 5),
)
@pytest.mark.parametrize("min_iou", [0.2, 0.9])
def test_never_ends_without_that_many_agreeing_frames_with_something_to_see(pairs, num_frames, min_iou):
    held, again = [MASKS[a] for a, _ in pairs], [MASKS[b] for _, b in pairs]
    ended = outcome(held, again, num_frames, min_iou)
    if any(ended):
        seen = pairs[: ended.index(True) + 1]
        assert sum(a == b != "empty" or (min_iou < 0.25 and "empty" not in (a, b)) for a, b in seen) >= num_frames


def test_frames_whose_pointers_differ_do_not_count():
    one, other = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    held = {0: one, 1: other, 2: one, 3: one}
    rule = Convergence(lambda frame: FULL, 2, 0.9, lambda frame, mask: held[frame], min_cosine=0.95)
    assert [rule.reached(frame, FULL, one) for frame in range(4)] == [False, False, False, True]


def test_mask_decides_alone_where_a_pointer_is_not_known():
    rule = Convergence(lambda frame: FULL, 2, 0.9, lambda frame, mask: None, min_cosine=0.95)
    assert [rule.reached(frame, FULL, np.ones(2, np.float32)) for frame in range(2)] == [False, True]
