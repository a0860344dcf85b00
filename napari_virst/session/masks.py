"""The masks of one track: one door for people, one for the model, on a memory-mapped file.

napari's Labels layer holds a :class:`MaskStore` as its data, and whatever a person does there (brush, eraser, bucket,
polygon, undo, redo) arrives at :meth:`MaskStore.__setitem__`. The model uses :meth:`MaskStore.write_prediction`. So who
drew a pixel is known from the door it came through.

What undo can and cannot do. A frame belongs to a person from the first stroke that changes it, and the model
never writes it again; so an undo step for it always meets the pixels it was made for. When undo takes a frame back to
exactly what the model had said, and nobody committed it, it goes back to the model, and a later run may rewrite it. A
redo, or an older undo step, that then reaches this frame is a person's edit like any other: only the pixels of that
stroke change, the frame becomes the person's, the rewritten prediction is kept, and
:meth:`MaskStore.restore_prediction` brings it back. Nothing is refused, because a redo cannot be told from a stroke;
nothing is lost.
"""

from __future__ import annotations

import math
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from psygnal import Signal

from napari_virst.errors import MaskError
from napari_virst.records import Provenance
from napari_virst.session._indexing import as_labels, writes_by_frame
from napari_virst.session.mask_reading import FrameState, MaskReading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")


