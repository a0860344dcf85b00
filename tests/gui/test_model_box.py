from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtWidgets import QFileDialog

from napari_virst.gui.model_box import ModelBox

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def box(qtbot: Any) -> ModelBox:
    box = ModelBox()
    qtbot.addWidget(box)
    return box


def test_bundled_model_is_chosen_at_first(box: ModelBox) -> None:
    assert box.model == "compact"


def test_chosen_folder_is_kept_as_a_choice(
    box: ModelBox, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "my-model"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    with qtbot.waitSignal(box.chosen):
        box.activated.emit(box.count() - 1)
    assert box.model == str(folder)
    assert box.currentText() == "my-model"
    assert box.itemText(box.count() - 1) == "choose folder…"


def test_dismissed_folder_dialog_changes_nothing(box: ModelBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    box.activated.emit(box.count() - 1)
    assert box.model == "compact"
