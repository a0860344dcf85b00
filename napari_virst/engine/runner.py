"""Where work runs: at once in the calling thread, or one after another on a single worker thread. No torch, no Qt.

Cancelling a thread is never certain, so nothing here tries to: a ticket's flag is raised, the work looks at it
between items, and whoever receives late items recognises them by their revision.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from napari_virst.errors import SegmentationError, VirstError

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
Work = Callable[[Callable[[], bool]], Iterator[ItemT]]
"""Given ``should_stop``, yields items. It is called, iterated and closed where the runner runs it."""
Dispatch = Callable[[Callable[[], None]], None]
"""Carries a call to the thread that owns the receivers, keeping the order of calls."""

THREAD_NAME = "napari-virst worker"


class Ticket:
    """One piece of submitted work: ask it to stop, or whether it has ended."""

    def __init__(
        self, work: Work[Any], on_item: Callable[[Any], None], on_end: Callable[[BaseException | None], None]
    ) -> None:
        self._work: Work[Any] | None = work
        self._on_item = on_item
        self._on_end = on_end
        self._stop = threading.Event()
        self._claim = threading.Lock()
        self._done = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked it to stop; it may still be on its way to the next item."""
        return self._stop.is_set()

    @property
    def done(self) -> bool:
        """Whether the work has ended, normally or not; set just before ``on_end`` is called."""
        return self._done.is_set()

    def cancel(self) -> None:
        """Ask the work to stop after the item it is busy with.

        Work that has not begun ends at once: ``on_end(None)`` is called before this returns.
        """
        self._stop.set()
        if self._claim.acquire(blocking=False):
            self._finish(None, _directly)

    def _run(self, dispatch: Dispatch) -> None:
        if not self._claim.acquire(blocking=False):
            return
        error: BaseException | None = None
        try:
            self._iterate(dispatch)
        except Exception as problem:  # noqa: BLE001 - whatever a model raises must reach the user as a sentence
            error = readable(problem)
        except BaseException as interruption:
            self._finish(interruption, dispatch)
            raise
        self._finish(error, dispatch)

    def _iterate(self, dispatch: Dispatch) -> None:
        work, self._work = self._work, None
        assert work is not None
        with contextlib.ExitStack() as stack:
            items = work(self._stop.is_set)
            if (close := getattr(items, "close", None)) is not None:
                stack.callback(close)
            for item in items:
                dispatch(_call(self._on_item, item))
                if self.cancelled:
                    return

    def _finish(self, error: BaseException | None, dispatch: Dispatch) -> None:
        self._work = None
        self._done.set()
        dispatch(_call(self._on_end, error))


class Runner(Protocol):
    """Runs work and hands back its items, in order, then its end, exactly once."""

    def submit(
        self, work: Work[ItemT], on_item: Callable[[ItemT], None], on_end: Callable[[BaseException | None], None]
    ) -> Ticket:
        """Run ``work`` after everything submitted before it.

        Parameters
        ----------
        work
            Called with ``should_stop``; returns an iterator of items. Both live where the runner runs them.
        on_item
            Receives every item that was finished, also the one during which the work was cancelled.
        on_end
            Receives None after a normal or cancelled end, else the error, always a
            :class:`~napari_virst.errors.VirstError` unless the interpreter was interrupted.
        """
        ...

    def cancel_all(self) -> None:
        """Cancel everything that runs or waits."""
        ...

    def close(self) -> None:
        """Cancel everything, wait for the item in work, and accept nothing more."""
        ...

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        ...


class InlineRunner:
    """Runs work at once in the calling thread: for scripts, the command line and tests.

    Work submitted from within a callback waits until the work that called back has ended.
    """

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()
        self._closed = False

    def submit(
        self, work: Work[ItemT], on_item: Callable[[ItemT], None], on_end: Callable[[BaseException | None], None]
    ) -> Ticket:
        """Run ``work`` to its end before returning, unless called from a callback; see :class:`Runner`."""
        _refuse_if(self._closed)
        ticket = Ticket(work, on_item, on_end)
        self._tickets.append(ticket)
        if len(self._tickets) == 1:
            self._drain()
        return ticket

    def _drain(self) -> None:
        try:
            while self._tickets:
                self._tickets[0]._run(_directly)
                self._tickets.popleft()
        except BaseException:
            waiting, self._tickets = self._tickets, deque()
            for ticket in waiting:
                ticket.cancel()
            raise

    def cancel_all(self) -> None:
        """Cancel everything that runs or waits; only callbacks can find something to cancel."""
        for ticket in tuple(self._tickets):
            ticket.cancel()

    def close(self) -> None:
        """Cancel everything and accept nothing more."""
        self._closed = True
        self.cancel_all()

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return any(not ticket.done for ticket in self._tickets)


class ThreadRunner:
    """Runs work on one daemon thread, one piece after another.

    Parameters
    ----------
    dispatch
        Carries every call of ``on_item`` and ``on_end`` to the owner's thread, in order; by default they are
        called directly, in the worker thread.
    """

    def __init__(self, dispatch: Dispatch | None = None) -> None:
        self._dispatch = dispatch or _directly
        self._tickets: deque[Ticket] = deque()
        self._running: Ticket | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(
        self, work: Work[ItemT], on_item: Callable[[ItemT], None], on_end: Callable[[BaseException | None], None]
    ) -> Ticket:
        """Queue ``work`` and return; see :class:`Runner`."""
        ticket = Ticket(work, on_item, on_end)
        with self._changed:
            _refuse_if(self._closed)
            self._tickets.append(ticket)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=THREAD_NAME, daemon=True)
                self._thread.start()
            self._changed.notify()
        return ticket

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._closed or self._tickets)
                if not self._tickets:
                    return
                ticket = self._running = self._tickets.popleft()
            try:
                ticket._run(self._dispatch)
            except Exception:  # a receiver or the dispatch failed: the thread must outlive it
                logger.exception("A receiver of results failed")
            # An idle thread must not keep the video and the anchors of its last work alive.
            del ticket

    def cancel_all(self) -> None:
        """Cancel everything that runs or waits."""
        with self._changed:
            tickets = [self._running, *self._tickets]
            self._tickets.clear()
        for ticket in tickets:
            if ticket is not None:
                ticket.cancel()

    def close(self) -> None:
        """Cancel everything, wait for the item in work, and accept nothing more; closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.cancel_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        with self._changed:
            tickets = [self._running, *self._tickets]
        return any(ticket is not None and not ticket.done for ticket in tickets)


def _directly(call: Callable[[], None]) -> None:
    call()


def _call(receiver: Callable[[Any], None], value: object) -> Callable[[], None]:
    return lambda: receiver(value)


def _refuse_if(closed: bool) -> None:
    if closed:
        raise SegmentationError("The runner must be open to take work; it was closed; make a new session.")


def readable(problem: Exception) -> VirstError:
    """Return an error that nobody expected as one that can be shown; its traceback goes to the log."""
    if isinstance(problem, VirstError):
        return problem
    logger.error("Work stopped with an unexpected error", exc_info=problem)
    wrapped = SegmentationError(
        f"The model must finish each frame; it stopped with {type(problem).__name__}: {problem}; "
        "what was finished is kept, and the full report is in the log."
    )
    wrapped.__cause__ = problem
    return wrapped
