from __future__ import annotations

import json

import tifffile
from PIL import Image
from typer.testing import CliRunner

from napari_virst.cli import demo, main
from napari_virst.engine.predictor import load_segmenter


def test_headless_demo_asks_corrects_and_follows(tiny_model_folder, tmp_path):
    report = demo.run_headless(tmp_path, lambda: load_segmenter(tiny_model_folder, "cpu"))
    labels = tifffile.imread(report.labels)
    assert labels.shape[0] == report.num_frames
    with Image.open(report.overlay) as animation:
        assert animation.n_frames == report.num_frames
    assert (tmp_path / "project" / "project.json").exists()
    truth_area = labels[report.corrected_frame].sum()
    assert truth_area > 0


def test_a_question_without_true_masks_is_one_json_object_too(monkeypatch, tiny_model_folder, tmp_path):
    monkeypatch.setattr(main, "wake", lambda *_: lambda: load_segmenter(tiny_model_folder, "cpu"))
    asked = ["demo", "--headless", "-q", "the purple star", "-o", str(tmp_path), "--json"]
    result = CliRunner().invoke(main.app, asked)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["mean_j_asked"] is None


def test_report_without_true_masks_can_be_shown(capsys):
    demo.DemoReport("a star", 4, None, 1.0, None, 2, "frames 0–3", 0, None, "labels", "overlay", "project").show()
    assert "no true masks" in capsys.readouterr().out


def test_a_second_demo_keeps_the_first_project(tmp_path):
    (tmp_path / "project").mkdir()
    assert demo._fresh(tmp_path / "project") == tmp_path / "project-2"


def test_no_display_means_no_window(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not demo.can_open_window()


def test_demo_json_is_one_object(monkeypatch, tiny_model_folder, tmp_path):
    monkeypatch.setattr(main, "wake", lambda *_: lambda: load_segmenter(tiny_model_folder, "cpu"))
    result = CliRunner().invoke(main.app, ["demo", "--headless", "-o", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["num_frames"] > 10
