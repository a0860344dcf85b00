"""What a run writes down: a CSV file, TensorBoard, and a plot at the end."""

from __future__ import annotations

import csv
import logging
from typing import TYPE_CHECKING

from napari_virst.training.losses import TERMS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_virst.training.phases import LessonKind

logger = logging.getLogger(__name__)

COLUMNS = ("step", "phase", "lesson", "num_lessons", "learning_rate", "elapsed_s", "loss", *TERMS)
"""One row per kind of lesson and interval; losses are means over the lessons since the row before. Empty: not part of
this kind of lesson."""


class MetricsFile:
    """``metrics.csv`` of a run.

    Parameters
    ----------
    path
        The file; made with its header when something is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, rows: list[dict[str, str | int | float]]) -> None:
        """Write rows to the end."""
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if is_new:
                writer.writeheader()
            writer.writerows(rows)

    def read(self) -> list[dict[str, str]]:
        """Return all rows; a last one that a crash cut short is left out."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def forget_after(self, step: int) -> None:
        """Drop what a run that was killed wrote after its last checkpoint; the steps are taken again."""
        rows = self.read()
        kept = [row for row in rows if int(row["step"]) <= step]
        if self.path.exists():
            unfinished = self.path.with_suffix(".tmp")
            with unfinished.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(kept)
            unfinished.replace(self.path)


class Tally:
    """Means over the lessons since the last rows."""

    def __init__(self) -> None:
        self._sums: dict[LessonKind, dict[str, float]] = {}
        self._counts: dict[LessonKind, int] = {}

    def add(self, kind: LessonKind, terms: dict[str, float]) -> None:
        """Count one step's loss and terms."""
        sums = self._sums.setdefault(kind, {})
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def rows(self) -> list[dict[str, str | int | float]]:
        """Return one row per kind of lesson, without what is the same in all of them, and begin anew."""
        rows: list[dict[str, str | int | float]] = []
        for kind, sums in sorted(self._sums.items()):
            count = self._counts[kind]
            means = {name: round(value / count, 6) for name, value in sums.items()}
            rows.append({"lesson": kind, "num_lessons": count, **means})
        self._sums, self._counts = {}, {}
        return rows


class Board:
    """TensorBoard, where it is installed; otherwise nothing.

    Parameters
    ----------
    folder
        Where its files go.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info('no TensorBoard files: run pip install "napari-virst[train]" to have them')
            self._writer = None
        else:
            self._writer = SummaryWriter(str(folder))

    def add_rows(self, step: int, rows: list[dict[str, str | int | float]]) -> None:
        """Plot the losses of rows of the metrics file."""
        if self._writer is None:
            return
        for row in rows:
            for name in ("loss", *TERMS):
                if name in row:
                    self._writer.add_scalar(f"{row['lesson']}/{name}", float(row[name]), step)
        if rows:
            self._writer.add_scalar("learning_rate", float(rows[0]["learning_rate"]), step)
        self._writer.flush()

    def add_picture(self, step: int, name: str, picture_HW3: NDArray[np.uint8]) -> None:
        """Show a picture (H, W, 3) uint8 RGB."""
        if self._writer is not None:
            self._writer.add_image(name, picture_HW3, step, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            self._writer.close()


def plot_losses(metrics: MetricsFile, path: Path) -> bool:
    """Plot the loss of every kind of lesson over steps as a PNG; return False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info('no plot of the losses: run pip install "napari-virst[train]" to have one')
        return False
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in metrics.read():
        curves.setdefault(row["lesson"], []).append((int(row["step"]), float(row["loss"])))
    for lesson, points in sorted(curves.items()):
        axes.plot(*zip(*points, strict=True), label=lesson)
    axes.set(xlabel="step", ylabel="loss")
    if curves:
        axes.set_yscale("log")
        axes.legend()
    figure.savefig(path, dpi=120)
    return True
