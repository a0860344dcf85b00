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
