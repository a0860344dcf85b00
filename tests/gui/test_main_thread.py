from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

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
