"""Where the viewer is: which frame of an image is seen, and whether its plane is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_virst.errors import InputError
from napari_virst.gui import layers, planes, sentences

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image


class View:
    """What a viewer shows of one image.

    Parameters
    ----------
    viewer : ViewerModel
        Its sliders.
    image : Image
        (T, …, Y, X) with one plane, (T, Y, X) or (Y, X).
    num_frames : int
        T of the image.
    """

    def __init__(self, viewer: ViewerModel, image: Image, num_frames: int) -> None:
        self._viewer, self._image, self._num_frames = viewer, image, num_frames

    def frame(self) -> int:
        """Say which frame of the image is seen, or was last, where the viewer is beyond its frames."""
        return layers.frame_in_view(self._viewer.dims.point, self._image, self._num_frames)

    def frame_outside(self) -> int | None:
        """Say where the viewer is, where that is none of the image's frames; else None."""
        frame = layers.frame_at(self._viewer.dims.point, self._image)
        return None if 0 <= frame < self._num_frames else frame

    def sees_plane(self) -> bool:
        """Whether the plane in view is that of the image."""
        dims = self._viewer.dims
        return planes.is_seen(dims.point, dims.displayed, self._image)

    def sees_time(self) -> bool:
        """Whether time is one of the axes that are seen whole."""
        dims = self._viewer.dims
        return dims.ndim - max(3, self._image.ndim) in dims.displayed

    def frame_to_change(self) -> int:
        """Say which frame of the image is seen, to do something with it.

        Raises
        ------
        InputError
            When the viewer is beyond the image's frames, as it can be beside a longer video, at another plane, or shows
            all frames at once.
        """
        if self._num_frames > 1 and self.sees_time():
            raise InputError(sentences.MUST_SEE_ONE_FRAME)
        if not self.sees_plane():
            raise InputError(sentences.must_see_plane(planes.words_for(self._image)))
        outside = self.frame_outside()
        if outside is not None:
            raise InputError(sentences.must_be_in_view(outside, self._num_frames))
        return self.frame()
