"""What was done, written into the ledger as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_virst.records import LedgerEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_virst.io.project import ProjectFolder
    from napari_virst.session.track_run import TrackRun

STROKE_PAUSE_S = 0.5
"""Writes to the same frames with shorter pauses are one stroke: a brush writes with every move of the mouse."""


class Journal:
    """Writes the ledger of one session.

    Parameters
    ----------
    folder
        Whose ledger it is.
    clock
        Seconds, from any zero.
    """

    def __init__(self, folder: ProjectFolder, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._stroke: tuple[str, tuple[int, ...]] | None = None
        self._stroke_time_s = 0.0

    def write(self, action: str, track_id: str, frames: tuple[int, ...] = (), **detail: str | int | float) -> None:
        """Write one line.

        Raises
        ------
        ProjectError
            When the ledger cannot be written.
        """
        self._stroke = None
        self._folder.append(LedgerEntry(action, track_id, frames, detail))

    def write_stroke(self, track_id: str, frames: tuple[int, ...]) -> None:
        """Write one line at the beginning of a stroke, and none for the rest of it.

        Raises
        ------
        ProjectError
            When the ledger cannot be written.
        """
        stroke, now_s = (track_id, frames), self._clock()
        goes_on = stroke == self._stroke and now_s - self._stroke_time_s < STROKE_PAUSE_S
        if not goes_on:
            self.write("paint", track_id, frames)
        self._stroke, self._stroke_time_s = stroke, now_s

    def write_result(self, run: TrackRun) -> None:
        """Write which frames a run wrote, by which model and on what device, and how it ended.

        Raises
        ------
        ProjectError
            When the ledger cannot be written.
        """
        model, device = (run.awake.model, run.awake.device) if run.awake else ("", "")
        written = tuple(sorted(run.done - run.dropped))
        detail = {"outcome": run.outcome, "model": model, "device": device}
        self.write("result", run.track_id, written, revision=run.revision, **detail)
