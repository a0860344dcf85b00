from __future__ import annotations

from typing import Any

import pytest

from napari_virst.gui.track_list import QueryRow, TrackList

ROWS = (QueryRow("a", "the cell", (1, 0, 0)), QueryRow("b", "the other", (0, 1, 0)))


@pytest.fixture
def tracks(qtbot: Any) -> TrackList:
    tracks = TrackList()
    qtbot.addWidget(tracks)
    return tracks


def test_being_told_of_queries_is_no_choice(tracks: TrackList, qtbot: Any) -> None:
    with qtbot.assertNotEmitted(tracks.track_chosen):
        tracks.show_rows(ROWS, "b")
    assert tracks.currentRow() == 1


def test_choosing_a_query_emits_its_track(tracks: TrackList, qtbot: Any) -> None:
    tracks.show_rows(ROWS, "a")
    with qtbot.waitSignal(tracks.track_chosen) as chosen:
        tracks.setCurrentRow(1)
    assert chosen.args == ["b"]


def test_list_is_hidden_while_there_are_no_queries(tracks: TrackList) -> None:
    for rows in (ROWS, ()):
        tracks.show_rows(rows, None)
        assert tracks.isHidden() == (not rows)
