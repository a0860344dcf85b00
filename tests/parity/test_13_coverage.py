"""Nothing recorded is left unread."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.parity

STAGES = sorted(path.name for path in Path(__file__).parent.glob("test_[0-9]*.py"))
# Which frames an array is of; read beside it.
FRAME_NUMBERS = ("_frames",)


def test_every_recorded_array_was_compared(any_recording, request):
    options, collected = request.config.option, {item.path.name for item in request.session.items}
    if set(STAGES) - collected or options.keyword or any("::" in arg for arg in request.config.args):
        pytest.skip("only a part of the stages was run")
    if hasattr(request.config, "workerinput"):
        pytest.skip("the stages were run in several processes")
    left = {name for name in set(any_recording.outputs) - any_recording.compared if not name.endswith(FRAME_NUMBERS)}
    assert not left
