"""Frames of one video as the network sees them, each encoded once where one encoding serves every use."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import torch

from napari_virst.engine.cache import CacheKey
from napari_virst.engine.reading import ReadAhead
from napari_virst.engine.stopping import StoppedError
from napari_virst.model.readout import ImageFeatures
from napari_virst.model.windows import Window, cut, mask_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.engine.cache import FeatureCache
    from napari_virst.engine.options import Settings
    from napari_virst.engine.protocol import Frames
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel

Stage = Literal["prompter", "propagation"]

_NUM_RECENT = 2
_NUM_GRAYS = 9
"""As many as a mask is carried at most (:class:`~napari_virst.engine.options.CarryRule`), with its own frame."""


class VideoEncoder:
    """Encodes frames of one video for one run.

    Features of whole frames come from the cache, and go there. What this run will read again is kept besides, whatever
    the cache's budget: sampled frames until they are followed, model anchors until the end of the run. Windows that
    follow an object are not kept, since no window comes twice; windows around anchors do, at every correction.
    """

    def __init__(
        self,
        model: VirstModel,
        processor: VirstProcessor,
        settings: Settings,
        frames: Frames,
        cache: FeatureCache,
    ) -> None:
        self._model, self._settings, self._frames, self._cache = model, settings, frames, cache
        self._processor = processor.with_resize_preset("reference") if settings.is_reference else processor
        weight: Tensor = next(model.parameters())
        self.device, self._dtype = weight.device, weight.dtype
        self._kept: dict[int, ImageFeatures] = {}
        self._ahead: ReadAhead | None = None
        self._recent: dict[int, NDArray[np.uint8]] = {}
        self._grays: dict[int, NDArray[np.uint8]] = {}
        """Optical flow looks at the same frames for every object, and backwards from those to come."""

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

    # Reading ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def reading_ahead(self, order: Sequence[int]) -> Iterator[None]:
        """Read frames ahead, in the order in which they will be asked for; those in the cache are not read."""
        with ReadAhead(self._frames, order, wanted=self._must_be_read) as self._ahead:
            try:
                yield
            finally:
                self._ahead = None

    def _must_be_read(self, frame: int) -> bool:
        if self._settings.follow_with_windows:
            return True
        return frame not in self._kept and self._key(frame, self.whole, "propagation") not in self._cache

    def read(self, frame: int) -> None:
        """Read a frame in its turn; what is asked of it soon after is not read again."""
        self._image(frame)

    def gray(self, frame: int) -> NDArray[np.uint8]:
        """Return a frame (H, W) uint8 in grey, whatever the order of reading ahead.

        Raises
        ------
        VideoError
            When the frame cannot be decoded.
        """
        if frame not in self._grays:
            recent = self._recent.get(frame)
            image = np.ascontiguousarray(self._frames[frame] if recent is None else recent)
            while len(self._grays) >= _NUM_GRAYS:
                del self._grays[next(iter(self._grays))]
            self._grays[frame] = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        return self._grays[frame]

    def _image(self, frame: int) -> NDArray[np.uint8]:
        if frame not in self._recent:
            image = self._frames[frame] if self._ahead is None else self._ahead.take(frame)
            while len(self._recent) >= _NUM_RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[frame] = image
        return self._recent[frame]

    # Language --------------------------------------------------------------------------------------------------------

    def tower_pixels(self, frame: int) -> Tensor:
        """(1, 3, S, S): the video tower's input."""
        image = self._image(frame)
        if self._settings.is_reference:
            return self._placed(self._processor.video_pixels([image]))
        return self._squared(image, self._model.config.video_config.image_size, self.whole)

    def knows_visual_tokens(self, sample: Sequence[int]) -> bool:
        """Whether :meth:`visual_tokens` needs no pixels."""
        return self._tokens_key(sample) in self._cache

    def visual_tokens(
        self, sample: Sequence[int], pixels: dict[int, Tensor], should_stop: Callable[[], bool]
    ) -> Tensor:
        """(1, V, D): what the video tower says of the sampled frames, whatever the query.

        Parameters
        ----------
        sample
            Frames, a multiple of the clip length.
        pixels
            :meth:`tower_pixels` of those that were read already.
        should_stop
            Asked before every clip.

        Raises
        ------
        StoppedError
            When told to stop.
        """

        def encode() -> tuple[Tensor]:
            """Encode the sample clip by clip, where the cache does not hold it."""
            clips, length = [], self._model.config.video_config.num_frames_per_clip
            for start in range(0, len(sample), length):
                if should_stop():
                    raise StoppedError
                clip = [pixels[f] if f in pixels else self.tower_pixels(f) for f in sample[start : start + length]]
                clips.append(self._model.encode_clips(torch.stack(clip, 1)))
            return (torch.cat(clips, 1),)

        return self._cache.fetch(self._tokens_key(sample), encode, exact=self._settings.is_reference)[0]

    def _tokens_key(self, sample: Sequence[int]) -> CacheKey:
        frames = hashlib.blake2b(repr(tuple(sample)).encode(), digest_size=8).hexdigest()
        return self._named(f"tokens_{frames}", 0, None)

    def prompter_features(self, frame: int) -> ImageFeatures:
        """Features of a whole frame for ST-Fusion; kept where propagation reads the same."""
        if self._settings.shares_features:
            return self.features(frame, keep=True)
        return self._encode(frame, self.whole, "prompter", cached=True)

    # Following -------------------------------------------------------------------------------------------------------

    def features(self, frame: int, window: Window | None = None, *, keep: bool = False) -> ImageFeatures:
        """Features for decoding and remembering a frame, or a window of it.

        Parameters
        ----------
        frame
            Frame number.
        window
            The whole frame where None.
        keep
            Whether the same will be asked for again, in this run or a later one.
        """
        window = window or self.whole
        if self._settings.follow_with_windows or window != self.whole:
            return self._encode(frame, window, "propagation", cached=keep)
        known = self._kept.get(frame) if keep else self._kept.pop(frame, None)
        features = known or self._encode(frame, window, "propagation", cached=True)
        if keep:
            self._kept[frame] = features
        return features

    def features_of_objects(self, frame: int, windows: Sequence[Window]) -> ImageFeatures:
        """Features of one frame for B objects: one encoding for all, or a batch of their windows."""
        if not self._settings.follow_with_windows:
            features = self.features(frame)
            return features if len(windows) == 1 else features.expand(len(windows))
        if len(windows) == 1:
            return self.features(frame, windows[0])
        size = self._model.config.segmenter_config.image_size
        features_B: ImageFeatures = self._model.segmenter.encode(self._squared(self._image(frame), size, *windows))
        return features_B

    def mask(self, mask_HW: NDArray[np.bool_], window: Window) -> Tensor:
        """(1, 1, S, S) of 0 and 1: a mask as the segmenter's input."""
        size = self._model.config.segmenter_config.image_size
        return mask_tensor(mask_HW, window, size, self.device).to(self._dtype)

    def _encode(self, frame: int, window: Window, stage: Stage, *, cached: bool) -> ImageFeatures:
        if not cached:
            return self._compute(frame, window, stage)
        levels = self._cache.fetch(
            self._key(frame, window, stage),
            lambda: self._compute(frame, window, stage).levels,
            exact=self._settings.is_reference,
        )
        return ImageFeatures(*levels)

    def _compute(self, frame: int, window: Window, stage: Stage) -> ImageFeatures:
        image = self._image(frame)
        if self._settings.is_reference:
            pixels = self._placed(self._processor.segmenter_pixels([image], stage))
        else:
            pixels = self._squared(image, self._model.config.segmenter_config.image_size, window)
        features: ImageFeatures = self._model.segmenter.encode(pixels)
        return features

    def _key(self, frame: int, window: Window, stage: Stage) -> CacheKey:
        # One filter serves both stages but in the reference preset.
        return self._named(
            stage if self._settings.is_reference else "frame", frame, None if window == self.whole else window
        )

    def _named(self, stage: str, frame: int, window: Window | None) -> CacheKey:
        preset = "reference" if self._settings.is_reference else "default"
        return CacheKey(f"{self.fingerprint} {self.shape}", f"{preset}_{stage}", frame, window)

    def _placed(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device, self._dtype)

    def _squared(self, image: NDArray[np.uint8], size: int, *windows: Window) -> Tensor:
        """(H, W, 3) uint8 to (B, 3, size, size), normalised, for B windows; resized on the device."""
        return self._processor.normalise(torch.cat([self._cut(image, size, w) for w in windows]) / 255).to(self._dtype)

    def _cut(self, image: NDArray[np.uint8], size: int, window: Window) -> Tensor:
        part, window = window.trim(image)
        tensor_HW3 = torch.from_numpy(np.ascontiguousarray(part)).to(self.device)
        # Mid-grey beyond the frame, as in the training scenes with border bars.
        return cut(tensor_HW3.permute(2, 0, 1)[None].float(), window, size, fill=127.5)
