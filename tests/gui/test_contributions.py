from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fixtures.frames import draw_moving_disc
from npe2 import PluginManifest
from qtpy.QtWidgets import QDockWidget

import napari_virst
from napari_virst.gui import contributions
from napari_virst.gui.main_thread import MainThread, WindowRunner

if TYPE_CHECKING:
    from collections.abc import Callable

MANIFEST = Path(napari_virst.__file__).with_name("napari.yaml")

OPEN_DOCK = """
import sys
from qtpy.QtWidgets import QApplication
app = QApplication([])
from napari.components import ViewerModel
import numpy as np
from napari_virst.gui.contributions import make_widget
viewer = ViewerModel()
viewer.add_image(np.zeros((3, 8, 8)))
dock = make_widget(viewer)
dock.show()
app.processEvents()
print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def test_dock_opens_before_torch_wakes() -> None:
    answer = subprocess.run([sys.executable, "-c", OPEN_DOCK], capture_output=True, text=True, check=True)
    assert answer.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("binding", ["PySide6", "PyQt6"])
def test_dock_opens_under_every_binding_that_is_installed(binding: str) -> None:
    if find_spec(binding) is None:
        pytest.skip(f"{binding} is not installed")
    environment = {**os.environ, "QT_API": binding.lower()}
    subprocess.run([sys.executable, "-c", OPEN_DOCK], env=environment, capture_output=True, text=True, check=True)


def test_warming_up_begins_a_while_after_the_dock_has_opened(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    woken: list[object] = []
    monkeypatch.setattr(contributions.warming, "warm_up", woken.append)
    monkeypatch.setattr(contributions.warming, "DELAY_MS", 1)
    make_bench()
    assert woken == []
    qtbot.waitUntil(lambda: woken == [None])


def test_everything_in_the_manifest_can_be_imported() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        ("a.mp4", True),
        ("b.MOV", True),
        ("c.avi", True),
        ("d.mkv", True),
        ("e.tif", False),
        ("f.png", False),
        ("g", False),
    ],
)
def test_reader_claims_movies_only(path: str, is_ours: bool) -> None:
    from fnmatch import fnmatch

    [reader] = PluginManifest.from_file(MANIFEST).contributions.readers
    assert any(fnmatch(path.lower(), pattern) for pattern in reader.filename_patterns) == is_ours
    assert not reader.accepts_directories


def test_movie_becomes_a_lazy_layer_that_knows_its_file(tmp_path: Path) -> None:
    import tifffile
    from napari.layers import Image

    path = tmp_path / "clip.tif"
    tifffile.imwrite(path, draw_moving_disc().pixels, photometric="rgb")
    reader = contributions.get_reader(str(path))
    [(data, arguments, kind)] = reader(str(path))
    layer = Image(data, **arguments)
    assert (kind, layer.name, data.chunks[0]) == ("image", "clip", (1,) * 12)
    assert layer.metadata["virst"]["video_path"] == str(path)
    assert layer.axis_labels == ("t", "y", "x")  # napari writes the first beside its slider


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small stand-in for the drawn scene, which wakes torch."""
    scene = SimpleNamespace(frames=draw_moving_disc().pixels, queries=("the red disc",))
    monkeypatch.setitem(sys.modules, "napari_virst.training.scenes", SimpleNamespace(sample_scene=lambda: scene))


@pytest.mark.usefixtures("sample")
def test_sample_suggests_a_query_that_fits(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    [(data, arguments, _)] = contributions.moving_shapes()
    bench.viewer.add_image(data, **arguments)
    assert bench.dock.query_edit.placeholderText() == "e.g. the red disc"


def close_and_wait(bench: Any, runners: list[WindowRunner]) -> None:
    bench.presenter.close()
    for runner in runners:
        runner.wait_closed()


@pytest.mark.gui
def test_describe_paint_repropagate_in_a_real_viewer(
    make_napari_viewer_proxy: Callable[[], Any], make_bench: Callable[..., Any], qtbot: Any
) -> None:
    """1. Describe; labels stream in from a worker thread. 2. Paint a frame. 3. Re-propagate: the rest follows."""
    viewer, runners, threads, main = make_napari_viewer_proxy(), [], set(), MainThread()

    def make_runner(_dispatch: Any, at_end: Any) -> WindowRunner:
        runners.append(WindowRunner(main.dispatch, at_end))
        return runners[-1]

    bench = make_bench(viewer, make_runner=make_runner)
    bench.segmenter.before_frame = lambda frame: threads.add(threading.current_thread())
    viewer.window.add_dock_widget(bench.dock, name=contributions.DOCK_NAME)
    bench.add_video()
    # 1.
    layer = bench.ask()
    qtbot.waitUntil(lambda: bench.dock.progress_label.text().startswith("done"))
    np.testing.assert_array_equal(np.asarray(layer.data) != 0, bench.video.masks)
    assert threading.main_thread() not in threads
    # 2.
    bench.go_to(5)
    layer.data_setitem(np.nonzero(np.pad(np.roll(bench.video.masks[5], 4, 0)[None], ((5, 6), (0, 0), (0, 0)))), 1)
    painted = layer.data[5].copy()
    qtbot.waitUntil(lambda: bench.dock.frame_label.text() == "frame 5: corrected")
    # 3.
    before = layer.data[6].copy()
    bench.dock.repropagate_button.click()
    qtbot.waitUntil(lambda: not bench.presenter._desk.session.busy)
    np.testing.assert_array_equal(layer.data[5], painted)
    assert not np.array_equal(layer.data[6], before)
    close_and_wait(bench, runners)


@pytest.mark.gui
def test_closing_the_dock_during_a_run_ends_the_worker(
    make_napari_viewer_proxy: Callable[[], Any], make_bench: Callable[..., Any], qtbot: Any
) -> None:
    viewer, runners, main = make_napari_viewer_proxy(), [], MainThread()
    started, may_go_on = threading.Event(), threading.Event()

    def make_runner(_dispatch: Any, at_end: Any) -> WindowRunner:
        runners.append(WindowRunner(main.dispatch, at_end))
        return runners[-1]

    def wait(frame: int) -> None:
        started.set()
        may_go_on.wait(10)

    bench = make_bench(viewer, make_runner=make_runner)
    bench.segmenter.before_frame = wait
    dock_widget = viewer.window.add_dock_widget(bench.dock, name=contributions.DOCK_NAME)
    bench.add_video()
    layer = bench.ask()
    assert started.wait(10)
    viewer.window.remove_dock_widget(dock_widget)
    may_go_on.set()
    for runner in runners:
        runner.wait_closed()
    assert not runners[0].busy
    layer.data[3:4, 0:4, 0:4] = 1
    assert isinstance(dock_widget, QDockWidget)


@pytest.mark.gui
@pytest.mark.usefixtures("sample")
def test_demo_opens_the_sample_with_its_query_running(
    make_napari_viewer: Callable[[], Any], make_bench: Callable[..., Any]
) -> None:
    viewer = make_napari_viewer()
    sessions = make_bench().sessions
    dock = contributions.show_demo(viewer, sessions=sessions)
    assert [layer.name for layer in viewer.layers] == ["Moving shapes", "Moving shapes · the red disc"]
    assert dock.query_edit.text() == "the red disc"
    dock.presenter.close()
