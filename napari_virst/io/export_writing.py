"""What the formats of an export have in common."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from napari_virst.errors import VideoError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_virst.io.export_plan import ExportPlan
    from napari_virst.io.video import Video

_JPEG_QUALITY = 95


class ExportWriter(Protocol):
    """Writes one format, frame by frame: ``begin``, ``put`` for every frame, ``end`` for every video; ``finish``."""

    max_objects: int
    """How many objects of one video it can tell apart."""

    def begin(self, plan: ExportPlan, images: FrameImages | None) -> None:
        """Start a video; ``images`` are its frames where they shall be written too."""

    def put(self, frame: int) -> None:
        """Write one frame of it."""

    def end(self) -> tuple[str, ...]:
        """End the video; return what was lost or is odd."""

    def finish(self) -> tuple[str, ...]:
        """Write what belongs to all videos; return what was lost or is odd."""


class FrameImages:
    """The frames of a video, to be written beside their labels.

    Parameters
    ----------
    video
        Open; closed by whoever opened it.
    plan
        The labels; must be of its shape.

    Raises
    ------
    VideoError
        When the video has another shape than the labels.
    """

    def __init__(self, video: Video, plan: ExportPlan) -> None:
        if video.shape != plan.video.shape:
            raise VideoError(
                f"Frames to export must be those that were labelled, (T, H, W) = {plan.video.shape}; got {video.shape} "
                f"in {video.path or video.name}; give the right file (--video), or its axes."
            )
        self._video, self._reader = video, video.reader()
        self._pixels = plan.video.pixels
        self._name = plan.name

    def rgb(self, frame: int) -> NDArray[np.uint8]:
        """Return a frame as it is shown, (H, W, 3) uint8 RGB."""
        return self._reader[frame]

    def native(self, frame: int) -> NDArray[Any]:
        """Return a frame as it is stored, (H, W) or (H, W, 3)."""
        stored: NDArray[Any] = self._video.dask[frame].compute(scheduler="synchronous")
        return stored

    def write_jpeg(self, path: Path, frame: int) -> None:
        """Write a frame as JPEG, colours at full resolution."""
        from PIL import Image

        Image.fromarray(self.rgb(frame)).save(path, quality=_JPEG_QUALITY, subsampling=0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the file."""
        odd = tuple(f"{self._name}: {note}" for note in self._video.notes)
        if self._pixels is None or self._pixels == self._reader.pixels_fingerprint():
            return odd
        return (*odd, f"{self._name}: the frames of {self._video.path} differ from those that were labelled; look.")

    def close(self) -> None:
        """Let go of the reader."""
        self._reader.close()


def frame_name(frame: int) -> str:
    """Return the name of a frame's files; its number in the video, in five digits."""
    return f"{frame:05d}"


def write_json(path: Path, content: object) -> None:
    """Write a JSON file into a folder made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
