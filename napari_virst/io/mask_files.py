"""The memory-mapped files of one track: its labels, and a record of every frame."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_virst.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FRAME_RECORD = np.dtype(
    [
        ("provenance", "u1"),  # a records.Provenance
        ("before", "u1"),  # the provenance before a person took the frame
        ("committed", "?"),  # a person said that the frame is right; undo does not hand it back
        ("revision", "<u4"),  # of the result that wrote the frame last; 0 = none did
        ("presence", "<f4"),  # 0…1, NaN = unknown
        ("predicted_iou", "<f4"),  # 0…1, NaN = unknown
    ]
)

FLUSH_PAUSE_S = 0.25
"""A brush writes with every move of the mouse, and the disk may take 9 ms each time. What a dying process wrote is in
the system's hands without flushing; a power failure costs at most the end of the last stroke."""


KEEP_MAPPED_BYTES = 16_000_000
"""What has been written since is let go: pages of a mapped file count as the process's memory for as long as the system
needs them for nothing else, 2.7 GB for an hour of 96 × 128 pixels. They stay in the system's file cache."""


class MaskFiles:
    """The memory-mapped files of one track.

    Attributes
    ----------
    labels
        (T, H, W) uint16, 0 = background. A view of masks/<track>.tif.
    records
        (T,) FRAME_RECORD. A view of masks/<track>.npy.

    Parameters
    ----------
    path
        masks/<track>.tif; made, all zero, where it does not exist.
    shape
        (T, H, W).

    Raises
    ------
    ProjectError
        When the files cannot be made, or hold something else.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path = Path(path)
        self._prediction_folder = self.path.with_name(f"{self.path.stem}_predictions")
        self._waiting_frame: int | None = None
        self._last_flush_s = -math.inf
        self._mapped_bytes = 0
        records_path = self.path.with_suffix(".npy")
        try:
            self.labels = _map_labels(self.path, shape)
            self.records = _map_records(records_path, shape[0])
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise ProjectError(
                f"A track must have a mask file of {shape} uint16 and its records; got {self.path} ({error}); "
                "restore the file from a copy, or check the disk."
            ) from error

    def reserve(self) -> None:
        """Make sure that the disk can take one more frame: on a full disk, a memory-mapped write kills the process.

        Raises
        ------
        ProjectError
            When less than one frame and a reserve of 16 MB are free.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < self.labels[0].nbytes + 16_000_000:
            raise ProjectError(
                f"The disk must have room for one more mask; {self.path.parent} has {free / 1e6:.0f} MB left; "
                "make room."
            )
        self._mapped_bytes += self.labels[0].nbytes
        if self._mapped_bytes > KEEP_MAPPED_BYTES:
            self._let_go()

    def _let_go(self) -> None:
        """Give the pages of the labels back to the system, what was written included; nothing is lost or waited for."""
        mapping: Any = self.labels.base  # numpy.memmap keeps its mmap.mmap there
        if hasattr(mapping, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: the file keeps every write
        self._mapped_bytes = 0

    def flush(self, frame: int | None = None) -> None:
        """Have the disk store one frame and its record, or everything.

        One frame of 1080 × 1920 takes 0.2–2 ms on an idle machine, 9 ms on a busy one; everything, after 300 new frames
        (1.2 GB), 430 ms (SSD, ext4).
        """
        self.records.flush()
        if frame is None:
            self.labels.flush()
            return
        mapping: Any = self.labels.base  # numpy.memmap keeps its mmap.mmap there
        start = self.labels.offset % mmap.ALLOCATIONGRANULARITY + frame * self.labels[0].nbytes
        page_start = start - start % mmap.ALLOCATIONGRANULARITY
        mapping.flush(page_start, start - page_start + self.labels[0].nbytes)

    def flush_soon(self, frame: int) -> None:
        """Have the disk store ``frame``, now or, where one has just been stored, with the next call.

        A frame that is left for another is always stored.
        """
        if self._waiting_frame != frame:
            self.flush_waiting()
        self._waiting_frame = frame
        now_s = time.monotonic()
        if now_s - self._last_flush_s >= FLUSH_PAUSE_S:
            self.flush(frame)
            self._waiting_frame, self._last_flush_s = None, now_s

    def flush_waiting(self) -> None:
        """Have the disk store what :meth:`flush_soon` has put off."""
        if self._waiting_frame is not None:
            self.flush(self._waiting_frame)
            self._waiting_frame = None

    def write_prediction(self, frame: int, labels: NDArray[np.uint16]) -> None:
        """Keep (H, W) uint16 ``labels`` as what the model said of ``frame``."""
        path = self._prediction_path(frame)
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        if labels.max(initial=0) < 256:
            labels = labels.astype(np.uint8)
        # The first dab of a stroke waits for this. 1080 × 1920: 8 ms as uint8 at level 1, 17 as uint16, 59 at level 6.
        tifffile.imwrite(unfinished, labels, compression="zlib", compressionargs={"level": 1})
        os.replace(unfinished, path)

    def read_prediction(self, frame: int) -> NDArray[np.uint16] | None:
        """Return what the model said of ``frame`` as (H, W) uint16, or None where nothing is kept."""
        path = self._prediction_path(frame)
        try:
            return np.asarray(tifffile.imread(path), dtype=np.uint16).reshape(self.labels.shape[1:])
        except FileNotFoundError:
            return None

    def drop_prediction(self, frame: int) -> None:
        """Forget what the model said of ``frame``."""
        self._prediction_path(frame).unlink(missing_ok=True)

    def _prediction_path(self, frame: int) -> Path:
        return self._prediction_folder / f"{frame:06d}.tif"


def missing_bytes(folder: Path, shape: Sequence[int]) -> int:
    """Return how many bytes a full (T, H, W) uint16 stack would need beyond what the disk of ``folder`` has free."""
    num_bytes = 2 * int(np.prod(np.asarray(shape, dtype=np.int64)))
    return max(0, num_bytes - shutil.disk_usage(folder).free)


def _map_labels(path: Path, shape: tuple[int, int, int]) -> np.memmap[Any, np.dtype[np.uint16]]:
    if not path.exists():
        # Nothing is written through: 2352 × 1080 × 1920 (9.75 GB) takes 8 ms, 0.6 MB of disk and no memory.
        tifffile.memmap(
            path, shape=shape, dtype=np.uint16, bigtiff=True, photometric="minisblack", metadata={"axes": "TYX"}
        )
    labels: np.memmap[Any, np.dtype[np.uint16]] = tifffile.memmap(path, mode="r+")
    if labels.shape != shape or labels.dtype != np.uint16:
        raise ValueError(f"it holds {labels.shape} {labels.dtype}")
    return labels


def _map_records(path: Path, num_frames: int) -> np.memmap[Any, np.dtype[np.void]]:
    if not path.exists():
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            empty = np.zeros(num_frames, FRAME_RECORD)
            empty["presence"] = empty["predicted_iou"] = np.nan
            np.lib.format.write_array(file, empty)
        os.replace(unfinished, path)
    records: np.memmap[Any, np.dtype[np.void]] = np.lib.format.open_memmap(path, mode="r+")
    if records.shape != (num_frames,) or records.dtype != FRAME_RECORD:
        raise ValueError(f"the records hold {records.shape} {records.dtype}")
    return records
