"""Labels leave the window as a data set."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as Picture
from qtpy.QtWidgets import QFileDialog

from napari_virst.gui.export_dialog import FORMATS, ExportDialog, ExportWish
from napari_virst.gui.widget import VirstWidget
from napari_virst.io.exporting import ExportFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Any:
    bench = make_bench()
    bench.add_video()
    return bench


def export(bench: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, format_: str = "davis", **choices: bool) -> str:
    wish = ExportWish(format_, folder, choices.get("only_reviewed", False), choices.get("with_frames", False))
    monkeypatch.setattr(bench.dock, "ask_export", lambda name: wish)
    bench.dock.export_requested.emit()
    return str(bench.dock.message_label.text())


def test_masks_and_frames_are_what_the_window_shows(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layer = bench.ask()
    layer.data[3, :4, :4] = 1
    said = export(bench, monkeypatch, tmp_path / "out", with_frames=True)
    assert said.startswith("Exported 12 frames with 1 object to ")
    [folder] = (tmp_path / "out" / "Annotations").iterdir()
    written = np.stack([np.asarray(Picture.open(path)) for path in sorted(folder.iterdir())])
    np.testing.assert_array_equal(written, np.asarray(layer.data))
    [frames] = (tmp_path / "out" / "JPEGImages").iterdir()
    shown = np.asarray(Picture.open(frames / "00003.jpg")).astype(int)
    assert np.abs(shown - bench.video.pixels[3]).mean() < 4, "a JPEG of quality 95"
    assert layer.editable


def test_only_reviewed_frames_are_exported_where_wished(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layer = bench.ask()
    layer.data[3, :4, :4] = 1
    export(bench, monkeypatch, tmp_path / "out", "coco", only_reviewed=True)
    assert json.loads((tmp_path / "out" / "export.json").read_text())["num_frames"] == 1


def test_what_cannot_be_exported_is_told_and_nothing_is_written(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.ask()
    said = export(bench, monkeypatch, tmp_path / "out", only_reviewed=True)
    assert said.startswith("⚠ An export must have a frame")
    assert not (tmp_path / "out").exists()


def test_nothing_is_asked_where_there_is_nothing_to_export(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.dock, "ask_export", lambda name: pytest.fail("asked"))
    bench.dock.export_requested.emit()
    assert not bench.dock.export_button.isEnabled()


def test_every_format_is_offered() -> None:
    assert [name for name, _ in FORMATS] == list(ExportFormat)


def test_dialog_proposes_a_folder_that_is_free_and_gives_what_was_chosen(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dock = VirstWidget()
    qtbot.addWidget(dock)
    dock._last_folder = tmp_path
    (tmp_path / "a-b-yolo").mkdir()
    proposals: list[str] = []

    def choose(self: ExportDialog) -> bool:
        self.format_box.setCurrentIndex(self.format_box.findData("yolo"))
        self.reviewed_box.setChecked(True)
        return True

    def save(_parent: object, _title: str, proposal: str) -> tuple[str, str]:
        proposals.append(proposal)
        return str(tmp_path / "mine"), ""

    monkeypatch.setattr(ExportDialog, "exec", choose)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", save)
    assert dock.ask_export("a/b") == ExportWish("yolo", tmp_path / "mine", True, False)
    assert proposals == [str(tmp_path / "a-b-yolo-2")]
    monkeypatch.setattr(ExportDialog, "exec", lambda self: False)
    assert dock.ask_export("a/b") is None
