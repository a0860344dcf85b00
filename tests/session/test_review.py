"""Review, locks, and anchors as a session shows them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fixtures.study import Study, paint, shifted
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.errors import InputError, MaskError
from napari_virst.records import AnchorKind, FrameResult, Provenance, Span
from napari_virst.session.anchors import AnchorBook, governed_spans

T = 12


# -- what to look at next ----------------------------------------------------------------------------------------


def doubtful_at(study: Study, *frames: int) -> None:
    """Have the segmenter answer with little trust on some frames."""
    result_of = study.segmenter.result

    def result(job, frame) -> FrameResult:
        iou = 0.3 if frame in frames else 0.95
        return dataclasses.replace(result_of(job, frame), predicted_iou=iou)

    study.segmenter.result = result


def test_frame_in_doubt_is_suggested(study: Study) -> None:
    doubtful_at(study, 7)
    track = study.session.ask("the red disc")
    assert study.session.next_to_review(track) == 7
    assert int(np.argmax(study.session.doubts(track))) == 7


def test_accepted_frame_is_suggested_no_more(study: Study) -> None:
    doubtful_at(study, 2, 9)
    track = study.session.ask("the red disc")
    first = study.session.next_to_review(track)
    study.session.accept_frame(track, first)
    assert study.session.next_to_review(track) != first
    assert study.session.doubts(track)[first] == 0


def test_suggestion_goes_on_behind_a_frame_and_round(study: Study) -> None:
    doubtful_at(study, 2, 9)
    track = study.session.ask("the red disc")
    assert study.session.next_to_review(track, after=5) == 9
    assert study.session.next_to_review(track, after=T - 1) == study.session.next_to_review(track)


def test_nothing_is_suggested_where_everything_is_a_person_s_or_locked(study: Study) -> None:
    track = study.session.ask("the red disc")
    study.session.accept_frames(track, Span(0, 6))
    study.session.lock(track, Span(6, T))
    assert study.session.next_to_review(track) is None


def test_frames_never_computed_have_no_doubt_and_are_not_suggested(study: Study) -> None:
    track = study.session.ask("the red disc", Span(3, 6))
    assert np.isnan(study.session.doubts(track)).tolist() == [not 3 <= t < 6 for t in range(T)]
    assert study.session.next_to_review(track) in range(3, 6)


def test_suggestion_after_reopening_needs_no_mask_of_the_model(study: Study) -> None:
    doubtful_at(study, 7)
    study.session.ask("the red disc")
    again = study.reopen()
    (track,) = again.session.tracks
    assert again.session.next_to_review(track) == 7
    assert np.isnan(track.masks.areas_px).all()


# -- accepting and locking ---------------------------------------------------------------------------------------


def test_accepting_a_range_takes_frames_with_masks_that_are_nobody_s(study: Study) -> None:
    track = study.session.ask("the red disc", Span(2, 8))
    paint(track, 4, shifted(study.video, 4, 3))
    assert study.session.accept_frames(track, Span(0, 6)) == (2, 3, 5)
    assert track.masks.provenance(4) is Provenance.CORRECTED
    assert track.masks.provenance(5) is Provenance.ACCEPTED
    assert study.actions.count("accept") == 1


def test_locked_frames_keep_their_masks_and_do_not_condition(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    session.lock(track, Span(2, 5))
    paint(track, 6, shifted(followed.video, 6, 4))
    session.repropagate(track)
    for frame in range(T):
        rows = 0 if 2 <= frame < 5 else 4
        np.testing.assert_array_equal(track.masks.mask(frame), shifted(followed.video, frame, rows))
    assert [anchor.frame for anchor in followed.segmenter.jobs[-1].anchors] == [6]


def test_unlocked_frames_are_caught_up_with(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    session.lock(track, Span(2, 5))
    paint(track, 6, shifted(followed.video, 6, 4))
    session.repropagate(track)
    assert session.predict_span(track)[0] is None
    session.lock(track, Span(2, 5), locked=False)
    assert session.predict_span(track)[0] == Span(2, 5)
    session.repropagate(track)
    np.testing.assert_array_equal(track.masks.mask(3), shifted(followed.video, 3, 4))


def test_person_may_paint_on_a_locked_frame(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    session.lock(track, Span(0, T))
    paint(track, 6, shifted(followed.video, 6, 4))
    assert track.masks.owned_frames == (6,)


def test_locks_survive_reopening_and_are_in_the_ledger(followed: Study) -> None:
    followed.session.lock(followed.session.tracks[0], Span(2, 5))
    assert followed.actions[-1] == "lock"
    (track,) = followed.reopen().session.tracks
    assert np.flatnonzero(track.locked).tolist() == [2, 3, 4]


def test_many_accepted_frames_do_not_all_travel_with_a_job(study: Study) -> None:
    track = study.session.ask("the red disc")
    study.session.accept_frames(track, Span(0, 11))
    study.session.repropagate(track)
    job = study.segmenter.jobs[-1]
    assert [anchor.frame for anchor in job.anchors] == list(range(3, 11))
    assert job.excluded_anchors == frozenset(range(3))


# -- several masks at once ---------------------------------------------------------------------------------------


def test_several_masks_are_given_at_once(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    spans = session.give_masks(track, {8: shifted(followed.video, 8, 2), 3: shifted(followed.video, 3, 2)})
    assert spans == (Span(0, 8), Span(4, T))
    assert track.anchors.user_anchors() == (3, 8)
    session.undo()
    assert track.anchors.user_anchors() == ()


def test_one_wrong_mask_among_several_changes_nothing(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    with pytest.raises(MaskError):
        session.give_masks(track, {3: followed.video.masks[3], 8: np.zeros((4, 4), np.bool_)})
    assert track.anchors.user_anchors() == ()


# -- anchors -----------------------------------------------------------------------------------------------------


def test_notes_tell_why_each_anchor_is_there_and_what_it_governs(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    paint(track, 4, shifted(followed.video, 4, 3))
    session.exclude_anchor(track, 0)
    told = [(n.frame, n.kind, n.state, n.governs) for n in session.anchor_notes(track)]
    assert told == [
        (0, AnchorKind.MODEL, "excluded", Span(0, 0)),
        (4, AnchorKind.USER, "used", Span(0, 7)),
        (4, AnchorKind.MODEL, "overridden", Span(0, 0)),
        (8, AnchorKind.MODEL, "used", Span(7, 12)),
    ]
    assert all(note.why.endswith(".") for note in session.anchor_notes(track))


def test_demoted_anchor_is_shown_and_remembered(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    result = FrameResult(
        8, followed.video.masks[8], 0.9, 0.9, Provenance.PROPAGATED, track.revision, 0.1, is_demoted=True
    )
    assert session.accept(track.track_id, result)
    (note,) = [note for note in session.anchor_notes(track) if note.frame == 8]
    assert (note.state, len(note.governs)) == ("demoted", 0)
    assert track.agreements[8] == 0.1
    session.save()
    (again,) = followed.reopen().session.tracks
    assert again.anchors.demoted == {8}


def test_pinned_anchor_travels_with_the_job_and_survives_reopening(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    session.pin_anchor(track, 8)
    session.repropagate(track)
    assert followed.segmenter.jobs[-1].pinned_anchors == {8}
    assert "1 pinned" in track.anchors.describe()
    (again,) = followed.reopen().session.tracks
    assert again.anchors.pinned == {8}


def test_frame_without_model_anchor_cannot_be_pinned(followed: Study) -> None:
    with pytest.raises(InputError, match="must be a model anchor"):
        followed.session.pin_anchor(followed.session.tracks[0], 5)


def test_deleting_gives_back_a_person_s_frame_and_excludes_a_model_anchor(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    paint(track, 5, shifted(followed.video, 5, 3))
    assert session.delete_anchor(track, 5) == Span(0, T)
    np.testing.assert_array_equal(track.masks.mask(5), followed.video.masks[5])
    session.delete_anchor(track, 8)
    assert track.anchors.excluded == {8}


@pytest.mark.parametrize("change", ["delete", "exclude", "cancelled"], ids=str)
def test_run_may_end_early_only_where_what_is_held_can_be_trusted(followed: Study, change: str) -> None:
    session, (track,) = followed.session, followed.session.tracks
    paint(track, 5, shifted(followed.video, 5, 3))
    session.repropagate(track)
    assert followed.segmenter.jobs[-1].known_mask is not None
    if change == "delete":
        session.delete_anchor(track, 5)
    elif change == "exclude":
        session.exclude_anchor(track, 8)
    else:
        paint(track, 5, shifted(followed.video, 5, 1))
        followed.segmenter.before_frame = lambda frame: session.cancel()
        session.repropagate(track)
        followed.segmenter.before_frame = lambda frame: None
        session.repropagate(track)  # what is left of the same run
        assert followed.segmenter.jobs[-1].known_mask is not None
        session.undo()
        paint(track, 5, shifted(followed.video, 5, 2))
    session.repropagate(track)
    assert followed.segmenter.jobs[-1].known_mask is None


def test_known_mask_is_none_where_nothing_was_computed(study: Study) -> None:
    track = study.session.ask("the red disc", Span(3, 6))
    assert track.masks.known_mask(2) is None
    np.testing.assert_array_equal(track.masks.known_mask(4), study.video.masks[4])


def test_frames_that_a_run_leaves_out_count_as_done(followed: Study) -> None:
    session, (track,) = followed.session, followed.session.tracks
    run = followed.segmenter.run
    followed.segmenter.run = lambda frames, job, stop: (r for r in run(frames, job, stop) if abs(r.frame - 6) < 3)
    paint(track, 6, shifted(followed.video, 6, 3))
    session.repropagate(track)
    assert session.predict_span(track)[0] is None


frame_sets = st.sets(st.integers(0, 19), min_size=1)


@given(frame_sets)
def test_governed_spans_partition_time(anchors: set[int]) -> None:
    governed = governed_spans(anchors, 20)
    assert sorted(frame for span in governed.values() for frame in span) == list(range(20))
    for anchor, span in governed.items():
        assert all(abs(t - anchor) == min(abs(t - other) for other in anchors) for t in span)


@given(frame_sets, st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)))
def test_no_anchor_out_of_use_governs_anything(users, seen, excluded, demoted) -> None:
    book = AnchorBook(lambda: tuple(sorted(users)), seen, excluded, (), demoted)
    notes = book.notes(20)
    assert sorted(frame for note in notes for frame in note.governs) == list(range(20))
    assert all(bool(len(note.governs)) == (note.state == "used") for note in notes)
    assert {note.frame for note in notes} == users | seen | excluded | demoted


@given(frame_sets, st.integers(0, 19), st.integers(0, 19), st.integers(0, 4))
def test_nearest_anchors_are_those_inside_and_the_next_on_either_side(users, a, b, number) -> None:
    span, book = Span(min(a, b), max(a, b) + 1), AnchorBook(lambda: tuple(sorted(users)))
    before = sorted(f for f in users if f < span.start)
    after = sorted(f for f in users if f >= span.stop)
    inside = sorted(f for f in users if f in span)
    assert book.nearest(span, number) == (*(before[-number:] if number else ()), *inside, *after[:number])


def test_passed_frames_are_not_suggested_again_nor_their_neighbours_first(study: Study) -> None:
    doubtful_at(study, 4, 5, 10)
    track = study.session.ask("the red disc")
    passed: list[int] = []
    while (frame := study.session.next_to_review(track, passed=passed)) is not None:
        passed.append(frame)
    assert sorted(passed) == list(range(T))
    assert set(passed[:2]) in ({4, 10}, {5, 10})


def test_areas_of_many_accepted_frames_are_not_all_read_in_one_call(study: Study, monkeypatch) -> None:
    track = study.session.ask("the red disc")
    study.session.accept_frames(track, Span(0, T))
    track.masks._areas_px[:] = np.nan
    monkeypatch.setattr("napari_virst.session.review._MAX_AREAS_READ", 5)
    study.session.doubts(track)
    assert np.isnan(track.masks.areas_px).sum() == T - 5
    for _ in range(2):
        study.session.doubts(track)
    assert not np.isnan(track.masks.areas_px).any()
