"""Undo of runs, corrections and acceptances."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.study import Study, paint, shifted

from napari_virst.io.project import RunRecord
from napari_virst.records import Provenance, Span
from napari_virst.session.history import History
from napari_virst.session.masks import MaskStore

T = 12


def test_undoing_a_run_brings_back_the_masks_before_it(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    before, provenances = np.array(track.masks), track.masks.provenances
    paint(track, 6, shifted(followed.video, 6, 4))
    session.repropagate(track)
    assert session.undo() == "run"
    kept = np.arange(T) != 6
    np.testing.assert_array_equal(np.array(track.masks)[kept], before[kept])
    np.testing.assert_array_equal(track.masks.provenances[kept], provenances[kept])
    np.testing.assert_array_equal(track.masks.mask(6), shifted(followed.video, 6, 4))


def test_undone_run_can_be_run_again(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    paint(track, 6, shifted(followed.video, 6, 4))
    session.repropagate(track)
    after = np.array(track.masks)
    session.undo()
    assert session.predict_span(track)[0] == Span(0, T)
    session.repropagate(track)
    np.testing.assert_array_equal(np.array(track.masks), after)


def test_undoing_the_first_run_leaves_empty_frames_to_be_run(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    assert session.undo() == "run"
    assert not np.array(track.masks).any()
    assert (track.masks.provenances == Provenance.EMPTY).all()
    session.repropagate(track)
    np.testing.assert_array_equal(np.array(track.masks) != 0, followed.video.masks)


def test_undoing_a_run_leaves_frames_painted_since(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    session.run(track)
    paint(track, 3, shifted(followed.video, 3, 5))
    session.undo()
    np.testing.assert_array_equal(track.masks.mask(3), shifted(followed.video, 3, 5))


def test_undoing_a_run_leaves_locked_frames(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    session.lock(track, Span(2, 4))
    session.undo()
    assert [bool(track.masks.mask(frame).any()) for frame in range(5)] == [False, False, True, True, False]


def test_undoing_an_acceptance_gives_the_frames_back(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    before = track.masks.provenances
    assert session.accept_frames(track, Span(2, 6)) == (2, 3, 4, 5)
    assert session.undo() == "accept"
    np.testing.assert_array_equal(track.masks.provenances, before)


def test_undoing_a_commitment_keeps_the_painting(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    paint(track, 5, shifted(followed.video, 5, 3))
    session.correct(track, 5)
    session.undo()
    np.testing.assert_array_equal(track.masks.mask(5), shifted(followed.video, 5, 3))
    assert not track.masks.is_committed(5)
    assert track.masks.owned_frames == (5,)


@pytest.mark.parametrize("vouch", ["correct", "accept_frame"])
def test_undoing_a_commitment_whose_stroke_was_undone_gives_the_frame_back(followed: Study, vouch: str) -> None:
    session, (track,) = followed.session, followed.session.tracks
    before = track.masks.frame(5)
    paint(track, 5, shifted(followed.video, 5, 2))
    getattr(session, vouch)(track, 5)
    track.masks[5] = before
    assert track.anchors.user_anchors() == (5,)
    session.undo()
    assert track.anchors.user_anchors() == ()
    np.testing.assert_array_equal(track.masks.frame(5), before)


def test_undoing_an_acceptance_keeps_what_was_painted_since_as_a_stroke(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    before = track.masks.frame(5)
    session.accept_frames(track, Span(4, 7))
    paint(track, 5, shifted(followed.video, 5, 2))
    session.undo()
    np.testing.assert_array_equal(track.masks.mask(5), shifted(followed.video, 5, 2))
    assert track.anchors.user_anchors() == (5,)
    track.masks[5] = before
    assert track.anchors.user_anchors() == ()


def test_undoing_a_second_commitment_leaves_the_first(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    before = track.masks.frame(5)
    session.correct(track, 5)
    paint(track, 5, shifted(followed.video, 5, 2))
    session.correct(track, 5)
    track.masks[5] = before
    session.undo()
    assert track.masks.is_committed(5)


def test_undoing_absent_brings_the_painting_back(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    paint(track, 5, shifted(followed.video, 5, 3))
    session.mark_absent(track, 5)
    assert session.undo() == "absent"
    np.testing.assert_array_equal(track.masks.mask(5), shifted(followed.video, 5, 3))


def test_undoing_a_deleted_anchor_brings_it_back_with_what_the_model_had_said(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    session.give_mask(track, 5, shifted(followed.video, 5, 3))
    session.delete_anchor(track, 5)
    assert session.undo() == "restore"
    np.testing.assert_array_equal(track.masks.mask(5), shifted(followed.video, 5, 3))
    session.delete_anchor(track, 5)
    np.testing.assert_array_equal(track.masks.mask(5), followed.video.masks[5])


def test_nothing_is_left_to_undo_at_last(followed: Study) -> None:
    assert followed.session.undo() == "run"
    assert followed.session.undo() is None


def test_undo_of_a_removed_track_is_gone(followed: Study) -> None:
    followed.session.remove_track(followed.session.tracks[0])
    assert followed.session.undo() is None


def test_undo_is_in_the_ledger(followed: Study) -> None:
    followed.session.undo()
    assert followed.actions[-1] == "undo"


@pytest.fixture
def store(tmp_path) -> MaskStore:
    return MaskStore(tmp_path / "a.tif", (40, 64, 64))


def test_oldest_steps_are_forgotten_first(store: MaskStore) -> None:
    history = History(max_steps=3)
    for number in range(5):
        history.begin(str(number), "a")
    assert [step.action for step in iter(history.pop, None)] == ["4", "3", "2"]


def test_what_is_kept_is_bounded(store: MaskStore, rng: np.random.Generator) -> None:
    history = History(max_bytes=30_000)
    for number in range(8):
        step = history.begin(str(number), "a", RunRecord())
        for frame in range(5):
            store[frame] = rng.integers(0, 3, (64, 64))
            history.keep(step, store, frame)
    left = list(iter(history.pop, None))
    assert 0 < len(left) < 8
    assert sum(step.num_bytes for step in left) <= 30_000
    assert left[0].action == "7"


def test_frame_is_kept_as_it_was_before_its_first_change(store: MaskStore) -> None:
    history = History()
    step = history.begin("run", "a")
    for label in (1, 2):
        history.keep(step, store, 3)
        store.write_prediction(3, np.ones((64, 64), np.bool_), label, Provenance.PROPAGATED)
    assert not step.frames[3].state().labels.any()
