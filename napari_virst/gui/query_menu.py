"""What can be done with a query of the list: rename it, remove it; no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QInputDialog, QLineEdit, QMenu, QMessageBox

if TYPE_CHECKING:
    from qtpy.QtCore import QPoint
    from qtpy.QtWidgets import QListWidget, QListWidgetItem


class QueryMenu(QObject):
    """The menu that a right-click on the list of queries opens.

    Parameters
    ----------
    track_list : QListWidget
        Its items hold the id of their track; also the Qt parent.
    """

    rename_requested = Signal(str, str)
    """The id of a track, and its new name."""
    removal_requested = Signal(str)
    """The id of a track; the person has agreed."""

    def __init__(self, track_list: QListWidget) -> None:
        super().__init__(track_list)
        self._list = track_list
        track_list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        track_list.customContextMenuRequested.connect(self._open)

    def menu_for(self, item: QListWidgetItem) -> QMenu:
        """Make the menu of a query."""
        menu = QMenu(self._list)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        track_id, name = str(item.data(Qt.ItemDataRole.UserRole)), item.text()
        menu.addAction("Rename…").triggered.connect(lambda: self._rename(track_id, name))
        menu.addAction("Remove…").triggered.connect(lambda: self._remove(track_id, name))
        return menu

    def ask_name(self, name: str) -> str:
        """Ask for a new name, proposing the old one; empty when the person thinks better of it."""
        text, is_given = QInputDialog.getText(
            self._list, "Rename query", "Name of its layer:", QLineEdit.EchoMode.Normal, name
        )
        return " ".join(text.split()) if is_given else ""

    def ask_removal(self, name: str) -> bool:
        """Ask whether a query is to be removed."""
        text = f"Remove “{name}” with its layer and corrections from this project? This cannot be undone."
        return QMessageBox.question(self._list, "Remove query", text) == QMessageBox.StandardButton.Yes

    def _open(self, place: QPoint) -> None:
        item = self._list.itemAt(place)
        if item is not None:
            self.menu_for(item).popup(self._list.viewport().mapToGlobal(place))

    def _rename(self, track_id: str, old: str) -> None:
        name = self.ask_name(old)
        if name and name != old:
            self.rename_requested.emit(track_id, name)

    def _remove(self, track_id: str, name: str) -> None:
        if self.ask_removal(name):
            self.removal_requested.emit(track_id)
