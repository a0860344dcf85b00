from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QDockWidget, QFileDialog, QMainWindow, QPushButton

from napari_virst.gui.timeline_state import TimelineState
from napari_virst.gui.track_list import QueryRow
from napari_virst.gui.widget import VirstWidget
from napari_virst.records import Provenance

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def dock(qtbot: Any) -> VirstWidget:
    dock = VirstWidget()
    qtbot.addWidget(dock)
    dock.set_images(["disc"], 0)
    return dock


def test_enter_in_the_query_field_runs(dock: VirstWidget, qtbot: Any) -> None:
    qtbot.keyClicks(dock.query_edit, "the cell")
    with qtbot.waitSignal(dock.run_requested) as asked:
        qtbot.keyClick(dock.query_edit, Qt.Key.Key_Return)
    assert asked.args == ["the cell"]


@pytest.mark.parametrize(
    ("images", "query", "says", "can_run"),
    [
        pytest.param([], "the cell", "Run (Enter)", False, id="no-image"),
        pytest.param(["disc"], "  ", "Paint it (Enter)", True, id="no-words"),
        pytest.param(["disc"], "the cell", "Run (Enter)", True, id="both"),
    ],
)
def test_run_needs_an_image_and_offers_the_brush_where_there_are_no_words(
    dock: VirstWidget, qtbot: Any, images: list[str], query: str, says: str, can_run: bool
) -> None:
    dock.set_images(images, 0 if images else -1)
    dock.set_query(query)
    assert (dock.run_button.text(), dock.run_button.isEnabled()) == (says, can_run)
    with qtbot.assertNotEmitted(dock.run_requested) if not can_run else qtbot.waitSignal(dock.run_requested):
        qtbot.keyClick(dock.query_edit, Qt.Key.Key_Return)


def test_escape_in_the_dock_cancels(dock: VirstWidget, qtbot: Any) -> None:
    with qtbot.waitSignal(dock.cancel_requested):
        qtbot.keyClick(dock.query_edit, Qt.Key.Key_Escape)


def test_cancel_button_works_only_during_a_run(dock: VirstWidget, qtbot: Any) -> None:
    assert not dock.cancel_button.isEnabled()
    dock.set_busy(True)
    with qtbot.waitSignal(dock.cancel_requested):
        dock.cancel_button.click()


@pytest.mark.parametrize(
    ("button", "key"),
    [
        ("commit_button", "(C)"),
        ("absent_button", "(K)"),
        ("repropagate_button", "(Shift+S)"),
        ("next_button", "(N)"),
        ("previous_button", "(Shift+N)"),
        ("accept_button", "(Shift+A)"),
        ("lock_button", "(U)"),
        ("undo_button", "(Ctrl+Alt+Z)"),
    ],
)
def test_key_is_printed_on_the_button(dock: VirstWidget, button: str, key: str) -> None:
    assert key in getattr(dock, button).text()


def test_every_button_says_what_it_does(dock: VirstWidget) -> None:
    assert all(button.toolTip() for button in dock.findChildren(QPushButton))


def test_learning_is_off_explained_and_a_wish(dock: VirstWidget, qtbot: Any) -> None:
    assert (dock.learn_box.isChecked(), dock.learn_box.isEnabled()) == (False, False)
    for word in ("seconds", "dropped", "two"):
        assert word in dock.learn_box.toolTip()
    dock.set_tracks([QueryRow("a", "the cell", (1, 0, 0))], "a")
    with qtbot.waitSignal(dock.learning_wished) as wished:
        dock.learn_box.click()
    assert wished.args == [True]
    with qtbot.assertNotEmitted(dock.learning_wished):
        dock.show_learning(False)


def test_buttons_of_corrections_wait_for_a_query(dock: VirstWidget) -> None:
    assert not dock.commit_button.isEnabled()
    dock.set_tracks([QueryRow("a", "the cell", (1, 0, 0))], "a")
    assert dock.commit_button.isEnabled()
    assert not dock.repropagate_button.isEnabled()
    dock.show_plan("frames 3–9, about 2 s")
    assert dock.repropagate_button.isEnabled()


