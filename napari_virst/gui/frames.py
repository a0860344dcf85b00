"""The frames of an image layer as the person sees them, for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_virst.gui.layers import display_of, file_of, video_source
from napari_virst.io.video import open_video

if TYPE_CHECKING:
    import numpy as np
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_virst.io.video import Video


class LayerFrames:
    """Frames (T, H, W, 3) uint8 of one layer, through a decoder of their own.

    Satisfies ``engine.protocol.Frames``. Reading is safe from any thread; :meth:`look_again` belongs to Qt's thread.

    Parameters
    ----------
    layer : Image
        A video (T, Y, X), RGB or not, or a single image.

    Raises
    ------
    VideoError
        When the layer has too many axes, or its file cannot be opened.
    """

    def __init__(self, layer: Image) -> None:
        self._layer = layer
        self._video = _open(layer)
        self._display = display_of(layer)
        self._reader = self._video.reader(self._display)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        return self._reader.shape

    @property
    def fingerprint(self) -> str:
        """Short text that differs where the pixels may differ."""
        return self._reader.fingerprint

    def pixels_fingerprint(self) -> str:
        """Short text that is the same for a file and for an array of what is in it, whatever the contrast."""
        return self._reader.pixels_fingerprint()

    @property
    def path(self) -> str | None:
        """The file or folder of the video; None for an array of which none is known."""
        return file_of(self._layer) if self._video.path is None else str(self._video.path)

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """Frame ``frame`` as (H, W, 3) uint8 RGB."""
        return self._reader[frame]

    def look_again(self) -> None:
        """Take over contrast, gamma and colormap as they are now; call it between jobs, not during one."""
        display = display_of(self._layer)
        if display != self._display:
            self._display = display
            self._reader = self._video.reader(display)

    def close(self) -> None:
        """Let go of the file."""
        self._video.close()


def _open(layer: Image) -> Video:
    source = video_source(layer)
    return open_video(source.data, axes=source.axes, name=layer.name)
