"""The chooser of the model: the bundled one, or a folder; no napari."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_virst.gui import parts

COMPACT = "compact"
_CHOOSE_FOLDER = "choose folder…"


class ModelBox(QComboBox):
    """Offers the bundled model, the folders chosen so far, and to choose one."""

    chosen = Signal()
    """The person chose; see :attr:`model`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        parts.let_shrink(self, "The model that follows the query. It is loaded in the background when first used")
        self.addItem("compact (bundled)", COMPACT)
        self.addItem(_CHOOSE_FOLDER, None)
        self._chosen_row = 0
        self.activated.connect(self._on_activated)

    @property
    def model(self) -> str:
        """The model in view: "compact" or a folder."""
        return str(self.currentData())

    def _on_activated(self, row: int) -> None:
        if self.itemText(row) == _CHOOSE_FOLDER:
            row = self._add_folder(row)
        self._chosen_row = row
        self.setCurrentIndex(row)
        self.chosen.emit()

    def _add_folder(self, row: int) -> int:
        """Ask for a folder and offer it at a row; give back the row to show, the one before when dismissed."""
        folder = QFileDialog.getExistingDirectory(self, "Choose a model folder")
        if not folder:
            return self._chosen_row
        self.insertItem(row, Path(folder).name, folder)
        self.setItemData(row, folder, Qt.ItemDataRole.ToolTipRole)
        return row