@pytest.mark.parametrize(
    ("button", "signal"),
    [
        ("commit_button", "commit_requested"),
        ("absent_button", "absent_requested"),
        ("repropagate_button", "repropagate_requested"),
        ("next_button", "next_requested"),
        ("previous_button", "previous_requested"),
        ("accept_button", "accept_requested"),
        ("lock_button", "lock_requested"),
        ("undo_button", "undo_requested"),
        ("save_button", "save_requested"),
        ("export_button", "export_requested"),
        ("open_button", "open_requested"),
    ],
)
def test_button_emits_its_wish(dock: VirstWidget, qtbot: Any, button: str, signal: str) -> None:
    dock.set_tracks([QueryRow("a", "the cell", (1, 0, 0))], "a")
    dock.show_plan("frames 3–9")
    with qtbot.waitSignal(getattr(dock, signal)):
        getattr(dock, button).click()


def test_choosing_a_query_emits_its_track(dock: VirstWidget, qtbot: Any) -> None:
    dock.set_tracks([QueryRow("a", "the cell", (1, 0, 0)), QueryRow("b", "the other", (0, 1, 0))], "a")
    with qtbot.waitSignal(dock.track_chosen) as chosen:
        dock.track_list.setCurrentRow(1)
    assert chosen.args == ["b"]


def test_selected_frames_are_told_and_none_when_the_track_is_gone(dock: VirstWidget, qtbot: Any) -> None:
    provenances = np.full(20, Provenance.PROPAGATED, np.uint8)
    dock.show_timeline(TimelineState(provenances, np.zeros(20, bool), np.full(20, np.nan)))
    dock.timeline.resize(200, 50)
    y = QPoint(45, 20), QPoint(95, 20)
    qtbot.mousePress(dock.timeline, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier, y[0])
    qtbot.mouseMove(dock.timeline, y[1])
    qtbot.mouseRelease(dock.timeline, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier, y[1])
    assert dock.selected_frames is not None
    dock.show_timeline(None)
    assert dock.selected_frames is None


def test_chosen_model_is_emitted_with_its_device(dock: VirstWidget, qtbot: Any) -> None:
    with qtbot.waitSignal(dock.model_chosen) as chosen:
        dock.model_box.activated.emit(0)
    assert tuple(chosen.args) == dock.model_choice == ("compact", "auto")


def test_message_line_shows_markup_as_text(dock: VirstWidget) -> None:
    dock.show_message("<b>frame</b> & more", is_error=True)
    assert dock.message_label.textFormat() == Qt.TextFormat.PlainText
    assert dock.message_label.text() == "⚠ <b>frame</b> & more"


def test_taken_out_of_its_dock_it_says_closed(qtbot: Any) -> None:
    window, dock_widget, dock = QMainWindow(), QDockWidget(), VirstWidget()
    qtbot.addWidget(window)
    qtbot.addWidget(dock)
    dock_widget.setWidget(dock)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock_widget)
    with qtbot.waitSignal(dock.closed):
        dock.setParent(None)


def test_controls_wake_neither_napari_nor_torch() -> None:
    code = "import sys, napari_virst.gui.widget; print([m for m in ('napari', 'torch', 'dask') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_project_saved_before_is_saved_over_by_choosing_its_file(
    dock: VirstWidget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cells.virst").mkdir()
    (tmp_path / "cells.virst" / "project.json").write_text("{}")
    chosen = str(tmp_path / "cells.virst" / "project.json")
    proposals: list[str] = []

    def choose(_parent: object, _title: str, proposal: str) -> tuple[str, str]:
        proposals.append(proposal)
        return chosen, ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    for _ in range(2):
        assert dock.ask_folder_to_save("cells") == tmp_path / "cells.virst"
    assert proposals[1] == str(tmp_path / "cells-2.virst")
    chosen = ""
    assert dock.ask_folder_to_save("well A/1") is None
    assert proposals[2] == str(tmp_path / "well A-1.virst")
