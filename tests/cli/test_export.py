"""``export`` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_virst.cli import main
from napari_virst.errors import InputError, VideoError
from napari_virst.io.datasets import open_dataset
from napari_virst.io.exporting import ExportFormat
from napari_virst.io.masks import write_label_stack

runner = CliRunner()


def export(*words):
    return runner.invoke(main.app, ["export", *map(str, words)])


def save_video(video, path):
    tifffile.imwrite(path, video.pixels[..., 0], metadata={"axes": "TYX"})
    return path


@pytest.fixture
def project(followed, tmp_path):
    """Two queries about a disc, of which frames 2 and 4 and frames 4 and 6 were given by a person."""
    session, masks = followed.session, followed.video.masks
    first, second = session.tracks[0], session.ask("the thing")
    for track, frames in ((first, (2, 4)), (second, (4, 6))):
        for frame in frames:
            session.give_mask(track, frame, masks[frame])
    session.save()
    return session.folder


@pytest.fixture
def results(followed, tmp_path):
    """What ``segment`` leaves, with a video that is there."""
    masks = followed.video.masks
    folder = tmp_path / "results"
    folder.mkdir()
    write_label_stack(folder / "disc.tif", iter(masks), masks.shape)
    track = {
        "query": "the disc",
        "labels": "disc.tif",
        "spans_done": [[0, len(masks)]],
        "corrected_frames": [],
    }
    source = str(save_video(followed.video, tmp_path / "disc-video.tif"))
    summary = {"video": "disc-video", "source": source, "shape": masks.shape, "tracks": [track]}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.mark.parametrize("format_", [str(each) for each in ExportFormat])
def test_project_is_exported_in_every_format(project, tmp_path, format_):
    result = export(project, "--format", format_, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "2 objects" in result.stdout
    assert json.loads((tmp_path / "out" / "export.json").read_text())["format"] == format_


def test_json_is_the_only_thing_on_standard_output_and_notes_are_beside(project, tmp_path):
    result = export(project, "-f", "davis", "-o", tmp_path / "out", "--only", "reviewed", "--json")
    content = json.loads(result.stdout)
    assert content["out"] == str(tmp_path / "out")
    assert (content["num_frames"], content["num_frames_left_out"]) == (1, 11)
    assert content["notes"]
    for said in content["notes"]:
        assert said in result.stderr


def test_one_query_alone_has_its_own_reviewed_frames(project, tmp_path):
    result = export(project, "-f", "youtube-vos", "-o", tmp_path / "out", "--only", "reviewed", "--track", "the thing")
    assert result.exit_code == 0, result.output
    (expression,) = open_dataset(tmp_path / "out", "ref-youtube-vos", "train").expressions
    assert (expression.text, expression.frames) == ("the thing", ("00004", "00006"))


@pytest.mark.parametrize(("format_", "kind"), [("youtube-vos", "ref-youtube-vos"), ("mevis", "mevis")], ids=str)
def test_export_with_frames_is_what_training_reads(results, followed, tmp_path, format_, kind):
    annotated = pytest.importorskip("napari_virst.training.annotated")
    if kind == "mevis":
        pytest.importorskip("pycocotools")
    result = export(results, "-f", format_, "-o", tmp_path / "out", "--frames")
    assert result.exit_code == 0, result.output
    (video,) = annotated.find_annotated(tmp_path / "out", kind, "train")
    (query,) = video.queries
    assert (video.name, query.text, query.frames) == ("disc-video", "the disc", tuple(range(12)))
    assert video.open_frames().shape == followed.video.shape
    for frame in query.frames:
        np.testing.assert_array_equal(query.mask(frame), followed.video.masks[frame])


def test_several_sources_are_one_data_set(results, project, tmp_path):
    result = export(results, project, "-f", "coco", "-o", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["queries"] == ["the disc", "the red disc", "the thing"]


def test_source_given_twice_is_exported_once_and_that_is_said(results, project, tmp_path):
    result = export(results, project, f"{results}/", "-f", "yolo", "-o", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["num_videos"] == 2
    assert "exported once" in result.stderr


def test_more_sources_than_files_may_be_open_are_exported(followed, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    masks = followed.video.masks
    for number in range(80):
        write_label_stack(tmp_path / f"{number}.tif", iter(masks), masks.shape)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        result = export(*tmp_path.glob("*.tif"), "-f", "coco", "-o", tmp_path / "out", "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert json.loads(result.stdout)["num_videos"] == 80


def test_source_without_the_query_is_left_out_and_named(results, project, tmp_path):
    result = export(results, project, "-f", "coco", "-o", tmp_path / "out", "--track", "the thing", "--json")
    assert json.loads(result.stdout)["num_videos"] == 1
    assert "results is left out" in result.stderr


@pytest.mark.parametrize("source", ["", "masks/the-red-disc-1.tif"], ids=["project", "file-in-it"])
def test_video_that_the_labels_do_not_know_can_be_given(project, followed, tmp_path, source):
    path = save_video(followed.video, tmp_path / "v.tif")
    result = export(project / source, "-f", "yolo", "-o", tmp_path / "out", "--video", path)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out" / "images" / "train").iterdir())) == 12
    assert "differ" not in result.stderr


def test_plane_that_was_followed_is_the_one_that_is_written(results, followed, tmp_path):
    stack = np.stack([np.zeros_like(followed.video.pixels[..., 0]), followed.video.pixels[..., 0]], axis=1)
    tifffile.imwrite(tmp_path / "disc-video.tif", stack, metadata={"axes": "TZYX"})
    summary = json.loads((results / "summary.json").read_text())
    (results / "summary.json").write_text(json.dumps({**summary, "options": {"z": "1"}}))
    for out, words in (("followed", ()), ("other", ("--z", "0"))):
        result = export(results, "-f", "ctc", "-o", tmp_path / out, "--frames", *words)
        assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "followed" / "01" / "t000.tif"), stack[0, 1])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "other" / "01" / "t000.tif"), stack[0, 0])


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("--format", "voc"), InputError, "must be one of coco"),
        (("--only", "good"), InputError, "--only must be reviewed"),
        (("--track", "the star"), InputError, '--track must be one of "the red disc", "the thing"'),
        (("--frames",), InputError, "give it with --video"),
        (("--video", "a.mp4", "--video", "b.mp4"), InputError, "once per source; got 2 for 1"),
        (("--video", "absent.mp4"), VideoError, "absent.mp4"),
        (("--split", "half"), InputError, "split must be"),
    ],
    ids=["format", "only", "track", "unknown-video", "two-videos", "absent-video", "split"],
)
def test_what_cannot_be_used_is_explained_and_nothing_written(project, tmp_path, words, error, said):
    given = words if "--format" in words else ("--format", "coco", *words)
    result = export(project, "-o", tmp_path / "out", *given)
    assert isinstance(result.exception, error)
    assert main.exit_status(result.exception) == 3
    assert said in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_nothing_and_says_so(project, tmp_path, monkeypatch):
    from napari_virst.io.export_coco import CocoWriter

    monkeypatch.setattr(CocoWriter, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    result = export(project, "-f", "coco", "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert "Stopped." in result.stderr
    assert not (tmp_path / "out").exists()


def test_export_in_the_folder_is_replaced_only_when_told(project, tmp_path):
    words = (project, "-f", "yolo", "-o", tmp_path / "out")
    assert export(*words).exit_code == 0
    assert "--overwrite" in str(export(*words).exception)
    assert export(*words, "--overwrite", "--split", "val").exit_code == 0
    assert [path.name for path in (tmp_path / "out" / "labels").iterdir()] == ["val"]
