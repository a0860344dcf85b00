"""The dock's controls and nothing else: they show what they are told and emit what the person wishes; no napari."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_virst.gui import parts
from napari_virst.gui.export_dialog import ExportDialog
from napari_virst.gui.instances_menu import InstancesMenu
from napari_virst.gui.model_box import ModelBox
from napari_virst.gui.project_copy import file_name, folder_meant, new_place
from napari_virst.gui.suggestions import QueryEdit, SuggestionsButton
from napari_virst.gui.timeline import Timeline
from napari_virst.gui.timeline_notes import Legend, SelectionNote
from napari_virst.gui.track_list import TrackList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent

    from napari_virst.gui.export_dialog import ExportWish
    from napari_virst.gui.timeline_state import TimelineState
    from napari_virst.gui.track_list import QueryRow
    from napari_virst.records import Span

_DEVICES = ("auto", "cpu", "cuda", "mps")
_QUERY_HINT = "the red circle"
_SAVE_TITLE = "Save project as a new folder, or over one by choosing its project.json"
_LEARNING_TIP = """After a run, while nothing else is at work, the model tries to learn from this query's corrections.
It costs seconds of the processor, ends at once when you ask for anything, and needs two corrected frames or more.
What does not help on corrections left out is dropped; what does is used from the next run on, for this query only."""


class VirstWidget(QWidget):
    """One quiet column: image, model, query, progress, the queries so far, the frame in view, corrections, messages."""

    image_chosen = Signal(int)
    """Row of the image chooser."""
    model_chosen = Signal(str, str)
    """Model ("compact" or a folder) and device ("auto", "cpu", …)."""
    run_requested = Signal(str)
    """The query as typed."""
    cancel_requested = Signal()
    track_chosen = Signal(str)
    """The id of a track."""
    commit_requested = Signal()
    absent_requested = Signal()
    repropagate_requested = Signal()
    next_requested = Signal()
    """Go to the next frame worth a look."""
    previous_requested = Signal()
    accept_requested = Signal()
    lock_requested = Signal()
    """Accept, and lock or unlock, the selected frames or the one in view."""
    undo_requested = Signal()
    learning_wished = Signal(bool)
    """Whether the query shall learn from its corrections."""
    export_requested = Signal()
    save_requested = Signal()
    open_requested = Signal()
    closed = Signal()
    """The dock was taken out of its window."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._was_docked = False
        self._last_folder = Path.home()
        self._build_choosers()
        self._build_query()
        self._build_timeline()
        self._build_corrections()
        self._build_project()
        self._lay_out()
        self._connect()
        self.set_images([], -1)
        self.set_busy(False)

    # What the presenter says ------------------------------------------------------------------------------------

    def set_images(self, names: Sequence[str], current: int) -> None:
        """Offer the image layers ``names`` and show row ``current`` as chosen (-1 for none)."""
        self.image_box.blockSignals(True)
        self.image_box.clear()
        self.image_box.addItems(list(names))
        self.image_box.setCurrentIndex(current)
        self.image_box.blockSignals(False)
        self.image_box.setEnabled(bool(names))
        self.image_box.setPlaceholderText("" if names else "open a video first")
        self._update_buttons()

    def set_tracks(self, rows: Sequence[QueryRow], current: str | None) -> None:
        """List the queries of the image, the one with id ``current`` selected."""
        self.track_list.show_rows(rows, current)
        self._update_buttons()

    def set_busy(self, is_busy: bool, *, can_cancel: bool | None = None) -> None:
        """Show whether a job is running, and whether it, or what is done beside, can be stopped; by default a job."""
        self.cancel_button.setEnabled(is_busy if can_cancel is None else can_cancel)
        self.progress_bar.setVisible(is_busy)
        self.progress_label.setVisible(is_busy or bool(self.progress_label.text()))

    def show_progress(self, text: str, num_done: int = 0, num_total: int = 0) -> None:
        """Say how far the job has come; a total of 0 shows that it is not known."""
        self.progress_label.say(parts.breaking_at_dots(text))
        self.progress_bar.setRange(0, num_total)
        self.progress_bar.setValue(num_done)

    def show_frame(self, text: str) -> None:
        """Say what is known of the frame in view."""
        self.frame_label.setText(text)

    def show_timeline(self, state: TimelineState | None) -> None:
        """Show a track over time, with its legend; None for none."""
        self.timeline.show_state(state)
        self.timeline_legend.setVisible(self.timeline.isVisibleTo(self))

    def show_reason(self, text: str) -> None:
        """Say why the frame in view is suggested; an empty text says that it is not."""
        self.reason_label.say(text)

    @property
    def selected_frames(self) -> Span | None:
        """The frames selected on the timeline; None where there are none."""
        return self.timeline.selection

    def show_plan(self, text: str) -> None:
        """Say what re-propagation would do; an empty text says that there is nothing to do."""
        self.plan_label.say(f"→ {text}" if text else "")
        self._update_buttons()

    def show_learning(self, is_on: bool) -> None:
        """Say whether the query learns from its corrections."""
        self.learn_box.setChecked(is_on)

    def show_message(self, text: str, *, is_error: bool = False) -> None:
        """Say one sentence in the message line; an empty text clears it."""
        self.message_label.say(f"⚠ {text}" if is_error and text else text)

    def clear_message(self, text: str) -> None:
        """Clear the message line if it still says ``text``, as an error or not."""
        if self.message_label.text().removeprefix("⚠ ") == text:
            self.show_message("")

    def set_query(self, text: str) -> None:
        """Put ``text`` into the query field."""
        self.query_edit.setText(text)

    def suggest_query(self, text: str) -> None:
        """Show ``text`` as the example in the empty query field."""
        self.query_edit.setPlaceholderText(f"e.g. {text or _QUERY_HINT}")

    def ask_folder_to_save(self, name: str) -> Path | None:
        """Ask where to save a project, proposing ``name``; None when the person thinks better of it."""
        proposal = new_place(self._last_folder / f"{file_name(name)}.virst")
        path, _ = QFileDialog.getSaveFileName(self, _SAVE_TITLE, str(proposal))
        return self._remembered(str(folder_meant(Path(path))) if path else "")

    def ask_folder_to_open(self, start: Path) -> Path | None:
        """Ask which project folder to open, looking in ``start``; None when the person thinks better of it."""
        return self._remembered(QFileDialog.getExistingDirectory(self, "Open project folder", str(start)))

    def ask_export(self, name: str) -> ExportWish | None:
        """Ask what to export of an image, and where to; None when the person thinks better of it."""
        wish = ExportDialog(self).ask(name, self._last_folder)
        if wish is not None:
            self._last_folder = wish.folder.parent
        return wish

    def _remembered(self, path: str) -> Path | None:
        if not path:
            return None
        self._last_folder = Path(path).parent
        return Path(path)

    @property
    def model_choice(self) -> tuple[str, str]:
        """Model ("compact" or a folder) and device."""
        return self.model_box.model, self.device_box.currentText()

    # How it is made ---------------------------------------------------------------------------------------------

    def _build_choosers(self) -> None:
        self.image_box = parts.combo("The video or image to annotate; the newest is chosen by itself")
        self.model_box = ModelBox()
        self.device_box = parts.combo("Where the model runs; auto takes a GPU where there is one")
        self.device_box.addItems(list(_DEVICES))

    def _build_query(self) -> None:
        self.query_edit = QueryEdit()
        self.query_edit.setPlaceholderText(f"e.g. {_QUERY_HINT}")
        self.query_edit.setClearButtonEnabled(True)
        self.query_edit.setToolTip(
            "Describe what to follow, in plain words; Enter runs. Several at once: divide them by ;"
        )
        self.suggestions_button = SuggestionsButton(self.query_edit)
        self.run_button = parts.button(
            "Run (Enter)",
            "With words: find and follow them through the whole video. Without: a layer to paint the object on",
        )
        self.cancel_button = parts.button("Cancel (Esc)", "Stop the run; the frames done so far are kept")
        self.progress_bar = QProgressBar()
        self.progress_bar.setTextVisible(False)
        self.progress_bar.setFixedHeight(6)
        self.progress_label = parts.Remark()
        self.track_list = TrackList()

    def _build_corrections(self) -> None:
        self.frame_label = parts.note("Where the mask of the frame in view comes from")
        self.commit_button = parts.button("Commit frame (C)", "The mask of this frame is right: take it as an anchor")
        self.absent_button = parts.button(
            "Absent here (K)", "It cannot be seen on this frame: empty it and take that as an anchor"
        )
        self.accept_button = parts.button(
            "Accept (Shift+A)",
            "You looked, and the mask is right: no run changes it, and others follow it as an anchor",
        )
        self.lock_button = parts.button("Lock (U)", "Runs leave the mask alone, or no longer; it is no anchor")
        self.previous_button = parts.button("Previous (Shift+N)", "Go back to the frame suggested before")
        self.next_button = parts.button("Next to review (N)", "Go to the frame whose correction is worth most")
        self.reason_label = parts.Remark("Why this frame is suggested")
        self.repropagate_button = parts.button(
            "Re-propagate (Shift+S)", "Follow again from your corrections; frames that you painted never change"
        )
        self.undo_button = parts.button(
            "Undo (Ctrl+Alt+Z)", "Take back the last run, correction or acceptance; strokes have napari's own Ctrl+Z"
        )
        self.instances_button = parts.button("Instances", "Tell the pieces of the mask apart over time")
        self.instances_menu = InstancesMenu(self)
        self.instances_button.setMenu(self.instances_menu)
        self.learn_box = QCheckBox("Learn from my corrections")
        self.learn_box.setToolTip(_LEARNING_TIP)
        self.plan_label = parts.Remark("What re-propagating would do")

    def _build_timeline(self) -> None:
        self.timeline = Timeline()
        self.timeline.setVisible(False)
        self.timeline_legend = Legend()
        self.selection_label = SelectionNote(self.timeline)

    def _build_project(self) -> None:
        self.save_button = parts.button(
            "Save project…", "Copy masks, queries and corrections to a folder of your choice"
        )
        self.open_button = parts.button("Open project…", "Go on with a project saved before")
        self.export_button = parts.button(
            "Export…", "Write the masks of all queries as a data set: COCO, DAVIS, YouTube-VOS, MeViS, YOLO, CTC"
        )
        self.message_label = parts.Remark()
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Image", self.image_box)
        form.addRow("Model", self.model_box)
        form.addRow("Device", self.device_box)
        form.addRow("Query", parts.row(self.query_edit, self.suggestions_button))
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 6, 8, 8)
        column.setSpacing(6)
        column.addLayout(form)
        for part in (
            parts.row(self.run_button, self.cancel_button),
            *(self.progress_bar, self.progress_label, parts.line(), self.track_list),
            *(self.timeline, self.timeline_legend, self.selection_label, self.frame_label),
            parts.row(self.commit_button, self.absent_button),
            parts.row(self.accept_button, self.lock_button),
            parts.row(self.previous_button, self.next_button),
            self.reason_label,
            self.repropagate_button,
            self.plan_label,
            self.learn_box,
            parts.row(self.undo_button, self.instances_button),
            *(parts.line(), parts.row(self.save_button, self.open_button), self.export_button, self.message_label),
        ):
            column.addWidget(part)
        column.addStretch(1)
        self.setMinimumWidth(280)

    def _connect(self) -> None:
        self.image_box.activated.connect(self.image_chosen)
        self.model_box.chosen.connect(lambda: self.model_chosen.emit(*self.model_choice))
        self.device_box.activated.connect(lambda _row: self.model_chosen.emit(*self.model_choice))
        self.query_edit.returnPressed.connect(self._on_run)
        self.query_edit.textChanged.connect(self._update_buttons)
        self.suggestions_button.chosen.connect(self._on_suggestion)
        self.run_button.clicked.connect(self._on_run)
        self.cancel_button.clicked.connect(self.cancel_requested)
        self.track_list.currentItemChanged.connect(self._update_buttons)
        self.track_list.track_chosen.connect(self.track_chosen)
        self.commit_button.clicked.connect(self.commit_requested)
        self.absent_button.clicked.connect(self.absent_requested)
        self.repropagate_button.clicked.connect(self.repropagate_requested)
        self.previous_button.clicked.connect(self.previous_requested)
        self.next_button.clicked.connect(self.next_requested)
        self.accept_button.clicked.connect(self.accept_requested)
        self.lock_button.clicked.connect(self.lock_requested)
        self.undo_button.clicked.connect(self.undo_requested)
        self.learn_box.clicked.connect(self.learning_wished)
        self.timeline.accept_requested.connect(self.accept_requested)
        self.timeline.lock_requested.connect(self.lock_requested)
        self.export_button.clicked.connect(self.export_requested)
        self.save_button.clicked.connect(self.save_requested)
        self.open_button.clicked.connect(self.open_requested)

    # What the person does ---------------------------------------------------------------------------------------

    def _on_run(self) -> None:
        if self.run_button.isEnabled():
            self.query_edit.remember(self.query_edit.text())
            self.run_requested.emit(self.query_edit.text())

    def _on_suggestion(self, text: str) -> None:
        self.query_edit.setText(text)
        self.query_edit.setFocus()

    @property
    def _track_buttons(self) -> tuple[QPushButton, ...]:
        return (
            *(self.commit_button, self.absent_button, self.accept_button, self.lock_button),
            *(self.previous_button, self.next_button, self.undo_button, self.instances_button),
        )

    def _update_buttons(self) -> None:
        has_image = self.image_box.count() > 0
        has_track = self.track_list.currentItem() is not None
        self.run_button.setText("Run (Enter)" if self.query_edit.text().strip() else "Paint it (Enter)")
        self.run_button.setEnabled(has_image)
        for button in self._track_buttons:
            button.setEnabled(has_track)
        self.learn_box.setEnabled(has_track)
        self.repropagate_button.setEnabled(has_track and bool(self.plan_label.text()))
        for button in (self.save_button, self.export_button):
            button.setEnabled(self.track_list.count() > 0)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Cancel on Escape; napari's own Escape, on the canvas, is left alone."""
        if event.key() == Qt.Key.Key_Escape:
            self.cancel_requested.emit()
            event.accept()
        else:
            super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        """Notice being taken out of a dock: napari then only un-parents the widget."""
        if event.type() == QEvent.Type.ParentChange:
            if self._was_docked and self.parent() is None:
                self.closed.emit()
            self._was_docked = self.parent() is not None
        return bool(super().event(event))
