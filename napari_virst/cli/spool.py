"""Keeps finished masks small until they are written: bits, compressed, whatever the order they come in."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class MaskSpool:
    """Masks of T frames (H, W) bool; a few kilobytes a frame, so that memory does not grow with the video.

    Parameters
    ----------
    shape
        (T, H, W).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._packed: dict[int, bytes] = {}
        self._areas: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, frame: object) -> bool:
        return frame in self._packed

    def put(self, frame: int, mask: NDArray[np.bool_]) -> None:
        """Keep the mask of a frame; the last one counts."""
        self._packed[frame] = zlib.compress(np.packbits(mask).tobytes(), level=1)
        self._areas[frame] = int(np.count_nonzero(mask))

    def get(self, frame: int) -> NDArray[np.bool_]:
        """Return the mask (H, W) bool of a frame; empty where there is none."""
        _, height, width = self.shape
        if frame not in self._packed:
            return np.zeros((height, width), np.bool_)
        bits = np.frombuffer(zlib.decompress(self._packed[frame]), np.uint8)
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(np.bool_)

    @property
    def areas_px(self) -> dict[int, int]:
        """Frame to number of pixels of its mask, for the frames that were put."""
        return dict(self._areas)

    def label_frames(self, label: int = 1) -> Iterator[NDArray[np.uint16]]:
        """Yield every frame in order as labels (H, W) uint16."""
        for frame in range(self.shape[0]):
            yield self.get(frame).astype(np.uint16) * np.uint16(label)
