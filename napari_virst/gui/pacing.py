"""Doing something often wanted no more often than the eye can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

EYE_INTERVAL_MS = 66
"""About 15 times a second: a light refresh of one frame costs 4–6 ms, a redraw up to 30 ms in software GL."""


class Paced(QObject):
    """Calls an action at once when asked, then at most once per interval while being asked again.

    The last wish is never lost: what is asked during an interval is done once at its end.

    Parameters
    ----------
    action : callable
        Takes nothing, returns nothing, must not raise.
    interval_ms : int
        Shortest time between two calls, milliseconds.
    parent : QObject, optional
        Owner; the pending call dies with it.
    """

    def __init__(
        self, action: Callable[[], None], interval_ms: int = EYE_INTERVAL_MS, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._action = action
        self._is_wanted = False
        self._timer = QTimer(self)
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self._on_timeout)

    def ask(self) -> None:
        """Have the action done now, or as soon as the interval since the last time is over."""
        if self._timer.isActive():
            self._is_wanted = True
            return
        self._timer.start()
        self._action()

    def stop(self) -> None:
        """Forget a pending wish."""
        self._is_wanted = False
        self._timer.stop()

    def _on_timeout(self) -> None:
        if not self._is_wanted:
            self._timer.stop()
            return
        self._is_wanted = False
        self._action()
