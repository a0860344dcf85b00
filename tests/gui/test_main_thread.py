from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_virst.gui import main_thread
from napari_virst.gui.main_thread import MainThread, WindowRunner

if TYPE_CHECKING:
    import pytest


def in_a_thread(call: Any) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_calls_arrive_in_qts_thread_in_their_order(qtbot: Any) -> None:
    main, seen = MainThread(), []
    in_a_thread(lambda: [main.dispatch(lambda n=n: seen.append((n, threading.current_thread()))) for n in range(50)])
    assert seen == []
    qtbot.waitUntil(lambda: len(seen) == 50)
    assert seen == [(n, threading.main_thread()) for n in range(50)]


def test_failing_call_does_not_stop_the_next(qtbot: Any, caplog: pytest.LogCaptureFixture) -> None:
    main, seen = MainThread(), []
    main.dispatch(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    main.dispatch(lambda: seen.append(1))
    qtbot.waitUntil(lambda: seen == [1])
    assert "ZeroDivisionError" in caplog.text


def test_window_has_its_turn_among_many_calls(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_thread, "TURN_S", 0.0)
    main, seen, beats = MainThread(), [], []
    timer = QTimer()
    timer.timeout.connect(lambda: beats.append(len(seen)))
    timer.start(0)
    in_a_thread(lambda: [main.dispatch(lambda n=n: seen.append(n)) for n in range(50)])
    qtbot.waitUntil(lambda: len(seen) == 50)
    timer.stop()
    assert seen == list(range(50))
    assert len({beat for beat in beats if 0 < beat < 50}) > 10


def test_closed_drops_calls(qtbot: Any) -> None:
    main, seen = MainThread(), []
    main.close()
    main.dispatch(lambda: seen.append(1))
    qtbot.wait(10)
    assert seen == []


def test_closing_does_not_wait_for_the_frame_in_work() -> None:
    started, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work(should_stop: Any) -> Any:
        started.set()
        may_end.wait(10)
        yield 1

    runner = WindowRunner(lambda call: call(), ended.set)
    runner.submit(work, lambda item: None, lambda error: None)
    started.wait(10)
    runner.close()
    assert not ended.is_set()
    may_end.set()
    runner.wait_closed()
    assert ended.is_set()
