"""Runners: order, cancelling, ends and errors; threads are met with events, never with sleeps."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from napari_virst.engine.runner import InlineRunner, Runner, ThreadRunner, Ticket
from napari_virst.errors import SegmentationError, VideoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_S = 10


class Ears:
    """Hears items and ends, and can wait for an end."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.ends: list[BaseException | None] = []
        self.threads: set[str] = set()
        self.ended = threading.Event()

    def on_item(self, item: Any) -> None:
        self.threads.add(threading.current_thread().name)
        self.items.append(item)

    def on_end(self, error: BaseException | None) -> None:
        self.ends.append(error)
        self.ended.set()

    def listen(self, runner: Runner, work: Any) -> Ticket:
        return runner.submit(work, self.on_item, self.on_end)

    def wait(self) -> Ears:
        assert self.ended.wait(TIMEOUT_S), "the work never ended"
        return self


class Gate:
    """Work that counts, and stands still before each number until it is let through."""

    def __init__(self, count: int = 1000) -> None:
        self.count = count
        self.arrived = threading.Semaphore(0)
        self.open = threading.Semaphore(0)
        self.closed = threading.Event()

    def work(self, should_stop: Callable[[], bool]) -> Iterator[int]:
        try:
            for number in range(self.count):
                self.arrived.release()
                assert self.open.acquire(timeout=TIMEOUT_S)
                yield number
        finally:
            self.closed.set()

    def wait_for_arrival(self) -> None:
        assert self.arrived.acquire(timeout=TIMEOUT_S)


def three(should_stop: Callable[[], bool]) -> Iterator[int]:
    yield from range(3)


def failing(error: BaseException) -> Callable[[Callable[[], bool]], Iterator[int]]:
    def work(should_stop: Callable[[], bool]) -> Iterator[int]:
        yield 0
        raise error

    return work


