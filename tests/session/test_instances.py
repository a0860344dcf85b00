"""Instances: a union taken apart, with identities over time."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.frames import disc
from fixtures.study import Study, paint
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_virst.errors import InputError
from napari_virst.records import Provenance, Span
from napari_virst.session.instances import (
    MAX_GAP,
    Lineage,
    carry_labels,
    merge,
    split_instances,
    swap,
    tracks_of,
)
from napari_virst.session.masks import MaskStore

SIZE = (24, 40)
small_masks = arrays(np.bool_, (3, 8, 9))
small_labels = arrays(np.uint16, (8, 9), elements=st.integers(0, 3))


def union(*centres: tuple[float, float], radius: float = 4) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    for centre in centres:
        mask |= disc(centre, radius, SIZE)
    return mask


def run(masks, **options):
    frames = list(split_instances(masks, **options))
    return np.stack([labels for labels, _ in frames]), frames[-1][1]


def test_two_objects_keep_their_names_while_they_move() -> None:
    labels, lineage = run([union((12, 8 + t), (12, 30 - t)) for t in range(5)])
    assert [labels[t, 12, 8 + t] for t in range(5)] == [1] * 5
    assert [labels[t, 12, 30 - t] for t in range(5)] == [2] * 5
    assert lineage.parents == {1: 0, 2: 0}


@pytest.mark.parametrize(("gap", "expected"), [(MAX_GAP, 1), (MAX_GAP + 1, 2)], ids=["short", "long"])
def test_object_out_of_sight_is_known_again_for_a_while(gap: int, expected: int) -> None:
    masks = [union((12, 10)), *[union()] * gap, union((12, 11))]
    labels, _ = run(masks)
    assert labels[-1].max() == expected


def test_piece_that_breaks_off_is_a_new_instance_and_the_larger_keeps_the_name() -> None:
    whole = np.zeros(SIZE, np.bool_)
    whole[8:16, 4:34] = True
    broken = whole.copy()
    broken[:, 12:14] = False
    labels, lineage = run([whole, broken])
    assert (labels[1, 10, 30], labels[1, 10, 5]) == (1, 2)
    assert lineage.graph() == {}


def test_cell_that_divides_ends_and_has_two_children() -> None:
    labels, lineage = run([union((12, 20), radius=7), union((12, 15)), union((12, 15), (12, 25))], divides=True)
    assert labels[0].max() == 1
    labels, lineage = run([union((12, 20), radius=7), union((12, 15), (12, 25))], divides=True)
    assert lineage.graph() == {2: [1], 3: [1]}
    assert {labels[1, 12, 15], labels[1, 12, 25]} == {2, 3}


def test_debris_is_no_child() -> None:
    labels, lineage = run(
        [union((12, 20), radius=7), union((12, 20), radius=5) | union((12, 27), radius=1)], divides=True
    )
    assert lineage.graph() == {}
    assert labels[1, 12, 20] == 1


def test_small_pieces_join_the_nearest_larger_one() -> None:
    labels, _ = run([union((12, 10)) | disc((12, 18), 1, SIZE) | union((12, 32))], min_area_px=10)
    assert labels[0, 12, 18] == labels[0, 12, 10] != labels[0, 12, 32]


@given(small_masks, st.booleans())
def test_splitting_neither_adds_nor_removes_a_pixel(masks: np.ndarray, divides: bool) -> None:
    labels, lineage = run(masks, divides=divides)
    np.testing.assert_array_equal(labels != 0, masks)
    assert set(np.unique(labels)) - {0} == set(lineage.parents)
    assert all(parent < child for child, parent in lineage.parents.items())


@given(small_labels, arrays(np.bool_, (8, 9)))
def test_carried_labels_cover_the_new_mask_with_old_names(before: np.ndarray, mask: np.ndarray) -> None:
    labels = carry_labels(mask, before, default=9)
    np.testing.assert_array_equal(labels != 0, mask)
    assert set(np.unique(labels)) <= {0, 9, *np.unique(before).tolist()}


def test_touching_objects_stay_apart_in_a_new_answer() -> None:
    before = np.zeros(SIZE, np.uint16)
    before[8:16, 4:18], before[8:16, 20:34] = 1, 2
    after = carry_labels(before + np.roll(before, 2, 1) > 0, before, 1)
    assert (after[10, 6], after[10, 30]) == (1, 2)


@given(small_labels)
def test_swapping_twice_changes_nothing(labels: np.ndarray) -> None:
    np.testing.assert_array_equal(swap(swap(labels, 1, 2), 1, 2), labels)


@given(small_labels)
def test_merged_instance_has_the_pixels_of_both(labels: np.ndarray) -> None:
    merged = merge(labels, 1, 2)
    np.testing.assert_array_equal(merged == 1, (labels == 1) | (labels == 2))
    np.testing.assert_array_equal(merged == 3, labels == 3)


def test_tracks_hold_the_centre_of_every_instance_on_every_frame() -> None:
    labels, _ = run([union((12, 8 + t), (12, 30)) for t in range(3)])
    data = tracks_of(enumerate(labels))
    np.testing.assert_allclose(data[data[:, 0] == 1], [[1, t, 12, 8 + t] for t in range(3)])
    assert tracks_of([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("child", "parent", "why"),
    [(1, 1, "not have come from it"), (1, 2, "instance 2 came from nothing"), (2, 9, "must be known")],
    ids=["itself", "its child", "unknown"],
)
def test_impossible_parents_are_refused(child: int, parent: int, why: str) -> None:
    with pytest.raises(InputError, match=why):
        Lineage({1: 0, 2: 1}).with_instance(child, parent)


# -- in a session ------------------------------------------------------------------------------------------------


def second_disc(study: Study, frame: int) -> np.ndarray:
    return disc((4, study.video.centers[frame][1]), 3, study.video.masks.shape[1:])


def two_discs(study: Study):
    track = study.session.ask("the red disc")
    for frame, mask in enumerate(study.video.masks):
        paint(track, frame, mask | second_disc(study, frame))
    study.session.split_track(track)
    return track


def test_splitting_a_track_changes_names_and_nobody_s_ownership(study: Study) -> None:
    track = study.session.ask("the red disc")
    paint(track, 3, study.video.masks[3] | second_disc(study, 3))
    before, provenances = np.array(track.masks) != 0, track.masks.provenances
    lineage = study.session.split_track(track)
    np.testing.assert_array_equal(np.array(track.masks) != 0, before)
    np.testing.assert_array_equal(track.masks.provenances, provenances)
    assert len(lineage.parents) == 2


def test_names_survive_a_run(study: Study) -> None:
    track = study.session.ask("the red disc")
    study.session.split_track(track)
    study.session.merge_instances(track, 1, 1)
    track.lineage = Lineage({5: 0})
    for frame in range(12):
        track.masks.relabel(frame, track.masks.frame(frame) * 5)
    study.session.run(track)
    assert set(np.unique(np.array(track.masks))) == {0, 5}


def test_swapped_instances_are_exchanged_from_the_frame_on(study: Study) -> None:
    track = two_discs(study)
    before = np.array(track.masks)
    study.session.swap_instances(track, 1, 2, 6)
    after = np.array(track.masks)
    np.testing.assert_array_equal(after[:6], before[:6])
    np.testing.assert_array_equal(after[6:] == 1, before[6:] == 2)
    study.session.undo(track)
    np.testing.assert_array_equal(np.array(track.masks), before)


@pytest.mark.parametrize("divides", [False, True], ids=["break", "division"])
def test_instance_can_be_taken_apart_from_a_frame_on(study: Study, divides: bool) -> None:
    track = two_discs(study)
    study.session.merge_instances(track, 1, 2)
    lineage = study.session.split_instance(track, 1, 6, divides=divides)
    labels = np.array(track.masks)
    assert set(np.unique(labels[:6])) == {0, 1}
    assert set(np.unique(labels[6:])) == ({0, 3, 4} if divides else {0, 1, 3})
    assert lineage.graph() == ({3: [1], 4: [1]} if divides else {})
    data, graph = study.session.tracks_data(track)
    assert graph == lineage.graph()
    assert len(data) == 6 + 12


def test_split_survives_reopening(study: Study) -> None:
    track = two_discs(study)
    study.session.set_parent(track, 2, 1)
    (again,) = study.reopen().session.tracks
    assert again.lineage is not None
    assert again.lineage.graph() == {2: [1]}


def test_unknown_instance_is_refused(study: Study) -> None:
    track = study.session.ask("the red disc")
    with pytest.raises(InputError, match="split into instances first"):
        study.session.swap_instances(track, 1, 2, 0)
    study.session.split_track(track)
    with pytest.raises(InputError, match="must be one of"):
        study.session.swap_instances(track, 1, 2, 0)


def test_division_of_one_piece_is_refused_and_changes_nothing(study: Study) -> None:
    track = two_discs(study)
    before, lineage = np.array(track.masks), track.lineage
    with pytest.raises(InputError, match="in two or more pieces; got instance 1 in fewer on frame 3; erase"):
        study.session.split_instance(track, 1, 3, divides=True)
    np.testing.assert_array_equal(np.array(track.masks), before)
    assert track.lineage is lineage


def test_locked_span_outside_the_video_is_refused(study: Study) -> None:
    track = study.session.ask("the red disc")
    with pytest.raises(InputError, match="must end by frame 11"):
        study.session.lock(track, Span(3, 20))


CHANGES = {
    "split": lambda session, track: session.split_track(track),
    "split one": lambda session, track: session.split_instance(track, 1, 0, divides=True),
    "merge": lambda session, track: session.merge_instances(track, 2, 1),
    "swap": lambda session, track: session.swap_instances(track, 1, 2, 0),
    "tracks": lambda session, track: session.tracks_data(track),
}


@pytest.mark.parametrize("change", CHANGES)
def test_cancel_is_answered_within_a_frame_and_what_is_done_stays(
    study: Study, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    session, track, seen = study.session, two_discs(study), []
    if change == "split":
        session.undo(track)
    elif change == "split one":
        session.merge_instances(track, 1, 2)  # now instance 1 is in two pieces
    before = np.array(track.masks)

    def note(frame: int) -> None:
        seen.append(frame)
        if frame == 4:
            session.cancel()

    for name in ("frame", "state"):
        whole_of_it = getattr(MaskStore, name)
        monkeypatch.setattr(
            MaskStore, name, lambda self, frame, whole=whole_of_it: (note(frame), whole(self, frame))[1]
        )

    CHANGES[change](session, track)
    monkeypatch.undo()
    assert session.was_halted
    assert max(seen) <= 5
    changed = [t for t in range(12) if not np.array_equal(before[t], track.masks.frame(t))]
    assert not changed or max(changed) <= 5
    assert bool(changed) == (change != "tracks")
    if changed:
        session.undo(track)
        np.testing.assert_array_equal(np.array(track.masks), before)


def test_cancelled_acceptance_keeps_the_frames_accepted_by_then(
    followed: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    (track,), whole = followed.session.tracks, MaskStore.commit

    def commit(self: MaskStore, frame: int, *how: Provenance) -> None:
        whole(self, frame, *how)
        if frame == 4:
            followed.session.cancel()

    monkeypatch.setattr(MaskStore, "commit", commit)
    assert followed.session.accept_frames(track, Span(0, 12)) == (0, 1, 2, 3, 4)
    assert track.masks.owned_frames == (0, 1, 2, 3, 4)
    monkeypatch.undo()
    followed.session.undo(track)
    assert track.masks.owned_frames == ()


def test_what_was_cancelled_before_does_not_end_the_next_change(study: Study) -> None:
    track = two_discs(study)
    study.session.cancel()
    study.session.swap_instances(track, 1, 2, 0)
    assert not study.session.was_halted
