"""The list of an image's queries; no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QSizePolicy, QWidget

from napari_virst.gui import parts

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class QueryRow:
    """One line of the list of queries."""

    track_id: str
    text: str
    color: tuple[float, float, float]
    """RGB, 0…1; the colour of the query's layer."""


class TrackList(QListWidget):
    """Queries one below the other, as high as they need; hidden while there are none."""

    track_chosen = Signal(str)
    """The id of the track that the person chose."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip("The queries of this image; choosing one selects its layer")
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setSizeAdjustPolicy(QAbstractItemView.SizeAdjustPolicy.AdjustToContents)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self.setMinimumHeight(0)
        self.setMaximumHeight(120)
        self.setVisible(False)
        self.setIconSize(QSize(12, 12))
        self.setUniformItemSizes(True)
        self.currentItemChanged.connect(self._on_current_changed)

    def show_rows(self, rows: Sequence[QueryRow], current: str | None) -> None:
        """List queries, the one with id ``current`` selected; that is no choice of the person's."""
        self.blockSignals(True)
        self.clear()
        for row in rows:
            item = QListWidgetItem(parts.swatch(row.color), row.text)
            item.setData(Qt.ItemDataRole.UserRole, row.track_id)
            self.addItem(item)
            if row.track_id == current:
                self.setCurrentItem(item)
        self.blockSignals(False)
        self.setVisible(bool(rows))

    def _on_current_changed(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            self.track_chosen.emit(item.data(Qt.ItemDataRole.UserRole))
