"""Many videos on the command line, with a model small enough for a test."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
import tifffile
from fixtures.frames import draw_moving_disc
from typer.testing import CliRunner

from napari_virst.cli import batch as batch_module
from napari_virst.cli import main
from napari_virst.engine import predictor
from napari_virst.errors import CheckpointError

QUERIES = ("-q", "the red circle", "-q", "the star")


@pytest.fixture
def videos(tmp_path):
    """Two short stacks of different lengths, and a file that is no video between them."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, num_frames in (("a", 3), ("c", 4)):
        pixels = draw_moving_disc(num_frames, (24, 32), 5).pixels[..., 0]
        tifffile.imwrite(folder / f"{name}.tif", pixels, photometric="minisblack", metadata={"axes": "TYX"})
    (folder / "b.tif").write_text("no image")
    return folder


@pytest.fixture
def run(videos, tiny_model_folder, tmp_path):
    """Run the command over the videos; its result."""

    def invoke(*arguments, pattern="*.tif"):
        words = ["batch", str(videos / pattern), *QUERIES, "-o", str(tmp_path / "out"), *arguments]
        return CliRunner().invoke(main.app, [*words, "--model", str(tiny_model_folder), "--device", "cpu"])

    return invoke


def table(folder):
    with (folder / "out" / "batch.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_video_gets_a_folder_and_one_that_fails_is_told_and_passed_by(run, tmp_path):
    result = run()
    assert result.exit_code == 3, result.output
    assert "Failed: b.tif must be " in result.stderr
    for name, num_frames in (("a", 3), ("c", 4)):
        labels = tifffile.imread(tmp_path / "out" / name / "the-star.tif")
        assert (labels.shape, labels.dtype) == ((num_frames, 24, 32), np.uint16)
    rows = [(row["folder"], row["status"], row["query"]) for row in table(tmp_path)]
    assert rows == [
        ("a", "done", "the red circle"),
        ("a", "done", "the star"),
        ("b", "failed", ""),
        ("c", "done", "the red circle"),
        ("c", "done", "the star"),
    ]


def test_the_model_is_loaded_once(run, monkeypatch):
    loaded, load = [], predictor.load_segmenter
    monkeypatch.setattr(predictor, "load_segmenter", lambda *a, **k: loaded.append(a) or load(*a, **k))
    run()
    assert len(loaded) == 1


def test_finished_videos_are_kept_and_those_that_failed_tried_again(run, videos, tmp_path):
    run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/*.tif")}
    tifffile.imwrite(videos / "b.tif", np.zeros((2, 24, 32), np.uint8), metadata={"axes": "TYX"})
    result = run("--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [video["status"] for video in content["videos"]] == ["kept", "done", "kept"]
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert [track["query"] for track in content["videos"][0]["tracks"]] == ["the red circle", "the star"]


def test_kept_results_are_done_again_when_asked_or_when_the_video_is_newer(run, videos, tmp_path):
    run(pattern="[ac].tif")
    summary_s = (tmp_path / "out" / "a" / "summary.json").stat().st_mtime
    os.utime(videos / "a.tif", (summary_s + 9, summary_s + 9))
    run(pattern="[ac].tif")
    assert [row["status"] for row in table(tmp_path)] == ["done", "done", "kept", "kept"]
    run("--again", pattern="[ac].tif")
    assert {row["status"] for row in table(tmp_path)} == {"done"}


def test_other_queries_are_not_held_by_earlier_results(run, videos, tmp_path, tiny_model_folder):
    run(pattern="a.tif")
    words = ["batch", str(videos / "a.tif"), "-q", "the square", "-o", str(tmp_path / "out")]
    CliRunner().invoke(main.app, [*words, "--model", str(tiny_model_folder), "--device", "cpu"])
    assert [(row["status"], row["query"]) for row in table(tmp_path)] == [("done", "the square")]


def test_results_of_another_region_are_not_kept(run, tmp_path):
    for again in ((), ("--region", "0,0,16,16"), ("--region", "0,0,16,16")):
        run(*again, pattern="a.tif")
        content = json.loads((tmp_path / "out" / "a" / "summary.json").read_text())
        assert content["options"] == ({"region": "0,0,16,16"} if again else {})
    assert [row["status"] for row in table(tmp_path)] == ["kept", "kept"]


def test_the_table_keeps_the_videos_of_earlier_calls(run, tmp_path):
    run(pattern="c.tif")
    run(pattern="a.tif")
    assert [row["folder"] for row in table(tmp_path)] == ["c", "c", "a", "a"]


def test_ctrl_c_ends_the_batch_and_what_was_stopped_is_done_next_time(run, tmp_path, monkeypatch):
    follow = batch_module.run_segment

    def stop_at_a(request, wake):
        summary = follow(request, wake)
        return summary if "c.tif" in request.video else type(summary)(**{**vars(summary), "interrupted": True})

    monkeypatch.setattr(batch_module, "run_segment", stop_at_a)
    assert run(pattern="[ac].tif").exit_code == 130
    assert [row["status"] for row in table(tmp_path)] == ["stopped", "stopped"]


def test_a_model_that_cannot_be_loaded_ends_the_batch(videos, tmp_path):
    words = ["batch", str(videos / "[ac].tif"), "-q", "the star", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main.app, [*words, "--model", str(tmp_path / "nothing")])
    assert isinstance(result.exception, CheckpointError)
    assert result.stderr.count(" of 2: ") == 1


def test_wrong_queries_are_refused_before_anything_is_done(videos, tmp_path):
    result = CliRunner().invoke(
        main.app, ["batch", str(videos), "-q", str(videos / "a.tif"), "-o", str(tmp_path / "o")]
    )
    assert "which is a file" in str(result.exception)
    assert not (tmp_path / "o").exists()


def test_a_region_that_is_none_is_refused_before_anything_is_done(run, tmp_path):
    assert "A region must be" in str(run("--region", "left").exception)
    assert not (tmp_path / "out").exists()


def test_white_space_in_a_query_does_not_undo_what_is_held(run, videos, tmp_path, tiny_model_folder):
    for status in ("done", "kept"):
        words = ["batch", str(videos / "a.tif"), "-q", " the  star ", "-o", str(tmp_path / "out")]
        CliRunner().invoke(main.app, [*words, "--model", str(tiny_model_folder), "--device", "cpu"])
        assert [row["status"] for row in table(tmp_path)] == [status]


def test_results_of_another_preset_are_not_kept(run, tmp_path):
    for preset, status in (((), "done"), (("--preset", "reference"), "done"), (("--preset", "reference"), "kept")):
        run(*preset, pattern="a.tif")
        assert {row["status"] for row in table(tmp_path)} == {status}


def test_a_folder_of_images_of_which_one_was_replaced_is_done_again(run, videos, tmp_path):
    (videos / "d").mkdir()
    for number in range(2):
        tifffile.imwrite(videos / "d" / f"{number}.tif", np.zeros((24, 32), np.uint8))
    run(pattern="d")
    folder = (videos / "d").stat()
    later_s = (tmp_path / "out" / "d" / "summary.json").stat().st_mtime + 9
    os.utime(videos / "d" / "1.tif", (later_s, later_s))
    os.utime(videos / "d", (folder.st_atime, folder.st_mtime))
    run(pattern="d")
    assert {row["status"] for row in table(tmp_path)} == {"done"}


def test_videos_of_one_name_asked_one_after_the_other_keep_folders_of_their_own(run, videos, tmp_path):
    for folder in ("x", "y"):
        (videos / folder).mkdir()
        (videos / folder / "a.tif").write_bytes((videos / "a.tif").read_bytes())
    for pattern in ("x/a.tif", "y/a.tif", "*/a.tif"):
        assert run(pattern=pattern).exit_code == 0
    assert [(row["folder"], row["status"]) for row in table(tmp_path)[::2]] == [("a", "kept"), ("a.tif", "kept")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "a.tif", "batch.csv"]


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "second"])
def test_ctrl_c_while_a_video_is_opened_leaves_the_table_of_all(run, tmp_path, monkeypatch, is_first):
    run(pattern="[ac].tif")
    follow = batch_module.run_segment

    def interrupt(request, wake):
        if is_first or "c.tif" in request.video:
            raise KeyboardInterrupt
        return follow(request, wake)

    monkeypatch.setattr(batch_module, "run_segment", interrupt)
    result = run("--again", "--json", pattern="[ac].tif")
    assert result.exit_code == 130
    assert "Stopped; the same command without --again goes on." in result.stderr
    statuses = ["stopped"] if is_first else ["done", "stopped"]
    assert [video["status"] for video in json.loads(result.stdout)["videos"]] == statuses
    assert sorted((row["folder"], row["status"]) for row in table(tmp_path)) == (
        [("a", "stopped"), ("c", "done"), ("c", "done")]
        if is_first
        else [("a", "done"), ("a", "done"), ("c", "stopped")]
    )


