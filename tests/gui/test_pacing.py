from __future__ import annotations

from typing import Any

from napari_virst.gui.pacing import Paced


def test_first_wish_is_done_at_once(qtbot: Any) -> None:
    done: list[int] = []
    paced = Paced(lambda: done.append(1), interval_ms=10_000)
    paced.ask()
    assert done == [1]
    paced.stop()


def test_wishes_within_an_interval_become_one(qtbot: Any) -> None:
    done: list[int] = []
    paced = Paced(lambda: done.append(1), interval_ms=10)
    for _ in range(100):
        paced.ask()
    qtbot.waitUntil(lambda: not paced._timer.isActive())
    assert done == [1, 1]


def test_stopped_forgets_the_pending_wish(qtbot: Any) -> None:
    done: list[int] = []
    paced = Paced(lambda: done.append(1), interval_ms=10)
    paced.ask()
    paced.ask()
    paced.stop()
    qtbot.wait(30)
    assert done == [1]
