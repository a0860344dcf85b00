from __future__ import annotations

import doctest
import math

import pytest

from napari_virst.gui import review, sentences
from napari_virst.records import Progress, Provenance, Span


@pytest.mark.parametrize("module", [sentences, review], ids=["sentences", "review"])
def test_examples_in_the_docstrings_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0


RUNNING = Progress(38, 120, 38 / 14.2, "following")
LAST = Progress(120, 120, 10.0, "following")


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        pytest.param(RUNNING, "following · 38/120 frames · 14.2 frames/s · 6 s left", id="running"),
        pytest.param(Progress(0, 120, 3.0, "waking the model"), "waking the model …", id="nothing-yet"),
        pytest.param(Progress(0, 120, 0.0), "starting …", id="no-stage"),
        pytest.param(LAST, "following · 120/120 frames · 12.0 frames/s", id="last-frame"),
    ],
)
def test_progress_says_only_what_is_known(progress: Progress, expected: str) -> None:
    assert sentences.progress(progress) == expected


def test_cancelled_run_is_not_called_done() -> None:
    assert sentences.finished(Progress(30, 120, 3.0)) == "stopped · 30 frames in 3 s"


@pytest.mark.parametrize("provenance", list(Provenance), ids=lambda one: one.name)
def test_frame_of_a_person_shows_no_estimate_of_the_model(provenance: Provenance) -> None:
    text = sentences.frame(3, provenance, 0.93, 0.5)
    assert ("presence" in text) == (provenance in (Provenance.PREDICTED, Provenance.PROPAGATED))


def test_unknown_estimates_are_left_out() -> None:
    assert sentences.frame(3, Provenance.PROPAGATED, math.nan, math.nan) == "frame 3: propagated"


def test_empty_span_is_no_plan() -> None:
    assert sentences.plan(Span(4, 4), 3.0) == ""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(sentences.finished(Progress(1, 1, 2.0)), "done · 1 frame in 2 s", id="done"),
        pytest.param(sentences.finished(Progress(1, 9, 2.0)), "stopped · 1 frame in 2 s", id="stopped"),
        pytest.param(sentences.progress(Progress(1, 1, 2.0)), "1/1 frame · 0.5 frames/s", id="under-way"),
        pytest.param(sentences.finished(Progress(0, 9, 2.0)), "stopped", id="stopped-at-once"),
    ],
)
def test_one_frame_is_no_plural(said: str, expected: str) -> None:
    assert said == expected
