"""The masks of one track as an array to read; :class:`napari_virst.session.masks.MaskStore` writes."""

from __future__ import annotations

import math
import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from napari_virst.errors import MaskError
from napari_virst.io.mask_files import FRAME_RECORD, MaskFiles
from napari_virst.records import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True, eq=False)
class FrameState:
    """Everything that is held of one frame."""

    labels: NDArray[np.uint16]
    """(H, W)."""
    record: dict[str, Any]
    """See :data:`napari_virst.io.mask_files.FRAME_RECORD`."""

    @property
    def provenance(self) -> Provenance:
        """Where the mask came from."""
        return Provenance(int(self.record["provenance"]))


class MaskReading:
    """(T, H, W) uint16 labels, 0 = background, with the provenance of every frame; may be read from any thread.

    Parameters
    ----------
    path
        The TIFF file; made, empty, where it does not exist. Records of the frames lie beside it.
    shape
        (T, H, W).

    Raises
    ------
    ProjectError
        When the file cannot be made, or holds something else.
    """

    ndim = 3
    dtype = np.dtype(np.uint16)

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._files = MaskFiles(path, shape)
        self._labels = self._files.labels
        self._records = self._files.records
        self._lock = threading.RLock()
        self._checksums: dict[int, int] = {}
        self._areas_px = np.full(shape[0], math.nan)
        self._kept_prediction: tuple[int, NDArray[np.uint16]] | None = None

    @property
    def path(self) -> Path:
        """The TIFF file."""
        return self._files.path

    # -- an array ------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of pixels of all frames."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<MaskStore {self.shape} {self.dtype} {self.path.name}, {len(self.owned_frames)} frames by people>"

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - numpy's own indexing
        """Return a copy: napari paints into what it reads before it writes it back."""
        with self._lock:
            selected = self._labels[key]
            return np.array(selected) if isinstance(selected, np.ndarray) else selected

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all labels; without a copy or another type they are read-only and stay on disk."""
        labels = np.asarray(self._labels)
        labels.flags.writeable = False
        return np.array(labels, dtype=dtype, copy=copy)

    def astype(self, dtype: DTypeLike, **_options: object) -> NoReturn:
        """Refuse to become another type, as a viewer offers: strokes on the result would be nobody's.

        Raises
        ------
        MaskError
            Always.
        """
        raise MaskError(
            f"The labels of a query must stay {self.dtype}; got {np.dtype(dtype)}; duplicate the layer and convert "
            "the copy."
        )

    def __deepcopy__(self, memo: dict[int, object]) -> NDArray[np.uint16]:
        """Return a plain array: a duplicate of the layer is not the annotation any more."""
        return np.array(self._labels)

    # -- who a frame belongs to ----------------------------------------------------------------------------------

    def provenance(self, frame: int) -> Provenance:
        """Where the mask of ``frame`` comes from."""
        return Provenance(int(self._records["provenance"][frame]))

    @property
    def provenances(self) -> NDArray[np.uint8]:
        """(T,) uint8 copy; the numbers of :class:`~napari_virst.records.Provenance`."""
        return np.array(self._records["provenance"])

    @property
    def owned_frames(self) -> tuple[int, ...]:
        """The frames that belong to a person, sorted: no run changes them."""
        return tuple(np.flatnonzero(self._records["provenance"] >= Provenance.CORRECTED).tolist())

    def _last_prediction(self, frame: int) -> NDArray[np.uint16]:
        if self._kept_prediction is None or self._kept_prediction[0] != frame:
            kept = self._files.read_prediction(frame)
            self._kept_prediction = (frame, np.zeros(self.shape[1:], np.uint16) if kept is None else kept)
        return self._kept_prediction[1]

    # -- reading -------------------------------------------------------------------------------------------------

    def frame(self, frame: int) -> NDArray[np.uint16]:
        """Return a copy of one frame, (H, W) uint16."""
        with self._lock:
            return np.array(self._labels[frame])

    def mask(self, frame: int) -> NDArray[np.bool_]:
        """Return where one frame shows the object, whatever its label, (H, W) bool."""
        with self._lock:
            return np.asarray(self._labels[frame] != 0)

    def prediction(self, frame: int) -> NDArray[np.uint16]:
        """Return what the model said last of one frame, (H, W) uint16; zeros where it never said anything."""
        with self._lock:
            owned = self.provenance(frame).is_users
            return np.array(self._last_prediction(frame) if owned else self._labels[frame])

    def is_committed(self, frame: int) -> bool:
        """Whether a person declared that ``frame`` is right, beyond having painted on it."""
        return bool(self._records["committed"][frame]) and self.provenance(frame).is_users

    def checksum(self, frame: int) -> int:
        """CRC-32 of :meth:`mask`: tells whether the object of a frame changed."""
        with self._lock:
            if frame not in self._checksums:
                self._checksums[frame] = zlib.crc32(self.mask(frame).tobytes())
            return self._checksums[frame]

    @property
    def presences(self) -> NDArray[np.float32]:
        """(T,) float32 copy, 0…1: probability that the object is visible; NaN = unknown."""
        return np.array(self._records["presence"])

    @property
    def predicted_ious(self) -> NDArray[np.float32]:
        """(T,) float32 copy, 0…1: the model's own estimate of its IoU; NaN = unknown."""
        return np.array(self._records["predicted_iou"])

    @property
    def revisions(self) -> NDArray[np.uint32]:
        """(T,) uint32 copy: the revision of the result that wrote each frame last; 0 = none did."""
        return np.array(self._records["revision"])

    def known_mask(self, frame: int) -> NDArray[np.bool_] | None:
        """Return :meth:`mask`, or None where nothing has been computed or painted yet."""
        with self._lock:
            return None if self.provenance(frame) is Provenance.EMPTY else self.mask(frame)

    def area_px(self, frame: int) -> int:
        """Pixels of :meth:`mask`."""
        with self._lock:
            if math.isnan(self._areas_px[frame]):
                self._areas_px[frame] = np.count_nonzero(self._labels[frame])
            return int(self._areas_px[frame])

    @property
    def areas_px(self) -> NDArray[np.float64]:
        """(T,) pixels of the masks that were written or asked for since the file was opened; NaN for the others."""
        return self._areas_px.copy()

    def state(self, frame: int) -> FrameState:
        """Return everything that is held of one frame."""
        with self._lock:
            record = {name: self._records[name][frame].item() for name in FRAME_RECORD.names or ()}
            return FrameState(np.array(self._labels[frame]), record)

    def _forget_sums(self, frame: int) -> None:
        self._checksums.pop(frame, None)
        self._areas_px[frame] = math.nan
