"""Queries asked before, and examples of what can be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt

import napari_virst
from napari_virst.gui.suggestions import EXAMPLES, NUM_REMEMBERED
from napari_virst.gui.widget import VirstWidget

Key = Qt.Key


@pytest.fixture
def dock(qtbot: Any) -> VirstWidget:
    dock = VirstWidget()
    qtbot.addWidget(dock)
    dock.set_images(["disc"], 0)
    return dock


def ask(dock: VirstWidget, *texts: str) -> None:
    for text in texts:
        dock.set_query(text)
        dock.run_button.click()


def shown(dock: VirstWidget) -> list[str]:
    dock.suggestions_button.fill()
    return [action.text().strip() for action in dock.suggestions_button.menu().actions()]


def test_the_arrow_keys_go_through_what_was_asked_and_past_the_newest_the_field_is_empty(
    dock: VirstWidget, qtbot: Any
) -> None:
    ask(dock, "the cell", "the star")
    seen = []
    for key in (Key.Key_Up, Key.Key_Up, Key.Key_Up, Key.Key_Down, Key.Key_Down):
        qtbot.keyClick(dock.query_edit, key)
        seen.append(dock.query_edit.text())
    assert seen == ["the star", "the cell", "the cell", "the star", ""]


def test_the_arrow_keys_leave_what_is_typed_where_nothing_was_asked(dock: VirstWidget, qtbot: Any) -> None:
    qtbot.keyClicks(dock.query_edit, "the c")
    qtbot.keyClick(dock.query_edit, Key.Key_Up)
    assert dock.query_edit.text() == "the c"


def test_what_is_asked_again_moves_to_the_front_and_the_oldest_is_forgotten(dock: VirstWidget) -> None:
    ask(dock, "old", *(f"q{n}" for n in range(NUM_REMEMBERED - 1)), "q0", "", "q0 ")
    assert dock.query_edit.asked[:2] == ("q0", f"q{NUM_REMEMBERED - 2}")
    ask(dock, "new")
    assert "old" not in dock.query_edit.asked
    assert len(dock.query_edit.asked) == NUM_REMEMBERED


def test_the_menu_shows_what_was_asked_before_the_examples(dock: VirstWidget) -> None:
    assert shown(dock)[:2] == [EXAMPLES[0][0], EXAMPLES[0][1][0]]
    ask(dock, "the cell")
    assert shown(dock)[:3] == ["Asked before", "the cell", EXAMPLES[0][0]]


def test_choosing_an_example_writes_it_and_runs_nothing(dock: VirstWidget, qtbot: Any) -> None:
    dock.suggestions_button.fill()
    with qtbot.assertNotEmitted(dock.run_requested):
        dock.suggestions_button.menu().actions()[1].trigger()
    assert dock.query_edit.text() == EXAMPLES[0][1][0]


def test_the_bundled_model_knows_every_word_of_the_examples() -> None:
    folder = Path(napari_virst.__file__).parent / "weights" / "compact"
    known = set(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    asked = {word for _, texts in EXAMPLES for text in texts for word in text.replace(";", " ").split()}
    assert asked <= known
