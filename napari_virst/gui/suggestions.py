"""What could be asked: queries asked before, and examples of what the bundled model understands; no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLineEdit, QMenu, QToolButton

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent

EXAMPLES = (
    ("How it looks", ("the red circle", "the white star", "the dark nucleus")),
    ("Size and place", ("the largest cell", "the second largest square", "the mouse on the left")),
    ("Beside others", ("the triangle left of the star", "the one that the fast circle bumps into")),
    ("What it does", ("the cell moving to the right", "the mouse that turns", "the cell that divides")),
    ("When", ("the mouse that leaves", "the cell that appears last", "the circle that comes back")),
    ("Several", ("all squares", "the cyan circle; the white star")),
)
"""By kind; every word is one that the bundled model knows."""

NUM_REMEMBERED = 8


class QueryEdit(QLineEdit):
    """The field of the query; the arrow keys go through what was asked before, as in a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: list[str] = []
        self._row = 0

    @property
    def asked(self) -> tuple[str, ...]:
        """What was asked before, the newest first."""
        return tuple(reversed(self._asked))

    def remember(self, text: str) -> None:
        """Keep a query that was asked; one asked again moves to the front."""
        text = text.strip()
        if text:
            self._asked = [*(old for old in self._asked if old != text), text][-NUM_REMEMBERED:]
        self._row = len(self._asked)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go to an older or a newer query with Up and Down; beyond the newest the field is empty."""
        step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(event.key(), 0)
        if not step or not self._asked:
            super().keyPressEvent(event)
            return
        self._row = min(max(self._row + step, 0), len(self._asked))
        self.setText("" if self._row == len(self._asked) else self._asked[self._row])
        event.accept()


class SuggestionsButton(QToolButton):
    """Opens a menu of queries; choosing one writes it into the field and runs nothing."""

    chosen = Signal(str)
    """A query."""

    def __init__(self, query_edit: QueryEdit) -> None:
        super().__init__()
        self._edit = query_edit
        self.setText("▾")
        self.setToolTip("What could be asked: queries asked before (Up and Down in the field), and examples")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        menu = QMenu(self)
        menu.aboutToShow.connect(self.fill)
        self.setMenu(menu)

    def fill(self) -> None:
        """Write the menu anew."""
        menu = self.menu()
        menu.clear()
        for title, texts in (("Asked before", self._edit.asked), *EXAMPLES):
            if texts:
                menu.addAction(title).setEnabled(False)
            for text in texts:
                menu.addAction(f"    {text}").triggered.connect(
                    lambda _checked=False, text=text: self.chosen.emit(text)
                )
