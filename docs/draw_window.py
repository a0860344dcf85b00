"""Takes the pictures of the window in ``docs/images``: the sample, driven as a person would.

On a screen, or without one:

    xvfb-run -s "-screen 0 1600x1000x24" python docs/draw_window.py
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication
from scipy.ndimage import binary_erosion

from napari_virst.gui.contributions import show_demo
from napari_virst.training.scenes import sample_scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels

    from napari_virst.gui.widget import VirstWidget

WIDTH, HEIGHT, PATIENCE_S = 1500, 940, 120
QUERY, QUERIES = "the cyan circle", "the cyan circle; the white star"
STREAMED, PAINTED = 16, 30
IMAGES = Path(__file__).parent / "images"


class Stage:
    """One napari window with the sample and a query running."""

    def __init__(self, query: str) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(WIDTH, HEIGHT)
        self.dock: VirstWidget = show_demo(self.viewer, query)

    def labels(self) -> Labels:
        """The layer of the first query."""
        return next(layer for layer in self.viewer.layers if isinstance(layer, napari.layers.Labels))

    def wait(self, holds: Callable[[], bool]) -> None:
        """Let the window live until ``holds``."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"the window still says {self.dock.progress_label.text()!r}")
            QApplication.processEvents()

    def wait_done(self) -> None:
        """Wait for the run that goes on to end."""
        self.wait(lambda: self.dock.progress_label.text().startswith("done"))

    def settle(self, duration_s: float = 1.0) -> None:
        """Let what was asked for be drawn."""
        end = time.monotonic() + duration_s
        self.wait(lambda: time.monotonic() > end)

    def go_to(self, frame: int) -> None:
        """Show a frame with the first query's layer selected, so that its keys and buttons act."""
        self.viewer.layers.selection.active = self.labels()
        self.viewer.dims.set_current_step(0, frame)
        self.settle()

    def shoot(self, name: str) -> None:
        """Write the picture of the whole window."""
        self.settle()
        picture = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
        picture.save(IMAGES / name, optimize=True)


def paint_what_is_missing(layer: Labels, frame: int) -> None:
    """Paint the circle's missing part and rub out what is too much, with a brush."""
    true_HW = sample_scene().masks[sample_scene().queries.index(QUERY)][frame]
    layer.brush_size = 5
    with layer.block_history():
        for value, mode in ((1, "paint"), (0, "erase")):
            layer.mode = mode
            wrong_HW = binary_erosion((np.asarray(layer.data[frame]) != value) & (true_HW == value), iterations=2)
            for y, x in np.argwhere(wrong_HW)[::3]:
                layer.paint((frame, int(y), int(x)), value)
    layer.mode = "paint"


def main() -> None:
    """Ask, paint, re-propagate, review; then two queries together."""
    stage = Stage(QUERY)
    stage.wait(lambda: any(isinstance(layer, napari.layers.Labels) for layer in stage.viewer.layers))
    stage.wait(lambda: bool(np.asarray(stage.labels().data[STREAMED]).any()))
    stage.viewer.dims.set_current_step(0, STREAMED)
    stage.shoot("streaming.png")
    stage.wait_done()
    stage.go_to(PAINTED)
    paint_what_is_missing(stage.labels(), PAINTED)
    stage.shoot("painted.png")
    stage.dock.repropagate_button.click()
    stage.wait(lambda: not stage.dock.progress_label.text().startswith("done"))
    stage.wait_done()
    stage.go_to(PAINTED - 6)
    stage.shoot("followed.png")
    stage.dock.next_button.click()
    stage.shoot("review.png")
    stage.viewer.close()
    stage = Stage(QUERIES)
    stage.wait_done()
    stage.go_to(23)
    stage.shoot("queries.png")
    stage.viewer.close()


if __name__ == "__main__":
    main()
