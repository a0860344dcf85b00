"""What Ctrl+C means while there are finished frames to keep."""

from __future__ import annotations

import signal

import pytest

from napari_virst.cli.stopping import CtrlC, heeding_ctrl_c


def test_first_press_asks_and_the_second_breaks_off():
    ctrl_c = CtrlC()
    assert not ctrl_c.is_pressed()
    ctrl_c.press()
    assert ctrl_c.is_pressed()
    with pytest.raises(KeyboardInterrupt):
        ctrl_c.press()
    ctrl_c.press()


def test_no_press_disturbs_writing():
    ctrl_c = CtrlC()
    ctrl_c.press()
    ctrl_c.start_writing()
    ctrl_c.press()
    assert ctrl_c.is_pressed()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["heard", "ignored"])
def test_who_ignores_ctrl_c_goes_on_ignoring_it(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with heeding_ctrl_c() as ctrl_c:
            signal.raise_signal(signal.SIGINT)
            assert ctrl_c.is_pressed() == (handler is not signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