@pytest.fixture(params=[InlineRunner, ThreadRunner], ids=["inline", "thread"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    runner = request.param()
    yield runner
    runner.close()


@pytest.fixture
def thread_runner() -> Iterator[ThreadRunner]:
    runner = ThreadRunner()
    yield runner
    runner.close()


def test_items_arrive_in_order_before_one_end(runner: Runner) -> None:
    ears = Ears()
    ticket = ears.listen(runner, three)
    ears.wait()
    assert (ears.items, ears.ends) == ([0, 1, 2], [None])
    assert ticket.done
    assert not ticket.cancelled


def test_works_run_one_after_another(runner: Runner) -> None:
    first, second = Ears(), Ears()
    heard: list[str] = []
    runner.submit(three, lambda item: heard.append(f"a{item}"), first.on_end)
    runner.submit(three, lambda item: heard.append(f"b{item}"), second.on_end)
    second.wait()
    assert heard == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_own_errors_reach_the_end_as_they_are(runner: Runner) -> None:
    error = VideoError("Frame 3 must be readable; got nothing; check the file.")
    ears = Ears()
    ears.listen(runner, failing(error))
    assert ears.wait().ends == [error]
    assert ears.items == [0]


def test_foreign_errors_become_a_sentence(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    ears = Ears()
    ears.listen(runner, failing(RuntimeError("CUDA out of memory")))
    (error,) = ears.wait().ends
    assert isinstance(error, SegmentationError)
    assert "CUDA out of memory" in str(error)
    assert isinstance(error.__cause__, RuntimeError)
    assert "CUDA out of memory" in caplog.text


def test_error_before_the_first_item_ends_the_work(runner: Runner) -> None:
    def broken(should_stop: Callable[[], bool]) -> Iterator[int]:
        raise VideoError("no such video")

    ears = Ears()
    ears.listen(runner, broken)
    assert str(ears.wait().ends[0]) == "no such video"


def test_runner_works_on_after_an_error(runner: Runner) -> None:
    failed, after = Ears(), Ears()
    failed.listen(runner, failing(RuntimeError("no")))
    after.listen(runner, three)
    assert after.wait().items == [0, 1, 2]


def test_work_may_be_any_iterator(runner: Runner) -> None:
    ears = Ears()
    ears.listen(runner, lambda should_stop: iter([7, 8]))
    assert ears.wait().items == [7, 8]


def test_closed_runner_takes_no_work(runner: Runner) -> None:
    runner.close()
    with pytest.raises(SegmentationError, match="must be open"):
        Ears().listen(runner, three)
    assert not runner.busy


def test_inline_work_can_be_cancelled_from_its_own_item() -> None:
    runner, ears = InlineRunner(), Ears()
    runner.submit(three, lambda item: (ears.on_item(item), runner.cancel_all()), ears.on_end)
    assert (ears.items, ears.ends) == ([0], [None])


def test_inline_work_submitted_from_a_callback_waits_its_turn() -> None:
    runner, outer, inner = InlineRunner(), Ears(), Ears()
    heard: list[str] = []

    def on_item(item: int) -> None:
        heard.append(f"outer {item}")
        if item == 0:
            ticket = runner.submit(three, lambda number: heard.append(f"inner {number}"), inner.on_end)
            assert not ticket.done
            assert runner.busy

    runner.submit(three, on_item, outer.on_end)
    assert heard == ["outer 0", "outer 1", "outer 2", "inner 0", "inner 1", "inner 2"]
    assert inner.ends == [None]


def test_interrupting_inline_work_ends_it_and_goes_on_upward() -> None:
    runner, ears = InlineRunner(), Ears()
    with pytest.raises(KeyboardInterrupt):
        ears.listen(runner, failing(KeyboardInterrupt()))
    assert len(ears.ends) == 1
    assert not runner.busy
    after = Ears()
    after.listen(runner, three)
    assert after.items == [0, 1, 2]


def test_cancel_answers_within_one_item_and_delivers_it(thread_runner: ThreadRunner) -> None:
    gate, ears = Gate(), Ears()
    ticket = ears.listen(thread_runner, gate.work)
    gate.wait_for_arrival()
    ticket.cancel()
    gate.open.release()
    ears.wait()
    assert (ears.items, ears.ends) == ([0], [None])
    assert gate.closed.is_set(), "the iterator must be closed before its end is told"


def test_cancelling_waiting_work_ends_it_at_once_and_for_good(thread_runner: ThreadRunner) -> None:
    gate, busy, waiting = Gate(1), Ears(), Ears()
    busy.listen(thread_runner, gate.work)
    gate.wait_for_arrival()
    ticket = waiting.listen(thread_runner, three)
    ticket.cancel()
    assert waiting.ends == [None]
    gate.open.release()
    busy.wait()
    thread_runner.close()
    assert (waiting.items, waiting.ends) == ([], [None])


def test_cancelling_ended_work_changes_nothing(thread_runner: ThreadRunner) -> None:
    ears = Ears()
    ticket = ears.listen(thread_runner, three)
    ears.wait()
    ticket.cancel()
    thread_runner.close()
    assert ears.ends == [None]


def test_cancel_all_ends_running_and_waiting_work(thread_runner: ThreadRunner) -> None:
    gate, running, waiting = Gate(), Ears(), Ears()
    running.listen(thread_runner, gate.work)
    gate.wait_for_arrival()
    waiting.listen(thread_runner, three)
    thread_runner.cancel_all()
    gate.open.release()
    assert running.wait().ends == [None]
    assert waiting.wait().ends == [None]
    after = Ears()
    after.listen(thread_runner, three)
    assert after.wait().items == [0, 1, 2]


def test_close_joins_the_thread_and_ends_what_waits() -> None:
    runner, gate, running, waiting = ThreadRunner(), Gate(), Ears(), Ears()
    running.listen(runner, gate.work)
    gate.wait_for_arrival()
    waiting.listen(runner, three)
    gate.open.release(1000)
    runner.close()
    assert len(running.ends) == len(waiting.ends) == 1
    assert len(running.items) <= gate.count
    assert not runner.busy
    runner.close()


def test_receivers_are_called_where_dispatch_brings_them() -> None:
    calls: list[Callable[[], None]] = []
    arrived = threading.Semaphore(0)

    def dispatch(call: Callable[[], None]) -> None:
        calls.append(call)
        arrived.release()

    runner, ears = ThreadRunner(dispatch), Ears()
    ears.listen(runner, three)
    for _ in range(4):
        assert arrived.acquire(timeout=TIMEOUT_S)
    assert ears.items == []
    for call in calls:
        call()
    runner.close()
    assert (ears.items, ears.ends) == ([0, 1, 2], [None])
    assert ears.threads == {threading.current_thread().name}


def test_thread_outlives_a_receiver_that_fails(thread_runner: ThreadRunner, caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: BaseException | None) -> None:
        raise RuntimeError("the window is gone")

    thread_runner.submit(three, lambda item: None, fail)
    after = Ears()
    after.listen(thread_runner, three)
    assert after.wait().items == [0, 1, 2]
    assert "the window is gone" in caplog.text


def test_busy_tells_of_running_and_waiting_work(thread_runner: ThreadRunner) -> None:
    assert not thread_runner.busy
    gate, ears = Gate(1), Ears()
    ears.listen(thread_runner, gate.work)
    gate.wait_for_arrival()
    assert thread_runner.busy
    gate.open.release()
    ears.wait()
    assert not thread_runner.busy


def test_no_thread_is_started_before_there_is_work() -> None:
    before = threading.active_count()
    runner = ThreadRunner()
    assert threading.active_count() == before
    runner.close()
