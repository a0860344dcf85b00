"""Optical flow between two pictures in grey, there and back, and where it deserves no trust. No torch."""

# h w rows and columns of both pictures

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALLEST_SIDE_PX, _LARGEST_SIDE_PX = 64, 384


@dataclass(frozen=True)
class Way:
    """Where the pixels of a picture were in the one before."""

    source_x_hw: NDArray[np.float32]
    source_y_hw: NDArray[np.float32]
    slip_hw: NDArray[np.float32]
    """Pixels between a place and where the way there and back ends."""
    change_hw: NDArray[np.float32]
    """By how much a pixel's surroundings, 0…255, differ from what they were, beside what changed for all."""

    def bring(self, part_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return values (h, w) of the picture before, moved along; 0 for what comes from outside."""
        return np.asarray(cv2.remap(part_hw, self.source_x_hw, self.source_y_hw, cv2.INTER_LINEAR), np.uint8)


class Flow:
    """DIS optical flow (Kroeger et al. 2016), preset "medium", made when first used."""

    def __init__(self) -> None:
        self._flow: Any = None

    def between(self, there_hw: NDArray[np.uint8], here_hw: NDArray[np.uint8]) -> Way:
        """Look where everything ``here`` was ``there``.

        Parameters
        ----------
        there_hw, here_hw
            Two pictures (h, w) uint8, 0…255.

        Raises
        ------
        cv2.error
            Where a side has 32 767 pixels or more.
        """
        back, onward = self._calc(here_hw, there_hw), self._calc(there_hw, here_hw)
        y, x = np.mgrid[: here_hw.shape[0], : here_hw.shape[1]].astype(np.float32)
        source = x + back[..., 0], y + back[..., 1]
        slip = np.sqrt(np.square(cv2.remap(onward, *source, cv2.INTER_LINEAR) + back).sum(-1))
        blurred_there, blurred_here = (cv2.blur(p, (3, 3)).astype(np.float32) for p in (there_hw, here_hw))
        change = blurred_here - cv2.remap(blurred_there, *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return Way(*source, slip, np.abs(change - np.median(change)))

    def _calc(self, gray: NDArray[np.uint8], to_gray: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the way (h, w, 2), (x, y) in pixels, from each pixel to its like in the other picture.

        Large pictures are looked at smaller, small ones larger: the coarsest of its scales needs some pixels.
        """
        height, width = gray.shape
        scale = min(1.0, _LARGEST_SIDE_PX / max(height, width))
        scale = max(scale, _SMALLEST_SIDE_PX / min(height, width))
        size = round(width * scale), round(height * scale)
        if self._flow is None:
            self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        small, to_small = (cv2.resize(g, size, interpolation=cv2.INTER_AREA) for g in (gray, to_gray))
        flow = cv2.resize(self._flow.calc(small, to_small, None), (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(flow / (size[0] / width, size[1] / height), np.float32)
