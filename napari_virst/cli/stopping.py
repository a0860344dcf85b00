"""What Ctrl+C means while there are finished frames to keep."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class CtrlC:
    """Counts presses: the first asks the run to stop, the second breaks off the frame, and none disturbs writing.

    Two presses in one second are an impatient person's, or a terminal's and a script's; either way the finished frames
    are kept.
    """

    def __init__(self) -> None:
        self._num_pressed = 0
        self._is_running = True

    def is_pressed(self) -> bool:
        """Whether somebody asked to stop."""
        return self._num_pressed > 0

    def press(self, *_: object) -> None:
        """Take one press.

        Raises
        ------
        KeyboardInterrupt
            At the second press while the model runs.
        """
        self._num_pressed += 1
        if self._num_pressed > 1 and self._is_running:
            self._is_running = False
            raise KeyboardInterrupt

    def start_writing(self) -> None:
        """Leave what follows undisturbed."""
        self._is_running = False


@contextmanager
def heeding_ctrl_c() -> Iterator[CtrlC]:
    """Have Ctrl+C counted; as before where somebody has it ignored, or outside the main thread."""
    ctrl_c, before = CtrlC(), signal.getsignal(signal.SIGINT)
    is_ours = current_thread() is main_thread() and before is not signal.SIG_IGN
    if is_ours:
        signal.signal(signal.SIGINT, ctrl_c.press)
    try:
        yield ctrl_c
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, before)