def _announcing(method: Callable[Concatenate[MaskStore, P], R]) -> Callable[Concatenate[MaskStore, P], R]:
    """Hold the lock during ``method``, and tell of changed provenances after it is free again."""

    @wraps(method)
    def locked(self: MaskStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            result = method(self, *args, **kwargs)
            changed, self._changed = tuple(sorted(self._changed)), set()
        if changed:
            self.provenance_changed.emit(changed)
        return result

    return locked


class MaskStore(MaskReading):
    """(T, H, W) uint16 labels, 0 = background, with the provenance of every frame; behaves as an array.

    Writing to it as to an array is a person's edit. May be used from any thread.

    Parameters
    ----------
    path
        The TIFF file; made, empty, where it does not exist. Records of the frames lie beside it.
    shape
        (T, H, W).

    Attributes
    ----------
    edited
        Signal: the frames, sorted, whose pixels a person has just changed through the array door.
    provenance_changed
        Signal: the frames, sorted, whose provenance has just changed, by whatever door.

    Raises
    ------
    ProjectError
        When the file cannot be made, or holds something else.
    """

    edited = Signal(tuple)
    provenance_changed = Signal(tuple)

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        super().__init__(path, shape)
        self._changed: set[int] = set()

    def __setitem__(self, key: Any, value: Any) -> None:  # noqa: ANN401 - numpy's own indexing
        """Change pixels as a person; see the head of this file.

        Raises
        ------
        MaskError
            When values are no labels 0…65535.
        ProjectError
            When the disk is full.
        """
        edited = self._write(key, as_labels(value))
        if edited:
            self.edited.emit(edited)

    @_announcing
    def _write(self, key: Any, values: NDArray[np.uint16]) -> tuple[int, ...]:  # noqa: ANN401
        writes = writes_by_frame(key, values, self.shape)
        return tuple(frame for frame, frame_key, part in writes if self._write_frame(frame, frame_key, part))

    def _write_frame(self, frame: int, key: Any, values: NDArray[np.uint16]) -> bool:  # noqa: ANN401
        labels = self._labels[frame]
        if np.array_equal(labels[key], values):
            return False
        self._take(frame)
        labels[key] = values
        self._forget_sums(frame)
        if not self._records["committed"][frame] and np.array_equal(labels, self._last_prediction(frame)):
            self._hand_back(frame)
        self._files.flush_soon(frame)
        return True

    # -- who a frame belongs to ----------------------------------------------------------------------------------

    def _take(self, frame: int) -> None:
        """Make ``frame`` a person's, keeping what the model had said; before its first pixel changes."""
        self._files.reserve()
        provenance = self.provenance(frame)
        if not provenance.is_users:
            self._keep_prediction(frame, provenance)
            self._records["before"][frame] = provenance
            self._records["committed"][frame] = False
        self._set_provenance(frame, Provenance.CORRECTED)

    def _keep_prediction(self, frame: int, provenance: Provenance) -> None:
        labels = np.array(self._labels[frame])
        self._kept_prediction = (frame, labels)
        if provenance is Provenance.EMPTY:
            self._files.drop_prediction(frame)
        else:
            self._files.write_prediction(frame, labels)

    def _hand_back(self, frame: int) -> None:
        self._set_provenance(frame, Provenance(int(self._records["before"][frame])))
        self._records["committed"][frame] = False
        self._files.drop_prediction(frame)
        self._kept_prediction = None

    def _set_provenance(self, frame: int, provenance: Provenance) -> None:
        if self._records["provenance"][frame] != provenance:
            self._records["provenance"][frame] = provenance
            self._changed.add(frame)

    # -- what people declare -------------------------------------------------------------------------------------

    @_announcing
    def give(
        self, frame: int, mask: NDArray[Any], provenance: Provenance = Provenance.CORRECTED, *, label: int = 1
    ) -> None:
        """Replace a whole frame by what a person declares, which commits it.

        Parameters
        ----------
        frame
            0…T-1.
        mask
            (H, W) bool, written as ``label``; or (H, W) integer labels, written as they are.
        provenance
            CORRECTED or ACCEPTED.
        label
            1…65535.

        Raises
        ------
        MaskError
            When the mask has another shape or type.
        """
        labels = as_labels(np.multiply(mask, label, dtype=np.uint16) if mask.dtype == np.bool_ else mask)
        self._check_shape(labels)
        self._take(frame)
        self._labels[frame] = labels
        self._forget_sums(frame)
        self._commit(frame, provenance)

    @_announcing
    def commit(self, frame: int, provenance: Provenance = Provenance.CORRECTED) -> None:
        """Declare that the pixels of ``frame`` are right as they are; undo does not hand it back any more."""
        self._take(frame)
        self._commit(frame, provenance)

    def _commit(self, frame: int, provenance: Provenance) -> None:
        if not provenance.is_users:
            raise ValueError(f"A person's frame must be corrected or accepted; got {provenance.name}.")
        self._records["committed"][frame] = True
        self._set_provenance(frame, provenance)
        self._files.flush(frame)

    @_announcing
    def withdraw_commitment(self, frame: int) -> None:
        """Let the pixels of ``frame`` stay without anybody declaring that they are right.

        They are a person's strokes from now on; where they are what the model had said, the frame is the model's again.
        """
        if self.provenance(frame).is_users:
            self._records["committed"][frame] = False
            self._set_provenance(frame, Provenance.CORRECTED)
            if np.array_equal(self._labels[frame], self._last_prediction(frame)):
                self._hand_back(frame)
            self._files.flush(frame)

    @_announcing
    def restore_prediction(self, frame: int) -> bool:
        """Give ``frame`` back to the model, as it was before a person took it; False where nobody had."""
        if not self.provenance(frame).is_users:
            return False
        self._labels[frame] = self._last_prediction(frame)
        self._forget_sums(frame)
        self._hand_back(frame)
        self._files.flush(frame)
        return True

    # -- the model's door ----------------------------------------------------------------------------------------

    @_announcing
    def write_prediction(
        self,
        frame: int,
        mask: NDArray[np.bool_],
        label: int,
        provenance: Provenance,
        *,
        presence: float = math.nan,
        predicted_iou: float = math.nan,
        revision: int = 0,
    ) -> bool:
        """Write what the model says of a frame, unless the frame belongs to a person.

        Parameters
        ----------
        frame
            0…T-1.
        mask
            (H, W) bool.
        label
            The value to write where the mask is True, 1…65535.
        provenance
            PREDICTED or PROPAGATED.
        presence
            Probability that the object is visible, 0…1; NaN = unknown.
        predicted_iou
            The model's own estimate, 0…1; NaN = unknown.
        revision
            Of the job that this answers.

        Returns
        -------
        bool
            False where the frame belongs to a person; nothing has changed then.

        Raises
        ------
        MaskError
            When the mask has another shape or type.
        ProjectError
            When the disk is full.
        """
        if provenance.is_users:
            raise ValueError(f"A prediction must be predicted or propagated; got {provenance.name}.")
        if mask.dtype != np.bool_:
            raise MaskError(f"A predicted mask must be bool; got {mask.dtype}; compare it with a threshold.")
        self._check_shape(mask)
        if self.provenance(frame).is_users:
            return False
        self._files.reserve()
        np.multiply(mask, label, out=self._labels[frame], dtype=np.uint16)
        self._forget_sums(frame)
        self._areas_px[frame] = np.count_nonzero(mask)
        self._set_provenance(frame, provenance)
        for name, number in (("presence", presence), ("predicted_iou", predicted_iou), ("revision", revision)):
            self._records[name][frame] = number
        return True

    # -- identities and undo -------------------------------------------------------------------------------------

    def relabel(self, frame: int, labels: NDArray[np.uint16]) -> bool:
        """Give the object's pixels of a frame other labels; who owns the frame stays. False where nothing changes.

        Parameters
        ----------
        frame
            0…T-1.
        labels
            (H, W), 0 exactly where the frame's labels are.

        Raises
        ------
        MaskError
            When it would add or remove pixels.
        """
        with self._lock:
            held = self._labels[frame]
            if np.array_equal(held, labels):
                return False
            if not np.array_equal(held != 0, labels != 0):
                raise MaskError("New labels must cover the same pixels; got others; paint to change pixels.")
            self._files.reserve()
            held[:] = labels
            self._files.flush_soon(frame)
            return True

    @_announcing
    def bring_back(self, frame: int, state: FrameState) -> None:
        """Make a frame again what it was when ``state`` was taken; for undo, which checks that it may."""
        self._files.reserve()
        was = self.provenance(frame)
        if state.provenance.is_users and not was.is_users:
            self._keep_prediction(frame, was)
        self._labels[frame] = state.labels
        self._forget_sums(frame)
        self._changed |= {frame} if was != state.provenance else set()
        for name, value in state.record.items():
            self._records[name][frame] = value
        if was.is_users and not state.provenance.is_users:
            self._files.drop_prediction(frame)
        self._kept_prediction = None
        self._files.flush(frame)

    def flush_stroke(self) -> None:
        """Have the disk store what is still on its way of the last stroke."""
        with self._lock:
            self._files.flush_waiting()

    def flush(self) -> None:
        """Have the disk store everything."""
        with self._lock:
            self._files.flush()

    def _check_shape(self, mask: NDArray[Any]) -> None:
        if mask.shape != self.shape[1:]:
            raise MaskError(
                f"A mask must have the video's shape (H, W) = {self.shape[1:]}; got {mask.shape}; resize it."
            )
