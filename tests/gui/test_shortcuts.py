from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.key_bindings import coerce_keybinding

if TYPE_CHECKING:
    from collections.abc import Callable

ESCAPE = coerce_keybinding("Escape")


@pytest.fixture
def asked(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bench with an answered query, whose cancellations are counted."""
    bench.ask()
    bench.cancelled = 0

    def cancel() -> None:
        bench.cancelled += 1

    monkeypatch.setattr(bench.presenter._desk.session, "cancel", cancel)
    return bench


def press_escape(layer: Any) -> None:
    layer.keymap[ESCAPE](layer)


def bind_napari_s(monkeypatch: pytest.MonkeyPatch, action: Callable[[Labels], None]) -> None:
    """Give Escape a meaning for every labels layer, as a window of napari does."""
    monkeypatch.setitem(Labels.class_keymap, ESCAPE, action)


@pytest.mark.parametrize(
    ("mode", "expected"), [("pan_zoom", 1), ("paint", 1), ("erase", 1), ("fill", 1), ("pick", 1), ("polygon", 0)]
)
def test_escape_on_the_canvas_cancels_but_for_polygons(
    asked: Any, monkeypatch: pytest.MonkeyPatch, mode: str, expected: int
) -> None:
    heard: list[str] = []
    bind_napari_s(monkeypatch, lambda layer: heard.append(layer.name))
    layer = asked.viewer.layers[-1]
    layer.mode = mode
    press_escape(layer)
    assert asked.cancelled == expected
    assert heard == ["disc · the red disc"]


def test_escape_cancels_where_napari_gives_it_no_meaning(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Labels.class_keymap, ESCAPE, raising=False)
    press_escape(asked.viewer.layers[-1])
    assert asked.cancelled == 1


def test_escape_that_takes_a_stroke_back_cancels_nothing(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = asked.viewer.layers[-1]
    layer.mode = "paint"
    layer.paint((3, 4, 4), 1)
    bind_napari_s(monkeypatch, lambda layer: layer.undo())
    press_escape(layer)
    assert asked.cancelled == 0
    assert not layer.data[3, 4, 4]
    press_escape(layer)
    assert asked.cancelled == 1


def test_every_action_has_the_name_that_napari_asks_it_for(asked: Any) -> None:
    assert all(action.__name__ for action in asked.viewer.layers[-1].keymap.values())


def test_escape_is_left_to_others_after_the_session(asked: Any) -> None:
    layer = asked.viewer.layers[-1]
    other = asked.viewer.add_labels(np.zeros((12, 32, 48), int))
    asked.viewer.layers.remove("disc")
    assert ESCAPE not in layer.keymap
    assert ESCAPE not in other.keymap