def test_what_is_odd_about_a_video_is_in_the_table_when_it_is_kept_too(run, videos, tmp_path):
    tifffile.imwrite(
        videos / "d.tif", np.zeros((2, 3, 24, 32), np.uint8), photometric="minisblack", metadata={"axes": "TCYX"}
    )
    for _ in range(2):
        run(pattern="d.tif")
        assert all("Channel 0 of 3 is shown" in row["notes"] for row in table(tmp_path))


def test_queries_that_a_folder_tells_no_more_of_are_named(run, videos, tmp_path, tiny_model_folder):
    run(pattern="a.tif")
    words = ["batch", str(videos / "a.tif"), "-q", "the star", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main.app, [*words, "--model", str(tiny_model_folder), "--device", "cpu"])
    assert "tells no more of “the red circle”" in result.stderr


def test_the_printed_table_tells_videos_of_one_name_apart(run, videos):
    for folder in ("x", "y"):
        (videos / folder).mkdir()
        (videos / folder / "a.tif").write_bytes((videos / "a.tif").read_bytes())
    printed = run(pattern="*/a.tif").stdout
    assert "x-a" in printed
    assert "y-a" in printed


def test_words_that_the_model_ignored_are_in_the_table(videos, tmp_path, tiny_model_folder):
    words = ["batch", str(videos / "a.tif"), "-q", "the red xylophone", "-o", str(tmp_path / "out")]
    CliRunner().invoke(main.app, [*words, "--model", str(tiny_model_folder), "--device", "cpu"])
    content = json.loads((tmp_path / "out" / "a" / "summary.json").read_text())
    (row,) = table(tmp_path)
    assert row["unknown_words"].split() == content["tracks"][0]["unknown_words"] != []


@pytest.mark.parametrize("content", ["[]", "{}", '{"tracks": 1}', '{"tracks": [{}]}', "no"], ids=str)
def test_a_summary_that_tells_nothing_is_written_anew(run, tmp_path, content):
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "summary.json").write_text(content)
    assert run(pattern="a.tif").exit_code == 0
    assert {row["status"] for row in table(tmp_path)} == {"done"}
