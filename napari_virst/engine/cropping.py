"""Frames and jobs limited to a rectangle of the video."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.errors import InputError
from napari_virst.records import Anchor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames
    from napari_virst.records import Job


@dataclass(frozen=True)
class Region:
    """Rows ``y0 … y1 - 1`` and columns ``x0 … x1 - 1`` of every frame, in pixels."""

    y0: int
    x0: int
    y1: int
    x1: int

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``y0,x0,y1,x1``.

        Raises
        ------
        InputError
            When it is no rectangle of at least 8 × 8 pixels.
        """
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
        region = cls(*(int(n) for n in match.groups())) if match else None
        if region is None or region.y1 - region.y0 < 8 or region.x1 - region.x0 < 8:
            raise InputError(
                f'A region must be y0,x0,y1,x1 in pixels, 8 or more to a side; got "{text}"; give e.g. 0,0,64,64.'
            )
        return region

    def check(self, shape: tuple[int, int]) -> None:
        """Refuse a region that leaves a frame of (H, W).

        Raises
        ------
        InputError
            When it does.
        """
        if self.y1 > shape[0] or self.x1 > shape[1]:
            raise InputError(
                f"A region must lie inside the frame of {shape[0]} rows and {shape[1]} columns; "
                f"got {self.y0},{self.x0},{self.y1},{self.x1}; choose a smaller one."
            )

    def cut(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the part of an image (H, W, …) inside the region, as a view."""
        return image[self.y0 : self.y1, self.x0 : self.x1]

    def paste(self, mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return a mask of the region as a mask (H, W) bool of the frame."""
        whole = np.zeros(shape, np.bool_)
        whole[self.y0 : self.y1, self.x0 : self.x1] = mask
        return whole

    def crop_job(self, job: Job) -> Job:
        """Return the job with its anchors cut to the region."""
        anchors = tuple(Anchor(a.frame, np.ascontiguousarray(self.cut(a.mask), np.bool_), a.kind) for a in job.anchors)
        return replace(job, anchors=anchors)


class CroppedFrames:
    """The frames of a video inside a region; satisfies :class:`napari_virst.engine.protocol.Frames`."""

    def __init__(self, frames: Frames, region: Region) -> None:
        region.check(frames.shape[1:3])
        self._frames, self._region = frames, region

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3) of the region."""
        r = self._region
        return self._frames.shape[0], r.y1 - r.y0, r.x1 - r.x0, 3

    @property
    def fingerprint(self) -> str:
        """That of the video, with the region."""
        r = self._region
        return f"{self._frames.fingerprint}@{r.y0},{r.x0},{r.y1},{r.x1}"

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._region.cut(self._frames[frame]), np.uint8)
