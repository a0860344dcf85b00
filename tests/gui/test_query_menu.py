from __future__ import annotations

from typing import Any

import pytest

from napari_virst.gui.query_menu import QueryMenu
from napari_virst.gui.track_list import QueryRow, TrackList


@pytest.fixture
def menu(qtbot: Any) -> QueryMenu:
    tracks = TrackList()
    qtbot.addWidget(tracks)
    tracks.show_rows([QueryRow("cell-1", "the cell", (1.0, 0.5, 0.0))], "cell-1")
    return QueryMenu(tracks)


def action(menu: QueryMenu, text: str) -> Any:
    shown = menu.menu_for(menu.parent().item(0))
    return next(one for one in shown.actions() if one.text() == text)


@pytest.mark.parametrize(
    ("answer", "wishes"),
    [
        pytest.param("mother cell", [("cell-1", "mother cell")], id="new-name"),
        pytest.param("the cell", [], id="same-name"),
        pytest.param("", [], id="thought-better"),
    ],
)
def test_rename_is_wished_where_the_name_is_new(
    menu: QueryMenu, monkeypatch: pytest.MonkeyPatch, answer: str, wishes: list[tuple[str, str]]
) -> None:
    heard: list[tuple[str, str]] = []
    menu.rename_requested.connect(lambda track_id, name: heard.append((track_id, name)))
    monkeypatch.setattr(menu, "ask_name", lambda name: answer)
    action(menu, "Rename…").trigger()
    assert heard == wishes


@pytest.mark.parametrize("agreed", [True, False])
def test_removal_is_wished_only_once_agreed(menu: QueryMenu, monkeypatch: pytest.MonkeyPatch, agreed: bool) -> None:
    heard: list[str] = []
    menu.removal_requested.connect(heard.append)
    monkeypatch.setattr(menu, "ask_removal", lambda name: agreed)
    action(menu, "Remove…").trigger()
    assert heard == ["cell-1"] * agreed
