from __future__ import annotations

import json

import pytest
import tifffile
from fixtures.frames import draw_moving_disc
from typer.testing import CliRunner

from napari_virst.cli import main
from napari_virst.cli.sampling import read_frame_sample
from napari_virst.errors import InputError
from napari_virst.model.processing import FrameSample

NUM_FRAMES = 12


@pytest.fixture
def stack(tmp_path):
    video = draw_moving_disc(6, (40, 56), 7)
    tifffile.imwrite(tmp_path / "disc.tif", video.pixels[..., 0], metadata={"axes": "TYX"})
    return tmp_path / "disc.tif"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,4,8,11", FrameSample((0, 4, 8, 11), (0, 4, 8, 11))),
        (" 0, 4 ,8,11 / 4,11", FrameSample((0, 4, 8, 11), (4, 11))),
        ("3,3,3,3", FrameSample((3, 3, 3, 3), (3, 3, 3, 3))),
    ],
    ids=["one list", "two lists", "repeated"],
)
def test_lists_are_read_as_typed(text, expected):
    assert read_frame_sample(text, NUM_FRAMES) == expected


@pytest.mark.parametrize("segmentation", [None, [4, 8]], ids=["same", "fewer"])
def test_file_holds_the_same_lists(tmp_path, segmentation):
    content = {"vlm": [0, 4, 8, 11]} | ({"segmentation": segmentation} if segmentation else {})
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "frames.json").write_text(json.dumps(content))
    sample = read_frame_sample(str(tmp_path / "a" / "frames.json"), NUM_FRAMES)
    assert sample == FrameSample((0, 4, 8, 11), tuple(segmentation or (0, 4, 8, 11)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0,4,8,12", "from 0 to 11; got 12"),
        ("4,0,8,11", "in order of time"),
        ("0,4,8,11/5", "5 is not"),
        ("0;4", "which is no file"),
        ("", "which is no file"),
        ("1/2/3", "which is no file"),
    ],
    ids=["beyond", "unsorted", "unseen", "semicolon", "empty", "three lists"],
)
def test_other_forms_are_refused_with_a_reason(text, problem):
    with pytest.raises(InputError, match=problem):
        read_frame_sample(text, NUM_FRAMES)


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", '{"vlm": 3}', '{"vlm": [true]}', '{"segmentation": [0]}', '{"vlm": []}'],
    ids=["cut off", "no object", "no list", "no numbers", "no frames", "empty"],
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "frames.json").write_text(content)
    with pytest.raises(InputError):
        read_frame_sample(str(tmp_path / "frames.json"), NUM_FRAMES)


def test_clips_that_are_not_whole_are_refused_by_the_model(stack, tiny_model_folder, tmp_path):
    words = ["segment", stack, "disc", "-o", tmp_path / "out", "--model", tiny_model_folder]
    words += ["--frames-sampled", "0,1,2"]
    result = CliRunner().invoke(main.app, [*map(str, words)])
    assert isinstance(result.exception, InputError)
    assert "whole clips of 4; got 3" in str(result.exception)


def test_sampled_frames_are_the_ones_looked_at(stack, tiny_model_folder, tmp_path):
    asked = []
    from napari_virst.engine.grounding import Grounder

    whole = Grounder.sample
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Grounder, "sample", lambda self, n: asked.append(whole(self, n)) or asked[-1])
        words = ["segment", stack, "disc", "-o", tmp_path / "out", "--model", tiny_model_folder]
        words += ["--frames-sampled", "1,2,4,5/2,5", "--device", "cpu"]
        result = CliRunner().invoke(main.app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    assert asked == [FrameSample((1, 2, 4, 5), (2, 5))]


def test_excluded_anchor_outside_the_video_is_refused(stack, tmp_path):
    result = CliRunner().invoke(main.app, ["segment", str(stack), "disc", "-o", str(tmp_path), "--exclude-anchor", "6"])
    assert isinstance(result.exception, InputError)
    assert "from 0 to 5; got 6" in str(result.exception)
