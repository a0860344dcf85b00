"""What to export, and where to: asked in a small window; no napari."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QDialog, QDialogButtonBox, QFileDialog, QFormLayout

from napari_virst.gui import parts
from napari_virst.gui.project_copy import file_name, new_place

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

FORMATS = (
    ("coco", "COCO: run lengths, overlaps, identities"),
    ("davis", "DAVIS: palette images, one value per object"),
    ("youtube-vos", "YouTube-VOS: palette images and expressions"),
    ("mevis", "MeViS: run lengths and expressions"),
    ("yolo", "YOLO: polygons of each frame"),
    ("ctc", "Cell Tracking Challenge: masks and lineage"),
)
"""As ``napari_virst.io.exporting`` names them, and in words."""


@dataclass(frozen=True)
class ExportWish:
    """What a person wants exported."""

    format: str
    folder: Path
    only_reviewed: bool
    with_frames: bool


class ExportDialog(QDialog):
    """Asks for format, frames and pictures."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export labels")
        self.format_box = parts.combo("How the data set is laid out; docs/export.md says what each keeps")
        for name, words in FORMATS:
            self.format_box.addItem(words, name)
        self.reviewed_box = QCheckBox("Only frames that I corrected or accepted, in every query")
        self.frames_box = QCheckBox("The video's frames too, as JPEG (TIFF for the Cell Tracking Challenge)")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        buttons.button(QDialogButtonBox.StandardButton.Ok).setText("Choose folder…")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        form = QFormLayout(self)
        form.addRow("Format", self.format_box)
        form.addRow(self.reviewed_box)
        form.addRow(self.frames_box)
        form.addRow(buttons)
        self.setMinimumWidth(420)

    @property
    def format(self) -> str:
        """The format that is chosen."""
        return str(self.format_box.currentData())

    def ask(self, name: str, start: Path) -> ExportWish | None:
        """Ask everything, proposing a folder for ``name`` in ``start``; None when the person thinks better of it."""
        if not self.exec():
            return None
        proposal = new_place(start / f"{file_name(name)}-{self.format}")
        path, _ = QFileDialog.getSaveFileName(self.parentWidget(), "Export into a new folder", str(proposal))
        if not path:
            return None
        return ExportWish(self.format, Path(path), self.reviewed_box.isChecked(), self.frames_box.isChecked())
