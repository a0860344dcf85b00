"""Undo of what the model and the session did, in the user's units: a run, a correction, an acceptance.

Painting has the viewer's own undo. What is kept of a frame is its state before and the checksum of its labels after;
whatever a person has changed since is left alone.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.session.mask_reading import FrameState

if TYPE_CHECKING:
    from napari_virst.io.project import RunRecord
    from napari_virst.session.instances import Lineage
    from napari_virst.session.masks import MaskStore

MAX_BYTES = 256_000_000
"""Masks compress to about a hundredth: 2 000 frames of 1080 × 1920 with one object take some 60 MB."""
MAX_STEPS = 50
_VOUCHING = ("correct", "accept")
"""What declares that pixels are right, and changes none."""


@dataclass(frozen=True)
class _Kept:
    """A frame as it was, compressed."""

    packed: bytes
    shape: tuple[int, ...]
    record: dict[str, Any]

    def state(self) -> FrameState:
        labels = np.frombuffer(zlib.decompress(self.packed), np.uint16).reshape(self.shape)
        return FrameState(labels, self.record)


@dataclass(eq=False)
class Step:
    """One thing that can be undone."""

    action: str
    track_id: str
    run: RunRecord | None = None
    """For a run: what had been asked of the run before it."""
    lineage: tuple[Lineage | None] | None = None
    """For a renaming of instances: the lineage before it."""
    frames: dict[int, _Kept] = field(default_factory=dict)
    after: dict[int, tuple[int, int]] = field(default_factory=dict)
    """CRC-32 of the labels that the step left, and their provenance, by frame."""

    @property
    def num_bytes(self) -> int:
        """What it keeps."""
        return sum(len(kept.packed) for kept in self.frames.values())


class History:
    """The last things done, bounded in steps and bytes; the oldest are forgotten first.

    Parameters
    ----------
    max_steps, max_bytes
        What to keep at most.
    """

    def __init__(self, max_steps: int = MAX_STEPS, max_bytes: int = MAX_BYTES) -> None:
        self._max_steps, self._max_bytes = max_steps, max_bytes
        self._steps: deque[Step] = deque()
        self._num_bytes = 0

    @property
    def last(self) -> Step | None:
        """What :meth:`pop` would return."""
        return self._steps[-1] if self._steps else None

    def begin(self, action: str, track_id: str, run: RunRecord | None = None) -> Step:
        """Start a step; frames are added to it as they change."""
        step = Step(action, track_id, run)
        self._steps.append(step)
        self._trim()
        return step

    def keep(self, step: Step, masks: MaskStore, frame: int) -> None:
        """Keep a frame before its first change in this step."""
        if frame in step.frames or step not in self._steps:
            return
        state = masks.state(frame)
        kept = _Kept(zlib.compress(state.labels.tobytes(), 1), state.labels.shape, state.record)
        step.frames[frame] = kept
        self._num_bytes += len(kept.packed)
        self._trim()

    def note_after(self, step: Step, masks: MaskStore, frame: int) -> None:
        """Note what the step made of a frame."""
        step.after[frame] = _mark(masks, frame)

    def pop(self, track_id: str | None = None) -> Step | None:
        """Take the last step out, of one track or of any; None where there is none."""
        for step in reversed(self._steps):
            if track_id in (None, step.track_id):
                self._remove(step)
                return step
        return None

    def forget(self, track_id: str) -> None:
        """Drop every step of a track."""
        for step in [one for one in self._steps if one.track_id == track_id]:
            self._remove(step)

    def _remove(self, step: Step) -> None:
        self._steps.remove(step)
        self._num_bytes -= step.num_bytes

    def _trim(self) -> None:
        while len(self._steps) > self._max_steps or (self._num_bytes > self._max_bytes and self._steps):
            self._remove(self._steps[0])


def frames_to_bring_back(step: Step, masks: MaskStore) -> tuple[int, ...]:
    """Return the frames of a step that nobody has changed since, sorted."""
    return tuple(sorted(frame for frame in step.frames if step.after.get(frame) == _mark(masks, frame)))


def frames_to_withdraw(step: Step, masks: MaskStore) -> tuple[int, ...]:
    """Return the frames that the step vouched for and a person has changed since: their strokes stay, sorted."""
    if step.action not in _VOUCHING:
        return ()
    vouched = {frame for frame, kept in step.frames.items() if frame in step.after and not kept.record["committed"]}
    return tuple(sorted(vouched - set(frames_to_bring_back(step, masks))))


def bring_back(step: Step, masks: MaskStore, frame: int) -> None:
    """Make a frame again what it was before the step."""
    masks.bring_back(frame, step.frames[frame].state())


def _mark(masks: MaskStore, frame: int) -> tuple[int, int]:
    return zlib.crc32(masks.frame(frame).tobytes()), int(masks.provenance(frame))
