"""The strip that shows a track over time: who made each frame, its anchors, its doubt; no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QMenu, QSizePolicy, QToolTip, QWidget

from napari_virst.gui.timeline_picture import HEIGHT_PX, MARKS_PX, Ink, draw
from napari_virst.records import Span

if TYPE_CHECKING:
    from qtpy.QtGui import QContextMenuEvent, QHelpEvent, QMouseEvent, QPaintEvent, QResizeEvent

    from napari_virst.gui.timeline_state import TimelineState

_REACH_PX = 5
"""How near to a mark a click means the mark."""


class Timeline(QWidget):
    """A strip of frames; click or drag to go there, Shift+drag to select frames, right-click for what can be done."""

    frame_chosen = Signal(int)
    selection_changed = Signal()
    absent_requested = Signal(int)
    anchor_deletion_requested = Signal(int)
    """Delete the anchor of a frame."""
    anchor_reuse_requested = Signal(int)
    """Use a deleted model anchor again."""
    pin_requested = Signal(int, bool)
    accept_requested = Signal()
    lock_requested = Signal()
    """Accept, and lock or unlock, what is selected or in view."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state: TimelineState | None = None
        self._frame = 0
        self._selection: Span | None = None
        self._pressed: int | None = None
        self._is_selecting = False
        self._picture: QPixmap | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName("Timeline of the query")

    # What it is told --------------------------------------------------------------------------------------------

    def show_state(self, state: TimelineState | None) -> None:
        """Show a track; None, or one without frames, for none."""
        self._state = state if state is not None and state.num_frames else None
        if self._state is None or (self._selection is not None and self._selection.stop > self._state.num_frames):
            self.clear_selection()
        self._picture = None
        self.setVisible(self._state is not None)
        self.update()

    def show_frame(self, frame: int) -> None:
        """Mark the frame in view."""
        if frame != self._frame:
            self._frame = frame
            self.update()

    @property
    def selection(self) -> Span | None:
        """The frames selected with Shift+drag; None where there are none."""
        return self._selection

    def clear_selection(self) -> None:
        """Select nothing."""
        self._select(None)

    def _select(self, span: Span | None) -> None:
        if span != self._selection:
            self._selection = span
            self.selection_changed.emit()
            self.update()

    # Where things are -------------------------------------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """As wide as there is room, three lanes high."""
        return QSize(240, HEIGHT_PX)

    def minimumSizeHint(self) -> QSize:
        """Fits the narrowest dock."""
        return QSize(60, self.sizeHint().height())

    def frame_at(self, x_px: float) -> int:
        """Say which frame lies at a place; beyond the ends, the first or the last."""
        num_frames = 1 if self._state is None else self._state.num_frames
        return int(np.clip(int(x_px * num_frames // max(1, self.width())), 0, num_frames - 1))

    def x_of(self, frame: int) -> float:
        """Say where the middle of a frame lies, in pixels."""
        num_frames = 1 if self._state is None else self._state.num_frames
        return (frame + 0.5) * self.width() / num_frames

    def mark_near(self, x_px: float) -> int | None:
        """Give the marked frame nearest to a place, if it is near enough to be meant."""
        marks = np.asarray(() if self._state is None else self._state.marks)
        if not len(marks) or self._state is None:
            return None
        distances = np.abs((marks + 0.5) * self.width() / self._state.num_frames - x_px)
        best = int(np.argmin(distances))
        reach = max(_REACH_PX, self.width() / self._state.num_frames / 2)
        return int(marks[best]) if distances[best] <= reach else None

    # How it looks -----------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the strip, drawn once until it changes, and over it what moves."""
        if self._state is None:
            return
        painter = QPainter(self)
        if self._picture is None:
            self._picture = self._draw(self._state)
        painter.drawPixmap(0, 0, self._picture)
        ink = self._ink
        if self._selection is not None:
            left = self.x_of(self._selection.start) - self.x_of(0)
            right = self.x_of(self._selection.stop) - self.x_of(0)
            painter.setPen(QPen(ink, 1, Qt.PenStyle.DashLine))
            painter.setBrush(QColor(ink.red(), ink.green(), ink.blue(), 50))
            painter.drawRect(QRectF(left, 0.5, max(2.0, right - left - 1), self.height() - 1))
        x = min(max(1.0, self.x_of(self._frame)), self.width() - 1.0)
        painter.setPen(QPen(ink, 2))
        painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))
        painter.end()

    @property
    def _ink(self) -> QColor:
        return self.palette().color(self.foregroundRole())

    def _draw(self, state: TimelineState) -> QPixmap:
        color, ratio = self._ink, self.devicePixelRatioF()
        pixels = draw(state, max(1, self.width()), Ink((color.red(), color.green(), color.blue()), ratio))
        height, width = pixels.shape[:2]
        image = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
        picture = QPixmap.fromImage(image)  # copies, so that the bytes may go
        picture.setDevicePixelRatio(ratio)
        return picture

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Draw anew."""
        self._picture = None
        super().resizeEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Draw anew when the theme has changed."""
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._picture = None
        super().changeEvent(event)

    # What the person does ---------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to a frame, or begin to select with Shift."""
        if event.button() != Qt.MouseButton.LeftButton or self._state is None:
            return
        x = event.position().x()
        is_on_marks = event.position().y() <= MARKS_PX
        mark = self.mark_near(x) if is_on_marks else None
        self._pressed = self.frame_at(x) if mark is None else mark
        self._is_selecting = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        self._select(Span(self._pressed, self._pressed + 1) if self._is_selecting else None)
        if not self._is_selecting:
            self.frame_chosen.emit(self._pressed)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Go along, or select up to here."""
        frame = self.frame_at(event.position().x())
        if self._pressed is None:
            return
        if self._is_selecting:
            self._select(Span(min(frame, self._pressed), max(frame, self._pressed) + 1))
        elif frame != self._pressed:
            self._pressed = frame
            self.frame_chosen.emit(frame)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go."""
        self._pressed = None

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Go to the frame under the mouse, and offer what can be done with it."""
        if self._state is None:
            return
        mark = self.mark_near(event.pos().x())
        frame = self.frame_at(event.pos().x()) if mark is None else mark
        self.frame_chosen.emit(frame)
        self.menu_for(frame).popup(event.globalPos())

    def menu_for(self, frame: int) -> QMenu:
        """Make the menu of a frame."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(f"frame {frame}").setEnabled(False)
        state = self._state
        if state is not None and frame in (*state.user_anchors, *state.model_anchors, *state.demoted):
            text = "Delete anchor: give the frame back to the model" if frame in state.user_anchors else "Delete anchor"
            menu.addAction(text).triggered.connect(lambda: self.anchor_deletion_requested.emit(frame))
        if state is not None and frame in (*state.model_anchors, *state.demoted):
            is_pinned = frame in state.pinned
            text = "Unpin anchor" if is_pinned else "Pin anchor: use it whatever corrections say"
            menu.addAction(text).triggered.connect(lambda: self.pin_requested.emit(frame, not is_pinned))
        if state is not None and frame in state.excluded:
            menu.addAction("Use this anchor again").triggered.connect(lambda: self.anchor_reuse_requested.emit(frame))
        menu.addAction("Absent here (K)").triggered.connect(lambda: self.absent_requested.emit(frame))
        menu.addSeparator()
        what = "frame" if self._selection is None else str(self._selection)
        menu.addAction(f"Accept {what} (Shift+A)").triggered.connect(self.accept_requested)
        menu.addAction(f"Lock or unlock {what} (U)").triggered.connect(self.lock_requested)
        return menu

    def event(self, event: QEvent) -> bool:
        """Say what is known of the frame under the mouse."""
        if event.type() == QEvent.Type.ToolTip and self._state is not None:
            self._show_tip(event)
            return True
        return bool(super().event(event))

    def _show_tip(self, event: QHelpEvent) -> None:
        mark = self.mark_near(event.pos().x()) if event.pos().y() <= MARKS_PX else None
        frame = self.frame_at(event.pos().x()) if mark is None else mark
        if self._state is not None:
            QToolTip.showText(event.globalPos(), self._state.describe(frame), self)
