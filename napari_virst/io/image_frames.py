"""Listed images as a video that a segmenter reads, and the order in which a folder of images is shown."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import InputError
from napari_virst.io._images import find_images, read_picture

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_NUM_CACHED_FRAMES = 16


class ImageFrames:
    """Listed images as the frames of one video; satisfies :class:`napari_virst.engine.protocol.Frames`.

    Parameters
    ----------
    paths
        One image per frame, all of one size.

    Raises
    ------
    VideoError
        When there is no image, or the first one cannot be read.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        if not paths:
            raise InputError("A video must have at least one frame; got none; leave it out of the list of expressions.")
        self._paths = paths
        self._recent: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()
        height, width = self[0].shape[:2]
        self.shape: tuple[int, int, int, int] = (len(paths), height, width, 3)
        listed = "\n".join(f"{path} {path.stat().st_size if path.is_file() else 0}" for path in paths)
        self.fingerprint = hashlib.sha256(listed.encode()).hexdigest()[:16]

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """Frame ``frame`` as (H, W, 3) uint8 RGB."""
        with self._lock:
            if frame not in self._recent:
                self._recent[frame] = _as_rgb(read_picture(self._paths[frame]))
                while len(self._recent) > _NUM_CACHED_FRAMES:
                    self._recent.popitem(last=False)
            self._recent.move_to_end(frame)
            return self._recent[frame]


def frame_names(folder: Path) -> tuple[str, ...]:
    """Return the names, without ending, of a folder's images in the order in which ``open_video`` shows them.

    Raises
    ------
    VideoError
        When there are none, or images of several types.
    """
    return tuple(path.stem for path in find_images(folder))


def _as_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint16:
        image = image >> 8
    colour = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    return np.ascontiguousarray(colour, np.uint8)
