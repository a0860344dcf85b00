"""The mask-following baseline that needs no learning: warping the first mask along dense optical flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames


def warp_masks(
    frames: Frames, given: Mapping[int, tuple[int, NDArray[np.bool_]]]
) -> Iterator[tuple[int, dict[int, NDArray[np.bool_]]]]:
    """Carry masks along DIS optical flow (Kroeger et al. 2016, preset "medium"), frame by frame.

    The flow is computed once per frame for all masks, from each frame back to the one before.

    Parameters
    ----------
    frames
        The video.
    given
        Label to (frame, mask (H, W) bool) where each object starts.

    Yields
    ------
    frame : int
        Every frame after the earliest start.
    masks : dict
        Label to warped mask (H, W) bool, of the objects that started earlier.
    """
    flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]].astype(np.float32)
    # Kept as fractions from frame to frame: a mask cut at 0.5 every time loses its thin parts.
    soft: dict[int, NDArray[np.float32]] = {}
    first = min((start for start, _ in given.values()), default=frames.shape[0])
    previous: NDArray[Any] | None = None
    for frame in range(first, frames.shape[0]):
        gray = cv2.cvtColor(frames[frame], cv2.COLOR_RGB2GRAY)
        if previous is not None:
            back = flow.calc(gray, previous, None)
            along = (x + back[..., 0], y + back[..., 1])
            soft = {label: cv2.remap(mask, *along, cv2.INTER_LINEAR) for label, mask in soft.items()}
            yield frame, {label: mask > 0.5 for label, mask in soft.items()}
        soft |= {label: mask.astype(np.float32) for label, (start, mask) in given.items() if start == frame}
        previous = gray
