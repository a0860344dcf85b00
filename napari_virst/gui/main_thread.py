"""The one way back to Qt's thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_virst.engine.runner import ThreadRunner

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

TURN_S = 0.015
"""How long calls from workers may go on before the window has its turn: of what a model does not find, hundreds of
frames come at once, of 13 ms each at 720 × 1280."""


class MainThread(QObject):
    """Carries calls from any thread to the thread in which this object was made.

    Give :meth:`dispatch` to a ``ThreadRunner``; nothing else crosses threads in the window.

    Parameters
    ----------
    parent : QObject, optional
        Calls that arrive after the parent is gone are dropped.
    """

    _called = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._open = True
        self._calls: deque[Callable[[], None]] = deque()
        self._called.connect(self._take_turn, Qt.ConnectionType.QueuedConnection)
        self._next_turn = QTimer(self)  # a timer lets what the person does come first, as another signal would not
        self._next_turn.setSingleShot(True)
        self._next_turn.timeout.connect(self._take_turn)

    def dispatch(self, call: Callable[[], None]) -> None:
        """Have ``call`` run in Qt's thread, after everything dispatched before it; returns at once."""
        if not self._open:
            return
        self._calls.append(call)
        try:
            self._called.emit()
        except RuntimeError:  # Qt has deleted this object under a worker that was still on its way out
            logger.debug("A call was dropped: the window is gone.")

    def _take_turn(self) -> None:
        if self._next_turn.isActive():
            return
        end = time.monotonic() + TURN_S
        while self._calls:
            _call(self._calls.popleft())
            if self._calls and time.monotonic() > end:
                self._next_turn.start(0)
                return

    def close(self) -> None:
        """Drop every call dispatched from now on."""
        self._open = False


def _call(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # an exception that leaves a Qt slot aborts the program in some bindings
        logger.exception("A call from the worker failed.")


class WindowRunner(ThreadRunner):
    """A thread runner that a window may close without waiting.

    A model may need seconds to reach its next frame, and a closing window must not freeze for so long: the waiting
    is done by a thread of its own, which also keeps the interpreter from ending under a working model.

    Parameters
    ----------
    dispatch : callable
        Carries results to Qt's thread.
    at_end : callable
        Called, in any thread, when the worker has ended: the place to let go of what it was using.
    """

    def __init__(
        self, dispatch: Callable[[Callable[[], None]], None], at_end: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(dispatch)
        self._at_end = at_end
        self._closing: threading.Thread | None = None

    def close(self) -> None:
        """Cancel everything, accept nothing more, and return at once; the worker ends after the item in work."""
        if self._closing is None:
            self.cancel_all()
            self._closing = threading.Thread(target=self._wait_for_worker, name="napari-virst closing", daemon=False)
            self._closing.start()

    def wait_closed(self) -> None:
        """Wait until the worker has ended after :meth:`close`."""
        if self._closing is not None:
            self._closing.join()

    def _wait_for_worker(self) -> None:
        super().close()
        self._at_end()
