"""Cell Tracking Challenge: ``<sequence>_RES/maskTTT.tif`` and ``res_track.txt``, celltrackingchallenge.net.

A line of ``res_track.txt`` is L B E P: a label, the first and the last frame that show it, and the label it came from
or 0. A label is on every frame from B to E, and its parent ends before B. So an object that is out of sight, or whose
frames are left out, goes on under a new label whose parent is the old one; and one that goes on beside its child does
so under a new label, a child of the old one like the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.errors import InputError
from napari_virst.io.export_plan import Flattening

if TYPE_CHECKING:
    from pathlib import Path

    from napari_virst.io.export_plan import ExportPlan
    from napari_virst.io.export_writing import FrameImages

_MAX_LABEL = (1 << 16) - 1


@dataclass
class _Line:
    label: int
    begin: int
    end: int
    parent: int


class CtcLines:
    """The lines of ``res_track.txt``, made as frames come, in order of time.

    Parameters
    ----------
    parents
        Number of every object to that of the one it came from, 0 = none.
    """

    def __init__(self, parents: dict[int, int]) -> None:
        self._parents = parents
        self._lines: list[_Line] = []
        self._latest: dict[int, _Line] = {}
        self.num_gaps = self.num_continued_parents = self.num_lost_parents = 0

    def labels_for(self, frame: int, numbers: list[int]) -> dict[int, int]:
        """Return the label of every object that a frame shows, by its number.

        Raises
        ------
        InputError
            When there are more labels than the format has.
        """
        dividing = {self._parents[n] for n in numbers if n not in self._latest and self._parents[n]}
        before = dict(self._latest)
        for number in numbers:
            line = before.get(number)
            if line is None:
                self._begin(number, frame, self._parent_label(number, before))
            elif line.end < frame - 1 or number in dividing:
                self.num_gaps += line.end < frame - 1
                self.num_continued_parents += number in dividing
                self._begin(number, frame, line.label)
            else:
                line.end = frame
        return {number: self._latest[number].label for number in numbers}

    def _parent_label(self, number: int, before: dict[int, _Line]) -> int:
        parent = before.get(self._parents[number])
        self.num_lost_parents += bool(self._parents[number]) and parent is None
        return 0 if parent is None else parent.label

    def _begin(self, number: int, frame: int, parent: int) -> None:
        if len(self._lines) == _MAX_LABEL:
            raise InputError(f"A CTC sequence must have {_MAX_LABEL} tracks at most; got more; export fewer queries.")
        line = _Line(len(self._lines) + 1, frame, frame, parent)
        self._lines.append(line)
        self._latest[number] = line

    @property
    def text(self) -> str:
        """Content of ``res_track.txt``."""
        return "".join(f"{line.label} {line.begin} {line.end} {line.parent}\n" for line in self._lines)


class CtcWriter:
    """Writes a sequence per video, 01, 02, …: masks and tracks to ``01_RES``, frames as they are stored to ``01``.

    Parameters
    ----------
    root
        The folder.
    """

    max_objects = _MAX_LABEL

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: list[str] = []

    def begin(self, plan: ExportPlan, images: FrameImages | None) -> None:
        """Start a video."""
        self._names.append(plan.name)
        self._sequence = f"{len(self._names):02d}"
        self._plan, self._frames, self._flattening = plan, images, Flattening(plan)
        self._lines = CtcLines({one.number: one.parent for one in plan.objects})
        self._num_digits = max(3, len(str(plan.video.shape[0] - 1)))
        self._masks = self._root / f"{self._sequence}_RES"
        self._masks.mkdir()
        if images is not None:
            (self._root / self._sequence).mkdir()

    def put(self, frame: int) -> None:
        """Write one frame."""
        import tifffile

        flat = self._flattening.flat(frame)
        numbers = [number for number in np.flatnonzero(np.bincount(flat.ravel())).tolist() if number]
        table = np.zeros(len(self._plan.objects) + 1, np.uint16)
        for number, label in self._lines.labels_for(frame, numbers).items():
            table[number] = label
        name = f"{frame:0{self._num_digits}d}.tif"
        tifffile.imwrite(self._masks / f"mask{name}", table[flat], compression="zlib")
        if self._frames is not None:
            tifffile.imwrite(self._root / self._sequence / f"t{name}", self._frames.native(frame), compression="zlib")

    def end(self) -> tuple[str, ...]:
        """End the video."""
        (self._masks / "res_track.txt").write_text(self._lines.text, encoding="ascii")
        lines, name = self._lines, f"{self._plan.name} ({self._sequence})"
        notes = []
        num_missing = self._plan.video.shape[0] - len(self._plan.frames)
        if num_missing:
            notes.append(
                f"{name}: {num_missing} masks are missing in the sequence; the evaluation of the challenge wants all."
            )
        if lines.num_gaps:
            notes.append(f"{name}: after {lines.num_gaps} gaps an object goes on as a new track, child of the old one.")
        if lines.num_continued_parents:
            notes.append(
                f"{name}: {lines.num_continued_parents} objects go on beside their children; tracks end where children "
                "begin, so each goes on as a child of its own."
            )
        if lines.num_lost_parents:
            notes.append(f"{name}: {lines.num_lost_parents} parents are dropped: not seen before their children.")
        return (*self._flattening.notes, *notes)

    def finish(self) -> tuple[str, ...]:
        """Say which sequence is which video; nothing is written."""
        listed = ", ".join(f"{number:02d} is {name}" for number, name in enumerate(self._names, 1))
        return (f"Sequences: {listed}.",) if len(self._names) > 1 else ()
