"""``napari-virst evaluate`` as a user types it."""

from __future__ import annotations

import json

import pytest
from fixtures.benchmarks import NUM_FRAMES, draw_video, write_clip, write_mevis, write_revos
from fixtures.segmenter import DiscSegmenter
from PIL import Image
from typer.testing import CliRunner

from napari_virst.cli import main
from napari_virst.errors import InputError

runner = CliRunner()


@pytest.fixture
def segmenter(monkeypatch):
    """What the command line loads instead of a model."""
    double = DiscSegmenter(draw_video())
    monkeypatch.setattr(main, "wake", lambda *_: lambda: double)
    return double


def evaluate(*arguments):
    return runner.invoke(main.app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def mevis(tmp_path):
    pytest.importorskip("pycocotools")
    return write_mevis(tmp_path / "mevis")


def test_benchmark_is_answered_scored_and_gone_on_with(mevis, segmenter, tmp_path):
    arguments = ("rvos", mevis, "--dataset", "mevis", "--split", "valid_u", "-o", tmp_path / "out")
    first = evaluate(*arguments, "--limit", 1, "--json")
    assert first.exit_code == 0, first.output
    content = json.loads(first.stdout)
    assert content["overall"]["j_and_f"] == 1
    assert content["overall"]["num_expressions"] == 1
    result = evaluate(*arguments)
    assert result.exit_code == 0, result.output
    assert "4 expressions of 2 videos; 3 to do" in result.stderr
    assert len(segmenter.jobs) == 4
    assert len(list((tmp_path / "out" / "Annotations").glob("*/*/*.png"))) == 4 * NUM_FRAMES
    assert "J&F" in result.stdout


def test_presets_are_not_mixed_in_one_folder(mevis, monkeypatch, tmp_path):
    asked = []
    double = DiscSegmenter(draw_video())
    monkeypatch.setattr(main, "wake", lambda *words: lambda: asked.append(words) or double)
    arguments = ("rvos", mevis, "--dataset", "mevis", "--split", "valid_u", "-o", tmp_path / "out", "--limit", 1)
    assert evaluate(*arguments, "--preset", "reference").exit_code == 0
    assert asked == [("compact", "auto", "reference")]
    assert isinstance(evaluate(*arguments).exception, InputError)


def test_split_without_truth_says_what_to_hand_in(segmenter, tmp_path):
    folder = write_mevis(tmp_path / "mevis", "valid")
    result = evaluate("rvos", folder, "--dataset", "mevis", "-o", tmp_path / "out")
    assert "hand in" in result.stderr


def test_robustness_of_revos_has_a_column(segmenter, tmp_path):
    pytest.importorskip("pycocotools")
    result = evaluate("rvos", write_revos(tmp_path / "revos"), "--dataset", "revos", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if "hallucination" in line)
    assert row.replace("│", " ").split() == ["hallucination", "0.000", "0.000", "0.000", "0.000", "1"]


def test_unknown_benchmark_is_explained(tmp_path):
    result = evaluate("rvos", tmp_path, "--dataset", "coco", "-o", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    assert "ref-davis" in str(result.exception)


def test_clips_print_the_means_and_every_clip(segmenter, tmp_path):
    write_clip(tmp_path / "clips" / "one")
    write_clip(tmp_path / "clips" / "two")
    plot = tmp_path / "clips.png"
    result = evaluate("clips", tmp_path / "clips", "--json", "--plot", plot)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert set(content) == {"mean_j", "mean_j_language", "clips"}
    assert (content["mean_j"], content["mean_j_language"]) == (1, 1)
    assert set(content["clips"]) == {"one", "two"}
    assert content["clips"]["one"]["objects"]["4"]["expressions"]["the disc"]["j_and_f"] == 1
    assert 0 < content["clips"]["one"]["mean_j_copy"] < 0.5
    with Image.open(plot) as picture:
        assert picture.width > 100


def test_clips_in_a_table_beside_both_baselines(segmenter, tmp_path):
    result = evaluate("clips", write_clip(tmp_path / "one"))
    assert result.exit_code == 0, result.output
    for column in ("first mask given", "by language", "copying", "optical flow", "mean"):
        assert column in result.stdout


def test_clips_without_masks_are_explained(segmenter, tmp_path):
    folder = write_clip(tmp_path / "one")
    for path in (folder / "masks").iterdir():
        path.unlink()
    assert "must have masks" in str(evaluate("clips", folder).exception)


def test_scenes_go_through_the_whole_pipeline(tiny_model_folder, tmp_path):
    plot, kept = tmp_path / "scenes.png", tmp_path / "kept"
    options = ("--num", 3, "--frames", 4, "--size", 48, "--device", "cpu", "--plot", plot, "--keep", kept)
    result = evaluate("scenes", *options, "--model", tiny_model_folder, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert set(content) == {"overall", "kinds", "absent"}
    assert content["absent"]["num_absent"] + content["absent"]["num_present"] == 3
    assert all(0 <= kind["j_and_f"] <= 1 for kind in content["kinds"].values())
    assert plot.is_file()
    assert len(list(kept.glob("*/meta.json"))) == 3


def test_impossible_plot_is_refused_before_the_work(segmenter, tmp_path):
    folder = write_clip(tmp_path / "one")
    for arguments in (("clips", folder), ("scenes", "--num", 1)):
        assert "picture file" in str(evaluate(*arguments, "--plot", tmp_path / "plot.xyz").exception)
    assert not segmenter.jobs


def test_clip_of_another_name_is_explained(segmenter, tmp_path):
    assert "of the name two" in str(evaluate("clips", write_clip(tmp_path / "one"), "--only", "two").exception)


def test_scenes_of_training_are_refused(segmenter):
    result = evaluate("scenes", "--seed", 12, "--num", 1)
    assert isinstance(result.exception, InputError)
    assert "7000" in str(result.exception)


def test_unknown_kind_of_query_is_explained(segmenter):
    said = str(evaluate("scenes", "--kind", "smell").exception)
    assert "must be one of colour, shape" in said
    assert 'got "smell"; choose' in said
