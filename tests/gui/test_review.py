from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_virst.gui.review import MAX_UNCERTAIN, doubt, frames_to_review, neighbour
from napari_virst.records import Provenance

unit = st.floats(0, 1, width=32) | st.just(float("nan"))
frames = st.integers(1, 80)


@given(presence=hnp.arrays(np.float32, 20, elements=unit), iou=hnp.arrays(np.float32, 20, elements=unit))
def test_doubt_stays_between_0_and_1(presence: np.ndarray, iou: np.ndarray) -> None:
    doubts = doubt(presence, iou)
    assert ((doubts >= 0) & (doubts <= 1)).all()


@given(data=st.data(), num_frames=frames)
def test_corrected_frames_are_always_among_those_to_review(data: st.DataObject, num_frames: int) -> None:
    provenances = data.draw(hnp.arrays(np.uint8, num_frames, elements=st.integers(0, 4)))
    presence, iou = (data.draw(hnp.arrays(np.float32, num_frames, elements=unit)) for _ in range(2))
    chosen = frames_to_review(provenances, presence, iou)
    users = set(np.flatnonzero(provenances >= Provenance.CORRECTED).tolist())
    assert users <= set(chosen)
    assert len(set(chosen) - users) <= MAX_UNCERTAIN
    assert not any(provenances[frame] == Provenance.EMPTY for frame in chosen)


def test_worst_frame_of_a_doubtful_stretch_is_chosen() -> None:
    iou = np.full(48, 0.95, np.float32)
    iou[20:23] = 0.5, 0.2, 0.5
    provenances = np.full(48, Provenance.PROPAGATED, np.uint8)
    assert 21 in frames_to_review(provenances, np.ones(48, np.float32), iou)
    assert 20 not in frames_to_review(provenances, np.ones(48, np.float32), iou)


def test_certain_absence_is_not_doubted() -> None:
    provenances = np.full(10, Provenance.PROPAGATED, np.uint8)
    assert frames_to_review(provenances, np.zeros(10, np.float32), np.full(10, np.nan, np.float32)) == ()


@given(st.sets(st.integers(0, 99), min_size=1), st.integers(0, 99))
def test_going_on_reaches_every_frame_once_a_round(chosen: set[int], start: int) -> None:
    stops = tuple(sorted(chosen))
    seen = []
    frame = start
    for _ in stops:
        step = neighbour(stops, frame, 1)
        assert step is not None
        seen.append(frame := step)
    assert sorted(seen) == list(stops)
