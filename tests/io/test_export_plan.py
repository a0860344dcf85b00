"""What an export holds and what it leaves out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.exports import BAR, NUM_FRAMES, draw_bar, draw_cells, labelled_track, labelled_video

from napari_virst.errors import InputError
from napari_virst.io.export_plan import Flattening, plan_export


def test_frame_is_exported_where_every_query_is_known():
    tracks = labelled_track(draw_cells(), unknown=[0]), labelled_track(draw_bar(), BAR, unknown=[5])
    (plan,) = plan_export([labelled_video(*tracks)])
    assert plan.frames == (1, 2, 3, 4)
    assert any("2 of 6 frames" in note and f"“the cells”, “{BAR}” was not followed" in note for note in plan.notes)


def test_reviewed_frames_alone_are_those_reviewed_for_every_query():
    tracks = labelled_track(draw_cells(), reviewed=[1, 2, 4]), labelled_track(draw_bar(), BAR, reviewed=[2, 4, 5])
    (plan,) = plan_export([labelled_video(*tracks)], only_reviewed=True)
    assert plan.frames == (2, 4)
    assert any("4 of 6 frames are left out, since nobody corrected or accepted" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("tracks", "only_reviewed", "way_out"),
    [
        ((labelled_track(draw_cells(), reviewed=[1]), labelled_track(draw_bar(), BAR, reviewed=[2])), True, "--track"),
        ((labelled_track(draw_cells(), reviewed=[]),), True, "review first"),
        ((labelled_track(draw_cells(), unknown=range(NUM_FRAMES)),), False, "finish the run"),
        ((labelled_track(draw_cells()),), True, "give the project folder"),
    ],
    ids=["never-together", "nothing-reviewed", "nothing-done", "nobody-noted-it"],
)
def test_export_without_frames_says_what_to_do(tracks, only_reviewed, way_out):
    with pytest.raises(InputError, match=way_out):
        plan_export([labelled_video(*tracks)], only_reviewed)


def test_what_nobody_reviewed_in_any_query_is_to_be_reviewed_first():
    tracks = labelled_track(draw_cells(), reviewed=[]), labelled_track(draw_bar(), BAR, reviewed=[])
    with pytest.raises(InputError, match="review first"):
        plan_export([labelled_video(*tracks)], only_reviewed=True)


def test_a_video_without_a_frame_is_left_out_where_another_has_one():
    none = labelled_video(labelled_track(draw_cells(), unknown=range(NUM_FRAMES)), name="never begun")
    (plan,) = plan_export([none, labelled_video()])
    assert plan.name == "clip"
    assert any("never begun is left out: 6 frames were not reached" in note for note in plan.notes)


def test_labels_without_a_query_are_refused():
    with pytest.raises(InputError, match="must hold a query"):
        plan_export([labelled_video().only(["nothing of this name"])])


def test_objects_are_numbered_over_all_queries_with_parents():
    (plan,) = plan_export([labelled_video()])
    assert [(o.number, o.track, o.label, o.parent) for o in plan.objects] == [
        (1, 0, 1, 0),
        (2, 0, 2, 0),
        (3, 0, 3, 1),
        (4, 1, 1, 0),
    ]


def test_object_that_no_exported_frame_shows_has_no_number():
    (plan,) = plan_export([labelled_video(labelled_track(draw_cells(), reviewed=[0, 1]))], only_reviewed=True)
    assert [one.label for one in plan.objects] == [1, 2]


def test_names_are_fit_for_files_and_unique():
    names = ["a/b: c", "a-b-c", "A-b-c", "..", "ü"]
    plans = plan_export([labelled_video(name=name) for name in names])
    assert [plan.name for plan in plans] == ["a-b-c", "a-b-c-2", "A-b-c-3", "video", "ü"]


def test_videos_of_one_name_are_told_apart_by_their_folders():
    videos = [replace(labelled_video(name="same"), path=Path("/results", name)) for name in ("a-same", "b-same")]
    assert [plan.name for plan in plan_export(videos)] == ["a-same", "b-same"]
    videos = [replace(video, path=Path(video.path, "project")) for video in videos]
    assert [plan.name for plan in plan_export(videos)] == ["same", "same-2"]


def test_labels_of_one_video_from_two_folders_are_named():
    videos = [replace(labelled_video(name=name), video_path=Path("/v.mp4")) for name in ("a", "b")]
    assert "a, b are labels of one and the same video, /v.mp4." in plan_export(videos)[0].notes


def test_flattening_loses_nothing_where_nothing_overlaps():
    (plan,) = plan_export([labelled_video(labelled_track(draw_cells()))])
    flattening = Flattening(plan)
    for frame in plan.frames:
        np.testing.assert_array_equal(flattening.flat(frame), draw_cells()[frame])
    assert flattening.notes == ()
