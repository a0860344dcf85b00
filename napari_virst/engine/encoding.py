"""Frames of one video as the network sees them, each encoded once where one encoding serves every use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from napari_virst.model.windows import Window, cut, mask_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.engine.options import Settings
    from napari_virst.engine.protocol import Frames
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.readout import ImageFeatures
    from napari_virst.model.virst import VirstModel

Stage = Literal["prompter", "propagation"]


class VideoEncoder:
    """Encodes frames of one video for one run.

    Features of whole frames are kept while they will be read again: sampled frames until they are followed, model
    anchors until the end of the run. Where windows follow the object nothing is kept, since no window comes twice.
    """

    def __init__(self, model: VirstModel, processor: VirstProcessor, settings: Settings, frames: Frames) -> None:
        self._model, self._settings, self._frames = model, settings, frames
        self._processor = processor.with_resize_preset("reference") if settings.is_reference else processor
        weight: Tensor = next(model.parameters())
        self.device, self._dtype = weight.device, weight.dtype
        self._kept: dict[int, ImageFeatures] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return self._frames.shape[:3]

    @property
    def fingerprint(self) -> str:
        """Names the pixels."""
        return self._frames.fingerprint

    @property
    def whole(self) -> Window:
        """The window that is the frame."""
        return Window.whole(*self.shape[1:])

    def tower_pixels(self, frame: int) -> Tensor:
        """(1, 3, S, S): the video tower's input."""
        image = self._frames[frame]
        if self._settings.is_reference:
            return self._placed(self._processor.video_pixels([image]))
        return self._squared(image, self._model.config.video_config.image_size, self.whole)

    def prompter_features(self, frame: int) -> ImageFeatures:
        """Features of a whole frame for ST-Fusion; kept where propagation reads the same."""
        if self._settings.shares_features:
            return self.features(frame, keep=True)
        return self._encode(frame, self.whole, "prompter")

    def features(self, frame: int, window: Window | None = None, *, keep: bool = False) -> ImageFeatures:
        """Features for decoding and remembering a frame, or a window of it.

        Parameters
        ----------
        frame
            Frame number.
        window
            The whole frame where None.
        keep
            Whether the same whole frame will be asked for again; otherwise what was kept of it is dropped.
        """
        window = window or self.whole
        if self._settings.follow_with_windows or window != self.whole:
            return self._encode(frame, window, "propagation")
        known = self._kept.get(frame) if keep else self._kept.pop(frame, None)
        features = known or self._encode(frame, window, "propagation")
        if keep:
            self._kept[frame] = features
        return features

    def mask(self, mask_HW: NDArray[np.bool_], window: Window) -> Tensor:
        """(1, 1, S, S) of 0 and 1: a mask as the segmenter's input."""
        size = self._model.config.segmenter_config.image_size
        return mask_tensor(mask_HW, window, size, self.device).to(self._dtype)

    def _encode(self, frame: int, window: Window, stage: Stage) -> ImageFeatures:
        image = self._frames[frame]
        if self._settings.is_reference:
            pixels = self._placed(self._processor.segmenter_pixels([image], stage))
        else:
            pixels = self._squared(image, self._model.config.segmenter_config.image_size, window)
        features: ImageFeatures = self._model.segmenter.encode(pixels)
        return features

    def _placed(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device, self._dtype)

    def _squared(self, image: NDArray[np.uint8], size: int, window: Window) -> Tensor:
        """(H, W, 3) uint8 to (1, 3, size, size), normalised; resized on the device."""
        part, window = window.trim(image)
        tensor_HW3 = torch.from_numpy(np.ascontiguousarray(part)).to(self.device)
        image_13HW = tensor_HW3.permute(2, 0, 1)[None].float() / 255
        # Mid-grey beyond the frame, as in the training scenes with border bars.
        return self._processor.normalise(cut(image_13HW, window, size, fill=0.5)).to(self._dtype)
