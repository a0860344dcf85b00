"""What all formats have in common."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from fixtures.exports import NUM_FRAMES, SIZE, draw_cells, labelled_track, labelled_video
from PIL import Image

from napari_virst.errors import InputError, VideoError
from napari_virst.io.exporting import ExportFormat, export_labels
from napari_virst.io.video import open_video

FORMATS = [str(each) for each in ExportFormat]
FIRST_IMAGE = {
    "coco": "images/clip/00000.jpg",
    "davis": "JPEGImages/clip/00000.jpg",
    "youtube-vos": "train/JPEGImages/clip/00000.jpg",
    "mevis": "train/JPEGImages/clip/00000.jpg",
    "yolo": "images/train/clip_00000.jpg",
    "ctc": "01/t000.tif",
}


class Held(np.ndarray):
    """Labels whose end is noticed."""

    __hash__ = object.__hash__


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 4000, (NUM_FRAMES, *SIZE), dtype=np.uint16)


@pytest.mark.parametrize("format_", FORMATS)
def test_frames_are_written_beside_their_labels(tmp_path, format_, pixels):
    with open_video(pixels) as video:
        report = export_labels([labelled_video()], tmp_path / "out", format_, images=[video])
        shown = video.reader()[0]
    path = tmp_path / "out" / FIRST_IMAGE[format_]
    assert len(list(path.parent.iterdir())) == NUM_FRAMES
    if format_ == "ctc":
        np.testing.assert_array_equal(tifffile.imread(path), pixels[0])
    else:
        assert np.abs(np.array(Image.open(path)).astype(int) - shown).mean() < 4
    assert report.has_images


@pytest.mark.parametrize("format_", FORMATS)
def test_progress_is_told_frame_by_frame(tmp_path, format_):
    told = []
    export_labels([labelled_video()], tmp_path / "out", format_, on_frame=lambda *counts: told.append(counts))
    assert told == [(n, NUM_FRAMES) for n in range(1, NUM_FRAMES + 1)]


@pytest.mark.parametrize("format_", FORMATS)
def test_labels_of_a_frame_are_let_go_before_the_next_but_one(tmp_path, format_):
    alive: weakref.WeakSet[Held] = weakref.WeakSet()

    def read(frame):
        assert len(alive) <= 2
        labels = draw_cells()[frame].view(Held)
        alive.add(labels)
        return labels

    track = replace(labelled_track(draw_cells()), frame=read)
    export_labels([labelled_video(track)], tmp_path / "out", format_)


@pytest.mark.parametrize("format_", FORMATS)
def test_nothing_is_left_of_an_export_that_was_stopped(tmp_path, format_):
    def stop(num_done, _):
        if num_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_labels([labelled_video()], tmp_path / "out", format_, on_frame=stop)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format_", FORMATS)
def test_query_that_finds_nothing_is_exported(tmp_path, format_):
    report = export_labels([labelled_video(labelled_track(draw_cells() * 0))], tmp_path / "out", format_)
    assert (report.num_frames, report.num_objects, report.queries) == (NUM_FRAMES, 0, ("the cells",))


@pytest.mark.parametrize("format_", FORMATS)
def test_labels_that_change_meanwhile_are_noticed(tmp_path, format_):
    labels = draw_cells()

    def paint(num_done, _):
        labels[num_done:, 0, 0] = 9

    with pytest.raises(InputError, match=r"frame 1 of .* has others now"):
        export_labels([labelled_video(labelled_track(labels))], tmp_path / "out", format_, on_frame=paint)
    assert not (tmp_path / "out").exists()


def test_frames_left_out_are_counted(tmp_path):
    video = labelled_video(labelled_track(draw_cells(), unknown=[0, 5]))
    report = export_labels([video], tmp_path / "out", "yolo")
    assert (report.num_frames, report.num_frames_left_out) == (NUM_FRAMES - 2, 2)
    assert len(list((tmp_path / "out" / "labels" / "train").iterdir())) == NUM_FRAMES - 2


def test_description_says_which_number_is_which_object(tmp_path):
    export_labels([labelled_video()], tmp_path / "out", "davis")
    content = json.loads((tmp_path / "out" / "export.json").read_text())
    (video,) = content["videos"]
    assert [(o["number"], o["query"], o["label"]) for o in video["objects"]] == [
        (1, "the cells", 1),
        (2, "the cells", 2),
        (3, "the cells", 3),
        (4, "the bar", 1),
    ]
    assert content["format"] == "davis"


def test_frames_of_another_shape_are_refused_before_anything_is_written(tmp_path, pixels):
    with open_video(pixels[:-1]) as video, pytest.raises(VideoError, match="must be those that were labelled"):
        export_labels([labelled_video()], tmp_path / "out", "coco", images=[video])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong", [{"format": "voc"}, {"split": "../x"}, {"images": ()}, {"videos": ()}], ids=lambda wrong: next(iter(wrong))
)
def test_what_cannot_be_is_refused(tmp_path, wrong):
    arguments = {"videos": [labelled_video()], "format": "coco", **wrong}
    with pytest.raises(InputError, match=r"must (be|have) one"):
        export_labels(out=tmp_path / "out", **arguments)


def test_frames_of_a_video_that_is_left_out_are_not_taken_for_those_of_another(tmp_path, pixels):
    none = labelled_video(labelled_track(draw_cells(), unknown=range(NUM_FRAMES)), name="none")
    with open_video(np.zeros_like(pixels)) as dark, open_video(pixels) as video:
        report = export_labels([none, labelled_video()], tmp_path / "out", "ctc", images=[dark, video])
    assert report.num_videos == 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "01" / "t000.tif"), pixels[0])
