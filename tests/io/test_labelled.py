"""Labels as they lie on disk: projects, results, label TIFFs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fixtures.exports import NUM_FRAMES, SIZE, draw_bar, draw_cells

from napari_virst.errors import InputError, MaskError, ProjectError
from napari_virst.io.labelled import open_labelled
from napari_virst.io.masks import write_label_stack
from napari_virst.records import Provenance


@pytest.fixture
def project(followed):
    """Frames 0–11 of "the red disc": 3 corrected, 5 accepted, 7 absent, 11 never reached."""
    session = followed.session
    track = session.tracks[0]
    session.give_mask(track, 3, followed.video.masks[3])
    track.masks.commit(5, Provenance.ACCEPTED)
    session.mark_absent(track, 7)
    track.masks._records["provenance"][11] = Provenance.EMPTY
    session.save()
    return session.folder


def test_project_tells_who_made_each_frame_while_its_session_is_open(project, followed):
    with open_labelled(project) as labelled:
        (track,) = labelled.tracks
        assert labelled.shape == followed.session.shape
        assert np.flatnonzero(track.is_reviewed).tolist() == [3, 5, 7]
        assert np.flatnonzero(~track.is_known).tolist() == [11]
        np.testing.assert_array_equal(track.frame(3) > 0, followed.video.masks[3])
        assert not track.frame(7).any()


def test_lineage_of_a_project_is_known(project, followed):
    followed.session.split_track(followed.session.tracks[0])
    (track,) = open_labelled(project).tracks
    assert track.parents == followed.session.tracks[0].lineage.parents


def test_mask_file_of_a_project_is_opened_with_what_the_project_knows(project):
    (path,) = (project / "masks").glob("*.tif")
    labelled = open_labelled(path)
    assert labelled.path == project.resolve()
    assert np.flatnonzero(~labelled.tracks[0].is_known).tolist() == [11]


def test_opening_changes_nothing_on_disk(project):
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    with open_labelled(project) as labelled:
        labelled.tracks[0].frame(0)[:] = 9
        assert (labelled.tracks[0].frame(0) < 9).all()
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before


def test_damaged_project_is_explained(project):
    (path,) = (project / "masks").glob("*.npy")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ProjectError, match="restore the file"):
        open_labelled(project)


def write_results(folder, **changes):
    """Two queries as ``segment`` leaves them; the second was stopped."""
    tracks = [
        {"query": "the cells", "labels": "cells.tif", "spans_done": [[0, NUM_FRAMES]], "corrected_frames": [0]},
        {"query": "the bar", "labels": "bar.tif", "spans_done": [[0, 4], [5, 6]], "corrected_frames": [5]},
    ]
    bar = draw_bar()
    bar[3:] = 0
    for name, labels in (("cells.tif", draw_cells()), ("bar.tif", bar)):
        write_label_stack(folder / name, iter(labels), labels.shape)
    content = {
        "video": "clip",
        "source": "/videos/clip.mp4",
        "shape": [NUM_FRAMES, *SIZE],
        "tracks": [{"num_frames": NUM_FRAMES, **track} for track in tracks],
    }
    (folder / "summary.json").write_text(json.dumps({**content, **changes}))


def test_results_tell_corrected_frames_and_what_a_stopped_run_did(tmp_path):
    write_results(tmp_path)
    with open_labelled(tmp_path) as labelled:
        cells, bar = labelled.tracks
        assert str(labelled.video_path) == "/videos/clip.mp4"
        assert cells.query.text == "the cells"
        assert cells.is_known.all()
        assert np.flatnonzero(cells.is_reviewed).tolist() == [0]
        assert np.flatnonzero(bar.is_known).tolist() == [0, 1, 2, 3, 5], "empty ones too"
        assert any("“the bar” was stopped" in note for note in labelled.notes)
        assert labelled.view == {}
        np.testing.assert_array_equal(cells.frame(2), draw_cells()[2])


def test_what_was_typed_for_a_run_is_known(tmp_path):
    write_results(tmp_path, options={"channel": 1, "z": "max", "learn": True, "region": "0,0,9,9"})
    with open_labelled(tmp_path) as labelled:
        assert labelled.view == {"channel": 1, "z": "max"}
        assert any("only the region 0,0,9,9 was looked at" in note for note in labelled.notes)


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tracks": []}, "tells of no query"),
        ({"shape": [NUM_FRAMES, 3, 3]}, "the shape that summary.json says"),
        ({"shape": None}, "run it again"),
        ({"tracks": [{"query": "q"}]}, "run it again"),
    ],
    ids=["no-query", "another-shape", "no-shape", "half-a-track"],
)
def test_damaged_results_are_explained(tmp_path, changes, said):
    write_results(tmp_path, **changes)
    with pytest.raises(InputError, match=said):
        open_labelled(tmp_path)


@pytest.mark.usefixtures("nothing_left_open")
def test_label_stack_alone_is_one_track_that_is_known_everywhere(tmp_path):
    write_label_stack(tmp_path / "my cells.tif", iter(draw_cells()), draw_cells().shape)
    with open_labelled(tmp_path / "my cells.tif") as labelled:
        (track,) = labelled.tracks
        assert (labelled.name, track.query.name, track.query.text) == ("my cells", "my cells", "")
        assert track.is_known.all()
        assert track.is_reviewed is None


@pytest.mark.parametrize("kind", ["nothing", "empty-folder", "no-stack"])
def test_anything_else_is_refused(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "empty-folder":
        path.mkdir()
    elif kind == "no-stack":
        path = tmp_path / "x.tif"
        path.write_text("no TIFF")
    with pytest.raises(MaskError if kind == "no-stack" else InputError):
        open_labelled(path)


def test_tracks_are_chosen_by_name_words_or_file(tmp_path):
    write_results(tmp_path)
    with open_labelled(tmp_path) as labelled:
        assert [t.query.name for t in labelled.only(["the bar"]).tracks] == ["the bar"]
        assert [t.query.name for t in labelled.only(["cells.tif"]).tracks] == ["the cells"]
        assert labelled.only(["the star"]).tracks == ()


def test_a_folder_of_folders_of_results_says_how_to_give_them(tmp_path):
    (tmp_path / "batch" / "one").mkdir(parents=True)
    (tmp_path / "batch" / "one" / "summary.json").touch()
    with pytest.raises(InputError, match=r"give each of them, all by \*/ behind it"):
        open_labelled(tmp_path / "batch")


def test_a_table_among_the_sources_is_called_what_it_is(tmp_path):
    (tmp_path / "batch.csv").write_text("video,folder")
    with pytest.raises(InputError, match="a file of another kind"):
        open_labelled(tmp_path / "batch.csv")
