"""Keeps finished masks on disk until they are written as a stack: bits, compressed, in whatever order they come."""

from __future__ import annotations

import contextlib
import tempfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray


class MaskSpool:
    """Masks of T frames (H, W) bool in a file without a name, so that memory does not grow with the video.

    A context manager, which lets go of the file.

    Parameters
    ----------
    shape
        (T, H, W).
    folder
        Where there is room; the system's place for such files by default.

    Raises
    ------
    InputError
        When no file can be made there.
    """

    def __init__(self, shape: tuple[int, int, int], folder: Path | None = None) -> None:
        self.shape = shape
        try:
            # Without a buffer: what did not fit on a full disk would come again when the file is read or closed.
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as this does
        except OSError as error:
            raise InputError(
                f"The output folder must let files be made; got {error.strerror} for {folder}; choose another folder."
            ) from error
        self._places: dict[int, tuple[int, int]] = {}
        self._areas: dict[int, int] = {}

    def __enter__(self) -> MaskSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, frame: object) -> bool:
        return frame in self._places

    def put(self, frame: int, mask: NDArray[np.bool_]) -> None:
        """Keep the mask of a frame; the last one counts.

        Raises
        ------
        InputError
            When the disk is full.
        """
        packed = zlib.compress(np.packbits(mask).tobytes(), level=1)
        try:
            self._places[frame] = self._file.seek(0, 2), self._write(packed)
        except OSError as error:
            raise InputError(
                f"The output folder must have room for masks; got {error.strerror}; make room, or choose another disk."
            ) from error
        self._areas[frame] = int(np.count_nonzero(mask))

    def _write(self, packed: bytes) -> int:
        left = memoryview(packed)
        while left:
            left = left[self._file.write(left) :]
        return len(packed)

    def get(self, frame: int) -> NDArray[np.bool_]:
        """Return the mask (H, W) bool of a frame; empty where there is none."""
        _, height, width = self.shape
        if frame not in self._places:
            return np.zeros((height, width), np.bool_)
        start, num_bytes = self._places[frame]
        self._file.seek(start)
        bits = np.frombuffer(zlib.decompress(self._file.read(num_bytes)), np.uint8)
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(np.bool_)

    @property
    def areas_px(self) -> dict[int, int]:
        """Frame to number of pixels of its mask, for the frames that were put."""
        return dict(self._areas)

    def label_frames(self, label: int = 1) -> Iterator[NDArray[np.uint16]]:
        """Yield every frame in order as labels (H, W) uint16."""
        for frame in range(self.shape[0]):
            yield self.get(frame).astype(np.uint16) * np.uint16(label)
