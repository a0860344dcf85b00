"""The command line as a user types it, on a model small enough for a test."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from fixtures.frames import draw_moving_disc
from PIL import Image
from typer.testing import CliRunner

from napari_virst.cli import main
from napari_virst.errors import (
    CheckpointError,
    InputError,
    MaskError,
    ProjectError,
    QueryError,
    SegmentationError,
    VideoError,
)
from napari_virst.session.working import MAX_TOGETHER

runner = CliRunner()
NUM_FRAMES, HEIGHT, WIDTH = 6, 40, 56


@pytest.fixture
def video():
    return draw_moving_disc(NUM_FRAMES, (HEIGHT, WIDTH), 7)


@pytest.fixture
def stack(video, tmp_path):
    path = tmp_path / "disc.tif"
    tifffile.imwrite(path, video.pixels[..., 0], metadata={"axes": "TYX"})
    return path


@pytest.fixture
def first_mask(video, tmp_path):
    path = tmp_path / "first.png"
    Image.fromarray(video.masks[0].astype(np.uint8) * 255).save(path)
    return path


def segment(*arguments, model):
    words = ["segment", *map(str, arguments), "--model", str(model), "--device", "cpu"]
    return runner.invoke(main.app, words)


def test_query_gives_a_label_stack_and_a_summary(stack, tiny_model_folder, tmp_path):
    result = segment(stack, "the red circle", "-o", tmp_path / "out", model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    labels = tifffile.imread(tmp_path / "out" / "the-red-circle.tif")
    assert labels.shape == (NUM_FRAMES, HEIGHT, WIDTH)
    assert labels.dtype == np.uint16
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["shape"] == [NUM_FRAMES, HEIGHT, WIDTH]
    assert [t["query"] for t in summary["tracks"]] == ["the red circle"]


def test_json_is_the_only_thing_on_standard_output(stack, tiny_model_folder, tmp_path):
    result = segment(stack, "the red giraffe", "-o", tmp_path / "out", "--json", model=tiny_model_folder)
    content = json.loads(result.stdout)
    assert content["tracks"][0]["unknown_words"] == ["giraffe"]
    assert "'giraffe' is unknown" in result.stderr


def test_a_given_mask_is_in_the_output_pixel_by_pixel(stack, first_mask, video, tiny_model_folder, tmp_path):
    result = segment(stack, "--correct", f"0={first_mask}", "-o", tmp_path / "out", model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    labels = tifffile.imread(tmp_path / "out" / "object.tif")
    np.testing.assert_array_equal(labels[0] > 0, video.masks[0])


def test_learning_says_what_came_of_it(stack, first_mask, tiny_model_folder, tmp_path):
    given = ("--correct", f"0={first_mask}", "--correct", f"1={first_mask}")
    result = segment(stack, *given, "--learn", "-o", tmp_path / "out", model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    assert "from 2 corrections" in " ".join(result.stderr.split())


def test_learning_from_one_mask_says_when_it_begins(stack, first_mask, tiny_model_folder, tmp_path):
    given = ("--correct", f"0={first_mask}", "--learn")
    result = segment(stack, *given, "-o", tmp_path / "out", model=tiny_model_folder)
    assert "second corrected frame" in " ".join(result.stderr.split())


@pytest.fixture
def calls(monkeypatch):
    """How many jobs the model was given at once, each time."""
    from napari_virst.engine.predictor import Predictor

    sizes, whole = [], Predictor.run_many

    def counted(self, frames, jobs, should_stop):
        sizes.append(len(jobs))
        yield from whole(self, frames, jobs, should_stop)

    monkeypatch.setattr(Predictor, "run_many", counted)
    return sizes


def test_several_queries_are_one_batch_and_come_out_as_alone(stack, tiny_model_folder, tmp_path, calls):
    texts = ("the red circle", "the circle", "largest blue square")
    more = [word for text in texts[1:] for word in ("--query", text)]
    result = segment(stack, texts[0], *more, "-o", tmp_path / "together", model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    assert calls == [3]
    together = json.loads((tmp_path / "together" / "summary.json").read_text())["tracks"]
    assert [track["query"] for track in together] == list(texts)
    for text, track in zip(texts, together, strict=True):
        segment(stack, text, "-o", tmp_path / "alone", model=tiny_model_folder)
        ours, alone = (tifffile.imread(tmp_path / folder / track["labels"]) for folder in ("together", "alone"))
        np.testing.assert_array_equal(ours, alone)


def fails_for(text, at_frame, whole):
    """What a predictor is to do so that the query ``text`` fails, in a batch and alone."""

    def run_many(self, frames, jobs, should_stop):
        for index, result in whole(self, frames, jobs, should_stop):
            if jobs[index].query.text == text and result.frame >= at_frame:
                raise SegmentationError("The model must fit; the device is too small.")
            yield index, result

    return run_many


def test_query_that_fails_does_not_take_the_others_with_it(stack, tiny_model_folder, tmp_path, monkeypatch):
    from napari_virst.engine.predictor import Predictor

    failing, whole = fails_for("the star", 2, Predictor.run_many), Predictor.run

    def run(self, frames, job, should_stop):
        for result in whole(self, frames, job, should_stop):
            if job.query.text == "the star" and result.frame >= 2:
                raise SegmentationError("The model must fit; the device is too small.")
            yield result

    monkeypatch.setattr(Predictor, "run_many", failing)
    monkeypatch.setattr(Predictor, "run", run)
    out = tmp_path / "out"
    result = segment(stack, "the circle", "-q", "the star", "-q", "the square", "-o", out, model=tiny_model_folder)
    assert isinstance(result.exception, SegmentationError)
    summary = json.loads((out / "summary.json").read_text())
    done = {track["query"]: track["num_frames_done"] for track in summary["tracks"]}
    assert done["the circle"] == done["the square"] == NUM_FRAMES
    assert done["the star"] < NUM_FRAMES
    assert summary["notes"] == ["“the star”: The model must fit; the device is too small."]
    assert all(tifffile.imread(out / track["labels"]).shape[0] == NUM_FRAMES for track in summary["tracks"])


def test_frame_that_cannot_be_read_keeps_those_before_it_and_is_not_tried_again(
    stack, tiny_model_folder, tmp_path, monkeypatch
):
    from napari_virst.engine.predictor import Predictor
    from napari_virst.records import FrameResult, Provenance

    tried = []

    def unreadable(self, frames, jobs, should_stop):
        tried.append(len(jobs))
        for index, _ in enumerate(jobs):
            yield index, FrameResult(0, np.ones(frames.shape[1:3], bool), 1.0, 1.0, Provenance.PROPAGATED)
        raise VideoError("Frame 1 must be readable.")

    monkeypatch.setattr(Predictor, "run_many", unreadable)
    result = segment(stack, "a", "-q", "b", "-o", tmp_path / "out", model=tiny_model_folder)
    assert isinstance(result.exception, VideoError)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [track["num_frames_done"] for track in summary["tracks"]] == [1, 1]
    assert tried == [2]


def test_many_queries_are_several_batches(stack, tiny_model_folder, tmp_path, calls):
    more = [word for number in range(MAX_TOGETHER + 1) for word in ("--query", f"circle {number}")]
    result = segment(stack, "the circle", *more, "-o", tmp_path / "out", model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    assert calls == [MAX_TOGETHER, 2]


def test_ctrl_c_keeps_the_finished_frames_of_every_query(stack, tiny_model_folder, tmp_path, monkeypatch):
    from napari_virst.engine.predictor import Predictor
    from napari_virst.records import FrameResult, Provenance

    def interrupted(self, frames, jobs, should_stop):
        for frame in range(2):
            for index, _ in enumerate(jobs):
                mask = np.ones(frames.shape[1:3], bool)
                yield index, FrameResult(frame, mask, 1.0, 1.0, Provenance.PROPAGATED)
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "run_many", interrupted)
    result = segment(stack, "a", "-q", "b", "-o", tmp_path / "out", model=tiny_model_folder)
    assert result.exit_code == 130
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [track["num_frames_done"] for track in summary["tracks"]] == [2, 2]
    assert [track["spans_done"] for track in summary["tracks"]] == [[[0, 2]], [[0, 2]]]
    for track in summary["tracks"]:
        labels = tifffile.imread(tmp_path / "out" / track["labels"])
        assert [bool(frame.any()) for frame in labels] == [True, True, False, False, False, False]


def test_two_queries_of_one_name_get_two_files(stack, tiny_model_folder, tmp_path):
    result = segment(stack, "the circle", "-q", "The circle!", "-o", tmp_path / "out", model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "out").glob("*.tif")) == ["the-circle-2.tif", "the-circle.tif"]


def test_region_leaves_the_rest_empty(stack, first_mask, tiny_model_folder, tmp_path):
    out = tmp_path / "out"
    arguments = ("--correct", f"0={first_mask}", "--region", "10,0,30,40")
    result = segment(stack, *arguments, "-o", out, model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    labels = tifffile.imread(out / "object.tif")[1:]
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[10:30, 0:40] = False
    assert not labels[:, outside].any()


def test_absent_frame_stays_empty(stack, first_mask, tiny_model_folder, tmp_path):
    arguments = ("--correct", f"0={first_mask}", "--correct", "3=absent")
    result = segment(stack, *arguments, "-o", tmp_path / "out", model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    assert not tifffile.imread(tmp_path / "out" / "object.tif")[3].any()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], QueryError, "query"),
        (["--correct", "zero.png"], MaskError, "FRAME=MASK"),
        (["a", "--correct", "99=absent"], MaskError, "beyond the last frame"),
        (["a", "--correct", "1=absent", "--correct", "1=absent"], MaskError, "given twice"),
        (["a", "-q", "b", "--correct", "0=absent"], QueryError, "one query"),
        (["--correct", "0=absent"], QueryError, "got only frames without the object; add a query"),
        (["a", "--region", "1,2,3"], InputError, 'got "1,2,3"; give'),
        (["a", "--region", "0,0,9,9999"], InputError, "got 0,0,9,9999; choose"),
        (["a", "--z", "upper"], VideoError, "got 'upper'; leave it out"),
        (["a", "--correct", "0=absent", "--label", "0"], MaskError, "got 0; 0 is the background"),
        (["a", "--channel", "1"], VideoError, "got 1; leave it out"),
    ],
    ids=[
        *("nothing-asked", "malformed", "beyond-the-end", "twice", "two-queries-one-mask", "only-absent"),
        *("region", "region-outside", "plane", "label-of-the-background", "channel"),
    ],
)
def test_wrong_arguments_are_explained(stack, tiny_model_folder, arguments, error, words):
    result = segment(stack, *arguments, model=tiny_model_folder)
    assert isinstance(result.exception, error)
    assert words in str(result.exception)


@pytest.mark.parametrize("place", ["file", "file/inside"], ids=["file", "inside-a-file"])
def test_impossible_output_is_refused_before_the_model_wakes(stack, tmp_path, place):
    (tmp_path / "file").touch()
    result = segment(stack, "x", "-o", tmp_path / place, model=tmp_path / "a model that would be missed later")
    assert isinstance(result.exception, InputError)
    assert "-o must be a folder" in str(result.exception)


def test_results_of_another_video_are_not_written_over(stack, tiny_model_folder, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other.tif"
    other.write_bytes(stack.read_bytes())
    assert segment(stack, "x", "-o", out, model=tiny_model_folder).exit_code == 0
    before = (out / "summary.json").read_bytes()
    assert json.loads(before)["source"] == str(stack)
    result = segment(other, "x", "-o", out, model=tiny_model_folder)
    assert isinstance(result.exception, InputError)
    assert str(stack) in str(result.exception)
    assert (out / "summary.json").read_bytes() == before
    assert segment(stack, "x", "-o", out, model=tiny_model_folder).exit_code == 0, "the same video again may"


def test_what_was_chosen_for_the_user_is_in_the_summary_and_named_as_options(tiny_model_folder, tmp_path):
    path = tmp_path / "channels.tif"
    tifffile.imwrite(path, np.zeros((3, 2, 24, 32), np.uint8), metadata={"axes": "TCYX"})
    result = segment(path, "x", "-o", tmp_path / "out", "--json", model=tiny_model_folder)
    (note,) = json.loads(result.stdout)["notes"]
    assert note == "Channel 0 of 2 is shown; give --channel for another."
    assert note in result.stderr.splitlines(), "one line in a log"


def test_a_second_video_is_not_taken_for_a_query(stack, tiny_model_folder):
    result = segment(stack, stack, model=tiny_model_folder)
    assert isinstance(result.exception, QueryError)
    assert "one video at a time" in str(result.exception)


def test_error_that_nobody_expected_is_said_in_a_sentence(stack, tiny_model_folder, tmp_path, monkeypatch):
    from napari_virst.engine.predictor import Predictor

    def run(*_):
        raise RuntimeError("of torch")

    monkeypatch.setattr(Predictor, "run", run)
    result = segment(stack, "x", "-o", tmp_path / "out", model=tiny_model_folder)
    assert isinstance(result.exception, SegmentationError)
    assert "RuntimeError: of torch" in str(result.exception)
    assert (tmp_path / "out" / "summary.json").exists()


def test_version_is_printed():
    result = runner.invoke(main.app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("napari-virst ")


def test_ctrl_c_before_anything_is_finished_says_so(stack, tmp_path, monkeypatch):
    def wake(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "wake", wake)
    result = segment(stack, "x", "-o", tmp_path / "out", model="compact")
    assert (result.exit_code, result.stderr) == (130, "Stopped.\n")


def test_missing_video_and_missing_model_are_told_apart(stack, tmp_path):
    assert isinstance(segment(tmp_path / "no.mp4", "x", model="compact").exception, VideoError)
    assert isinstance(segment(stack, "x", model=tmp_path / "none").exception, CheckpointError)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (VideoError("v"), 3),
        (MaskError("m"), 3),
        (ProjectError("p"), 3),
        (CheckpointError("c"), 4),
        (SegmentationError("s"), 5),
    ],
    ids=["video", "mask", "project", "model", "running"],
)
def test_exit_status_says_what_kind_of_error(error, status):
    assert main.exit_status(error) == status


def test_an_error_is_one_sentence_without_traceback(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["napari-virst", "segment", "nowhere.mp4", "x"])
    with pytest.raises(SystemExit) as stop:
        main.run()
    assert stop.value.code == 3
    said = capsys.readouterr().err
    assert said.startswith("Error:")
    assert "Traceback" not in said


def test_brackets_in_an_error_are_printed_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["napari-virst", "segment", "a [b] c.mp4", "x"])
    with pytest.raises(SystemExit):
        main.run()
    assert "a [b] c.mp4" in capsys.readouterr().err


def test_ctrl_c_keeps_finished_frames(stack, first_mask, tiny_model_folder, tmp_path, monkeypatch):
    from napari_virst.engine.predictor import Predictor

    whole = Predictor.run

    def interrupted(self, frames, job, should_stop):
        for number, result in enumerate(whole(self, frames, job, should_stop)):
            if number == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(Predictor, "run", interrupted)
    result = segment(stack, "--correct", f"0={first_mask}", "-o", tmp_path / "out", model=tiny_model_folder)
    assert result.exit_code == 130
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["interrupted"]
    assert summary["tracks"][0]["num_frames_done"] == 3
    assert tifffile.imread(tmp_path / "out" / "object.tif").shape == (NUM_FRAMES, HEIGHT, WIDTH)


def test_reference_preset_follows_the_whole_frame_forward(stack, first_mask, tiny_model_folder, tmp_path):
    arguments = (stack, "--correct", f"2={first_mask}", "-o", tmp_path / "out")
    result = segment(*arguments, "--preset", "reference", model=tiny_model_folder)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["tracks"][0]["num_frames_done"] == NUM_FRAMES


def test_unknown_preset_is_refused(stack, tiny_model_folder, tmp_path):
    result = segment(stack, "x", "-o", tmp_path / "out", "--preset", "fast", model=tiny_model_folder)
    assert main.exit_status(result.exception) == 3
    assert 'got "fast"' in str(result.exception)


def test_info_counts_parameters_and_words(tiny_model_folder):
    result = runner.invoke(main.app, ["info", "--model", str(tiny_model_folder), "--json"])
    facts = json.loads(result.stdout)
    assert facts["model"]["num_parameters"] > 1e6
    assert facts["versions"]["torch"]
    assert "full_model_fits" in facts
