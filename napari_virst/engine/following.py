"""Follows one object from its anchors through memory, one frame at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_virst.engine.grounding import decode_prompts
from napari_virst.model.memory import ObjectMemory
from napari_virst.model.windows import Window, paste
from napari_virst.records import Anchor, AnchorKind, FrameResult, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray

    from napari_virst.engine.encoding import VideoEncoder
    from napari_virst.engine.grounding import GroundedFrame
    from napari_virst.engine.options import PredictorOptions, Settings
    from napari_virst.model.anchors import Leg
    from napari_virst.model.virst import VirstModel
    from napari_virst.records import Span


class Follower:
    """Where one run stands: its memory, and the masks that windows start from.

    Memory is bounded whatever the length of the video.
    """

    def __init__(self, model: VirstModel, settings: Settings, options: PredictorOptions, video: VideoEncoder) -> None:
        self._segmenter, self._settings, self._options, self._video = model.segmenter, settings, options, video
        self._masks: dict[int, NDArray[np.bool_]] = {}
        self._memory = ObjectMemory(
            video.shape[0],
            max_anchors=settings.max_anchors,
            num_fifo_frames=settings.num_fifo_frames,
            max_pointers=model.config.segmenter_config.sam2_config.max_object_pointers_in_encoder,
            prefer_user_anchors=not settings.is_reference,
        )

    @property
    def anchor_frames(self) -> tuple[int, ...]:
        """Frames held as anchors, in order."""
        return self._memory.anchor_frames

    # Anchors ---------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def start(self, anchors: tuple[Anchor, ...]) -> None:
        """Put the user anchors into memory."""
        seen = [anchor for anchor in anchors if not anchor.is_absent]
        self._masks = {anchor.frame: anchor.mask for anchor in anchors}
        for anchor in anchors:
            nearest = min(seen, key=lambda a: abs(a.frame - anchor.frame), default=None)
            window = self._window_of(nearest.mask) if nearest is not None else None
            self._remember_given(anchor, window or self._video.whole)

    @torch.inference_mode()
    def add_model_anchor(self, grounded: GroundedFrame) -> None:
        """Put what language said of a frame into memory."""
        if self._settings.decode_anchors:
            features = self._video.features(grounded.frame, keep=True)
            decoded = decode_prompts(self._segmenter, features, grounded.prompts)
            self._memory.add_anchor(grounded.frame, self._segmenter.remember(features, decoded))
        else:
            anchor = Anchor(grounded.frame, grounded.mask, AnchorKind.MODEL)
            self._remember_given(anchor, self._window_of(grounded.mask) or self._video.whole)
        self._masks[grounded.frame] = grounded.mask

    @torch.inference_mode()
    def agrees(self, grounded: GroundedFrame) -> bool:
        """Whether the anchors held so far, read directly, find the same object where language found one."""
        window = self._window_of(grounded.mask) or self._video.whole
        features = self._video.features(grounded.frame, window, keep=True)
        decoded = self._segmenter.decode_tracked(features, self._memory.view(grounded.frame))
        mask = paste(decoded.low_res_B1hw[0, 0], window, *self._video.shape[1:])
        union = int(np.count_nonzero(mask | grounded.mask))
        return int(np.count_nonzero(mask & grounded.mask)) >= self._options.agreement_iou * max(1, union)

    def _remember_given(self, anchor: Anchor, window: Window) -> None:
        features = self._video.features(anchor.frame, window)
        decoded = self._segmenter.decode_given(features, self._video.mask(anchor.mask, window))
        entry = self._segmenter.remember(features, decoded)
        self._memory.add_anchor(anchor.frame, entry, is_user=anchor.kind is AnchorKind.USER)

    # Following -------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def follow(
        self, leg: Leg, skip: Collection[int], span: Span, revision: int, should_stop: Callable[[], bool]
    ) -> Iterator[FrameResult]:
        """Follow the frames of a leg, passing through those in ``skip``; return those in ``span``."""
        height, width = self._video.shape[1:]
        self._memory.forget_tracked()
        window = self._first_window(leg)
        for frame in leg.frames:
            if should_stop():
                return
            if frame in skip:
                window = self._window_of(self._masks[frame], window) or window
                continue
            features = self._video.features(frame, window)
            decoded = self._segmenter.decode_tracked(features, self._memory.view(frame, leg.direction))
            self._memory.add_tracked(frame, self._segmenter.remember(features, decoded))
            mask = paste(decoded.low_res_B1hw[0, 0], window, height, width)
            if frame in span:
                yield FrameResult(
                    frame,
                    mask,
                    presence=float(decoded.score_B.sigmoid()),
                    predicted_iou=float(decoded.best_iou_B),
                    provenance=Provenance.PROPAGATED,
                    revision=revision,
                )
            if self._settings.follow_with_windows:
                rule = self._options.window_rule
                window = rule.around(mask, window) or rule.grown(window, (height, width))

    def _first_window(self, leg: Leg) -> Window:
        known = [frame for frame, mask in self._masks.items() if mask.any()]
        if not known or not leg.frames:
            return self._video.whole
        nearest = min(known, key=lambda f: abs(f - leg.frames[0]))
        return self._window_of(self._masks[nearest]) or self._video.whole

    def _window_of(self, mask: NDArray[np.bool_], previous: Window | None = None) -> Window | None:
        if not self._settings.follow_with_windows:
            return self._video.whole
        return self._options.window_rule.around(mask, previous)
