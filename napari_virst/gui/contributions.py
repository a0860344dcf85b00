"""What napari.yaml names: the dock, reader, writer and sample. Here dock, sessions and model meet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qtpy.QtCore import QTimer

from napari_virst.gui import layers, warming
from napari_virst.gui.main_thread import MainThread
from napari_virst.gui.presenter import Presenter
from napari_virst.gui.sessions import WindowSessions
from napari_virst.gui.tracks_file import write_tracks
from napari_virst.gui.widget import VirstWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import napari
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QWidget

    from napari_virst.engine.protocol import Segmenter
    from napari_virst.gui.desks import Sessions

    LayerData = tuple[Any, dict[str, Any], str]

__all__ = [
    "DOCK_NAME",
    "VirstDock",
    "get_reader",
    "launch_demo",
    "make_widget",
    "moving_shapes",
    "open_movie",
    "show_demo",
    "write_tracks",
]

DOCK_NAME = "VIRST: describe and follow"


class VirstDock(VirstWidget):
    """The dock, at work on one viewer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Given by napari, under this name.
    sessions : Sessions, optional
        Where sessions come from; by default worker threads and the model chosen in the dock.
    parent : QWidget, optional
        Owner.
    """

    def __init__(
        self, napari_viewer: ViewerModel, sessions: Sessions | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._main_thread = MainThread(self)
        self._wake_model: Callable[[], None] | None = None
        if sessions is None:
            sessions = own = WindowSessions(self._main_thread.dispatch, _load_segmenter)
            self._wake_model = own.wake_model
        self.presenter = Presenter(napari_viewer, self, sessions)
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.timeout.connect(self._warm_up)  # a partial instead crashed PyQt6 6.11 once docks had come and gone
        timer.start(warming.DELAY_MS)
        self.closed.connect(self.presenter.close)
        self.destroyed.connect(lambda _dock: self.presenter.close())

    def _warm_up(self) -> None:
        warming.warm_up(self._wake_model)


def make_widget(viewer: ViewerModel, sessions: Sessions | None = None) -> VirstDock:
    """Make the dock for a viewer; add it with ``viewer.window.add_dock_widget``."""
    return VirstDock(viewer, sessions)


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]]:
    """Give the function that opens movies; napari asks only about the endings in the manifest."""
    return open_movie


def open_movie(path: str | Sequence[str]) -> list[LayerData]:
    """Open one or several movies, lazily.

    Parameters
    ----------
    path : str or sequence of str
        Anything that ``open_video`` reads.

    Returns
    -------
    list of (data, arguments, "image")
        One image layer per movie: a dask array (T, H, W, 3) uint8 of one frame per chunk, with the path in the
        metadata, so that the engine can read with a decoder of its own.

    Raises
    ------
    VideoError
        When a file cannot be opened.
    """
    paths = [path] if isinstance(path, (str, Path)) else path
    return [(*layers.movie_arguments(str(one)), "image") for one in paths]


def moving_shapes() -> list[LayerData]:
    """Draw the sample: shapes that move, with queries that fit them. Wakes torch."""
    from napari_virst.training.scenes import sample_scene

    scene = sample_scene()
    metadata = {layers.METADATA_KEY: {"queries": tuple(scene.queries)}}
    arguments = {"name": "Moving shapes", "rgb": True, "axis_labels": layers.AXIS_LABELS, "metadata": metadata}
    return [(scene.frames, arguments, "image")]


def show_demo(viewer: napari.Viewer, query: str | None = None, sessions: Sessions | None = None) -> VirstDock:
    """Load the sample into a viewer, open the dock, and run a query.

    Parameters
    ----------
    viewer : napari.Viewer
        Where to show it.
    query : str, optional
        What to follow; by default the first query that fits the sample.
    sessions : Sessions, optional
        As in :class:`VirstDock`.
    """
    [(data, arguments, _)] = moving_shapes()
    image = viewer.add_image(data, **arguments)
    dock = make_widget(viewer, sessions)
    viewer.window.add_dock_widget(dock, name=DOCK_NAME, area="right")
    text = query or layers.suggested_query(image)
    dock.set_query(text)
    dock.query_edit.remember(text)
    dock.run_requested.emit(text)
    return dock


def launch_demo(query: str | None = None) -> None:
    """Open napari with the sample and a query running; returns when the window is closed."""
    import napari

    show_demo(napari.Viewer(), query)
    napari.run()


def _load_segmenter(model: str, device: str) -> Segmenter:
    return cast("Segmenter", warming.import_predictor()(model, device))
