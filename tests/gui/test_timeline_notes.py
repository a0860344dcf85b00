from __future__ import annotations

from typing import Any

import numpy as np

from napari_virst.gui.timeline import Timeline
from napari_virst.gui.timeline_notes import SelectionNote
from napari_virst.gui.timeline_state import TimelineState
from napari_virst.records import Provenance, Span


def test_selected_frames_are_named_until_nothing_is_selected(qtbot: Any) -> None:
    timeline = Timeline()
    note = SelectionNote(timeline)
    qtbot.addWidget(timeline)
    qtbot.addWidget(note)
    assert note.isHidden()
    timeline.show_state(TimelineState(np.full(20, Provenance.PROPAGATED, np.uint8), np.zeros(20, bool), np.zeros(20)))
    timeline._select(Span(4, 10))
    assert str(Span(4, 10)) in note.text()
    assert not note.isHidden()
    timeline.clear_selection()
    assert note.text() == ""
    assert note.isHidden()
