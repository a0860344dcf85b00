"""Viewers without a screen, and a desk with a segmenter that knows the truth."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from fixtures.frames import DiscVideo, draw_moving_disc
from fixtures.segmenter import DiscSegmenter
from napari.components import ViewerModel

from napari_virst.engine.runner import InlineRunner
from napari_virst.gui.contributions import VirstDock
from napari_virst.gui.sessions import WindowSessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari.layers import Image

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(autouse=True)
def gl_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer napari's two questions to OpenGL where there is none; private names, so nowhere else."""
    if os.environ.get("QT_QPA_PLATFORM") != "offscreen" or os.environ.get("DISPLAY"):
        return
    # The names were imported by value, so that each module has its own.
    for module_name in ("utils.gl", "layers.image", "layers.base", "layers.labels", "canvas"):
        module = importlib.import_module(f"napari._vispy.{module_name}")
        for name, answer in (("get_gl_extensions", "GL_ARB_texture_float"), ("get_max_texture_sizes", (16384, 2048))):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda answer=answer: answer)


class Bench:
    """A viewer with a disc video, a dock, and a segmenter that follows the disc; runs end before they return."""

    def __init__(self, viewer: Any, folder: Path, **runner: Any) -> None:
        self.video: DiscVideo = draw_moving_disc()
        self.segmenter = DiscSegmenter(self.video)
        self.viewer = viewer
        self.loads: list[tuple[str, str]] = []
        runner.setdefault("make_runner", lambda _dispatch, at_end: ClosingInlineRunner(at_end))
        self.sessions = WindowSessions(lambda call: call(), self.load, folder=folder, **runner)
        self.dock = VirstDock(viewer, self.sessions)
        self.presenter = self.dock.presenter

    def load(self, model: str, device: str) -> DiscSegmenter:
        self.loads.append((model, device))
        return self.segmenter

    def add_video(self, **arguments: Any) -> Image:
        return self.viewer.add_image(self.video.pixels, rgb=True, **{"name": "disc", **arguments})

    def ask(self, text: str = "the red disc") -> Any:
        self.presenter.run(text)
        return self.viewer.layers[-1]

    def go_to(self, frame: int) -> None:
        self.viewer.dims.set_current_step(self.viewer.dims.ndim - 3, frame)

    @property
    def message(self) -> str:
        return self.dock.message_label.text()


class ClosingInlineRunner(InlineRunner):
    def __init__(self, at_end: Callable[[], None]) -> None:
        super().__init__()
        self._at_end = at_end

    def close(self) -> None:
        super().close()
        self._at_end()


@pytest.fixture
def make_bench(qtbot: Any, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """``make_bench(viewer=ViewerModel(), **sessions_arguments)``; closed at the end of the test."""
    benches: list[Bench] = []

    def make(viewer: Any = None, **arguments: Any) -> Bench:
        benches.append(Bench(ViewerModel() if viewer is None else viewer, tmp_path / "sessions", **arguments))
        qtbot.addWidget(benches[-1].dock)
        return benches[-1]

    yield make
    for bench in benches:
        bench.presenter.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A dock on a viewer with one disc video."""
    bench = make_bench()
    bench.add_video()
    return bench
