"""What is said below the timeline: its legend, and what is selected on it; no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel

from napari_virst.gui import parts
from napari_virst.gui.timeline_state import legend

if TYPE_CHECKING:
    from napari_virst.gui.timeline import Timeline

_TIP = """Frames of the query over time. Click or drag: go there. Shift+drag: select frames to accept or lock.
Right-click: delete or pin an anchor, absent here."""


class Legend(QLabel):
    """What the colours of the timeline mean, and how it is used; hidden at first, as the timeline is."""

    def __init__(self) -> None:
        super().__init__(legend())
        self.setWordWrap(True)
        self.setToolTip(_TIP)
        self.setVisible(False)


class SelectionNote(parts.Remark):
    """Names the frames that are selected on a timeline."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__("Shift+drag on the timeline selects; a click there ends it")
        self._timeline = timeline
        timeline.selection_changed.connect(self._name_what_is_selected)

    def _name_what_is_selected(self) -> None:
        span = self._timeline.selection
        self.say("" if span is None else f"selected: {span} (Accept, Lock)")
