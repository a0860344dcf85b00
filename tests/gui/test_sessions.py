from __future__ import annotations

import threading
from typing import Any

import pytest
from fixtures.frames import draw_moving_disc
from fixtures.segmenter import DiscSegmenter

from napari_virst.gui.sessions import ChosenModel, SharedSegmenter
from napari_virst.records import Job, Query, Span

JOB = Job(Query("the disc"), Span(0, 12))


def test_model_is_loaded_once_until_another_is_chosen() -> None:
    loads: list[tuple[str, str]] = []

    def load(model: str, device: str) -> Any:
        loads.append((model, device))
        return DiscSegmenter(draw_moving_disc())

    model = ChosenModel(load)
    assert loads == []
    assert model() is model()
    model.choose("/a/folder", "cpu")
    model()
    assert loads == [("compact", "auto"), ("/a/folder", "cpu")]


def test_failed_loading_is_tried_again() -> None:
    answers: list[Any] = [OSError("gone"), DiscSegmenter(draw_moving_disc())]

    def load(model: str, device: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    model = ChosenModel(load)
    with pytest.raises(OSError, match="gone"):
        model()
    assert model().name == "compact"


def test_second_run_waits_for_the_first_and_can_be_cancelled_meanwhile() -> None:
    shared = SharedSegmenter(DiscSegmenter(draw_moving_disc()))
    first = shared.run(shared._segmenter.video, JOB, lambda: False)  # type: ignore[attr-defined]
    next(first)
    cancelled = threading.Event()
    second: list[Any] = []
    waiting = threading.Thread(target=lambda: second.extend(shared.run(None, JOB, cancelled.is_set)))  # type: ignore[arg-type]
    waiting.start()
    cancelled.set()
    waiting.join(10)
    assert second == []
    assert len(list(first)) == 11
    assert len(list(shared.run(shared._segmenter.video, JOB, lambda: False))) == 12  # type: ignore[attr-defined]
