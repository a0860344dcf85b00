"""A segmenter on torch: grounds a query, then follows it along the video, one frame at a time."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_virst.engine.loading import load_model, pick_device
from napari_virst.errors import QueryError, SegmentationError, VirstError
from napari_virst.model.anchors import plan_legs, spread_anchors
from napari_virst.model.memory import ObjectMemory
from napari_virst.model.windows import Window, WindowRule, cut, mask_tensor, paste
from napari_virst.records import Anchor, AnchorKind, FrameResult, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.engine.protocol import Frames
    from napari_virst.model.anchors import Leg
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.readout import ImageFeatures
    from napari_virst.model.segmenter import Decoded
    from napari_virst.model.virst import VirstModel
    from napari_virst.records import Job

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictorOptions:
    """Choices at inference that do not change the weights."""

    follow_with_windows: bool = True
    """Decode inside a window around the object instead of the whole frame."""
    window_rule: WindowRule = field(default_factory=WindowRule)
    presence_threshold: float = 0.5
    """A query whose presence stays below this on every sampled frame is answered "not in this video"."""
    agreement_iou: float = 0.3
    """A model anchor whose mask overlaps less with what the user anchors say of its frame is demoted."""
    num_cached_groundings: int = 8


@dataclass(frozen=True, eq=False)
class GroundedFrame:
    """What language alone says of one sampled frame."""

    frame: int
    mask: NDArray[np.bool_]
    presence: float
    predicted_iou: float


@dataclass(eq=False)
class _Track:
    """Where one run stands: its memory and the masks that windows start from."""

    memory: ObjectMemory
    masks: dict[int, NDArray[np.bool_]]
    fallback: Window


class Predictor:
    """Follows one query along a video with a :class:`VirstModel`.

    Image features are computed frame by frame and dropped; memory is bounded whatever the length of the video.

    Parameters
    ----------
    model, processor
        Weights and what prepares their input.
    name
        What to call the model.
    options
        See :class:`PredictorOptions`.
    """

    def __init__(
        self, model: VirstModel, processor: VirstProcessor, name: str, options: PredictorOptions | None = None
    ) -> None:
        self._model = model.eval()
        self._processor = processor
        self._name = name
        self._options = options or PredictorOptions()
        self._groundings: OrderedDict[tuple[str, str], tuple[GroundedFrame, ...]] = OrderedDict()

    @property
    def name(self) -> str:
        """What to call the model."""
        return self._name

    @property
    def device(self) -> str:
        """Where it runs."""
        return str(self._torch_device)

    @property
    def _torch_device(self) -> torch.device:
        device: torch.device = next(self._model.parameters()).device
        return device

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Return the words of ``text`` that the model has never seen."""
        return tuple(self._processor.unknown_words(text))

    def run(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Iterator[FrameResult]:
        """Compute the frames of ``job.span``; see :meth:`napari_virst.engine.protocol.Segmenter.run`."""
        if not job.query.text and not job.anchors:
            raise QueryError(
                "A track must have words or a mask to follow; got neither; "
                "type a query, or paint the object on one frame."
            )
        try:
            yield from self._run(frames, job, should_stop)
        except VirstError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise SegmentationError(f"The model failed on {job.span}: {error}") from error

    def ground(self, frames: Frames, text: str, should_stop: Callable[[], bool]) -> tuple[GroundedFrame, ...]:
        """Ask language alone: the masks of the sampled frames, in order of time; empty when told to stop."""
        key = (frames.fingerprint, text)
        if key not in self._groundings:
            grounded = self._ground(frames, text, should_stop)
            if not grounded:
                return ()
            self._groundings[key] = grounded
            while len(self._groundings) > self._options.num_cached_groundings:
                self._groundings.popitem(last=False)
        return self._groundings[key]

    def _run(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Iterator[FrameResult]:
        users = {anchor.frame: anchor for anchor in job.anchors}
        grounded = self.ground(frames, job.query.text, should_stop) if job.query.text else ()
        if should_stop():
            return
        if not self._is_present(grounded) and all(anchor.is_absent for anchor in job.anchors):
            yield from self._nothing(frames, job, grounded, should_stop)
            return
        track = self._start(frames, job.anchors)
        model_anchors = self._model_anchors(frames, track, grounded, job)
        for anchor in model_anchors:
            if anchor.frame in job.span:
                yield self._as_result(anchor, job.revision)
        origins = set(users) | ({a.frame for a in model_anchors} if not users else set())
        skip = set(users) | {a.frame for a in model_anchors}
        for leg in plan_legs(job.span, origins, job.focus_frame):
            yield from self._follow(frames, track, leg, skip, job.revision, should_stop)

    def _is_present(self, grounded: tuple[GroundedFrame, ...]) -> bool:
        return any(g.presence > self._options.presence_threshold and g.mask.any() for g in grounded)

    def _nothing(
        self, frames: Frames, job: Job, grounded: tuple[GroundedFrame, ...], should_stop: Callable[[], bool]
    ) -> Iterator[FrameResult]:
        """Answer "not in this video"."""
        presence = max((g.presence for g in grounded), default=0.0)
        empty = np.zeros(frames.shape[1:3], np.bool_)
        for frame in job.span:
            if should_stop():
                return
            if all(frame != anchor.frame for anchor in job.anchors):
                yield FrameResult(frame, empty, presence, float("nan"), Provenance.PROPAGATED, job.revision)

    # Grounding -------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _ground(self, frames: Frames, text: str, should_stop: Callable[[], bool]) -> tuple[GroundedFrame, ...]:
        config, segmenter = self._model.config, self._model.segmenter
        sample = self._processor.sample_frames(frames.shape[0])
        images, features = {}, {}
        for frame in sorted(set(sample.vlm)):
            if should_stop():
                return ()
            image_13HW = self._tensor(frames[frame])
            images[frame] = self._normalised(image_13HW, config.video_config.image_size)
            if frame in sample.segmentation:
                features[frame] = segmenter.encode(self._normalised(image_13HW, config.segmenter_config.image_size))
        tokens = self._processor.text_ids(text)
        visual_1VD = self._model.encode_clips(torch.stack([images[f] for f in sample.vlm], 1))
        maps_1TCHW = torch.stack([features[f].coarse_BCHW for f in sample.segmentation], 1)
        ids_1L, padding_1L = tokens.input_ids.to(self._torch_device), tokens.attention_mask.to(self._torch_device)
        grounding = self._model.ground(visual_1VD, ids_1L, padding_1L, maps_1TCHW)
        whole = Window.whole(*frames.shape[1:3])
        answers: dict[int, GroundedFrame] = {}
        for position, frame in enumerate(sample.segmentation):
            if frame not in answers and not should_stop():
                decoded = segmenter.decode_prompted(features[frame], grounding.prompts_BNTC[:, :, position])
                answers[frame] = self._grounded(frame, decoded, whole)
        return tuple(answers.values())

    def _grounded(self, frame: int, decoded: Decoded, whole: Window) -> GroundedFrame:
        mask = paste(decoded.low_res_B1hw[0, 0], whole, whole.height, whole.width)
        return GroundedFrame(frame, mask, float(decoded.score_B.sigmoid()), float(decoded.best_iou_B))

    # Anchors ---------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _start(self, frames: Frames, anchors: tuple[Anchor, ...]) -> _Track:
        """Put the user anchors into memory."""
        config = self._model.config
        memory = ObjectMemory(frames.shape[0], max_anchors=config.max_anchors, num_fifo_frames=config.num_fifo_frames)
        whole = Window.whole(*frames.shape[1:3])
        seen = [a for a in anchors if not a.is_absent]
        track = _Track(memory, {a.frame: a.mask for a in anchors}, whole)
        for anchor in anchors:
            nearest = min(seen, key=lambda a: abs(a.frame - anchor.frame), default=None)
            window = self._window_of(nearest.mask) if nearest is not None else whole
            self._remember_given(frames, track, anchor, window or whole)
        return track

    @torch.inference_mode()
    def _model_anchors(
        self, frames: Frames, track: _Track, grounded: tuple[GroundedFrame, ...], job: Job
    ) -> list[GroundedFrame]:
        """Choose, check against the user's evidence, and remember the model anchors."""
        spread = (
            [grounded[i] for i in spread_anchors(len(grounded), self._model.config.num_anchors)] if grounded else []
        )
        present = [g for g in grounded if g.presence > self._options.presence_threshold and g.mask.any()]
        chosen = [g for g in spread if g in present] or present[:1]
        users = set(track.memory.anchor_frames)
        chosen = [g for g in chosen if g.frame not in users and g.frame not in job.excluded_anchors]
        agreeing = [g for g in chosen if not users or self._agrees(frames, track, g)]
        for g in agreeing:
            window = self._window_of(g.mask) or track.fallback
            self._remember_given(frames, track, Anchor(g.frame, g.mask, AnchorKind.MODEL), window)
            track.masks[g.frame] = g.mask
        return agreeing

    def _agrees(self, frames: Frames, track: _Track, grounded: GroundedFrame) -> bool:
        """Whether the user anchors, read directly, find the same object where language found one."""
        window = self._window_of(grounded.mask) or track.fallback
        features = self._encode(frames, grounded.frame, window)
        decoded = self._model.segmenter.decode_tracked(features, track.memory.view(grounded.frame))
        mask = paste(decoded.low_res_B1hw[0, 0], window, *frames.shape[1:3])
        union = int(np.count_nonzero(mask | grounded.mask))
        return int(np.count_nonzero(mask & grounded.mask)) >= self._options.agreement_iou * max(1, union)

    def _remember_given(self, frames: Frames, track: _Track, anchor: Anchor, window: Window) -> None:
        segmenter = self._model.segmenter
        features = self._encode(frames, anchor.frame, window)
        mask_11SS = mask_tensor(anchor.mask, window, self._model.config.segmenter_config.image_size, self._torch_device)
        entry = segmenter.remember(features, segmenter.decode_given(features, mask_11SS))
        track.memory.add_anchor(anchor.frame, entry, is_user=anchor.kind is AnchorKind.USER)

    # Following -------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _follow(
        self, frames: Frames, track: _Track, leg: Leg, skip: set[int], revision: int, should_stop: Callable[[], bool]
    ) -> Iterator[FrameResult]:
        height, width = frames.shape[1:3]
        track.memory.forget_tracked()
        window = self._first_window(track, leg, Window.whole(height, width))
        segmenter, rule = self._model.segmenter, self._options.window_rule
        for frame in leg.frames:
            if should_stop():
                return
            if frame in skip:
                window = self._window_of(track.masks[frame], window) or window
                continue
            features = self._encode(frames, frame, window)
            decoded = segmenter.decode_tracked(features, track.memory.view(frame, leg.direction))
            track.memory.add_tracked(frame, segmenter.remember(features, decoded))
            mask = paste(decoded.low_res_B1hw[0, 0], window, height, width)
            yield FrameResult(
                frame,
                mask,
                presence=float(decoded.score_B.sigmoid()),
                predicted_iou=float(decoded.best_iou_B),
                provenance=Provenance.PROPAGATED,
                revision=revision,
            )
            if self._options.follow_with_windows:
                window = rule.around(mask, window) or rule.grown(window, (height, width))

    def _first_window(self, track: _Track, leg: Leg, whole: Window) -> Window:
        known = [f for f, mask in track.masks.items() if mask.any()]
        if not known or not leg.frames:
            return whole
        nearest = min(known, key=lambda f: abs(f - leg.frames[0]))
        return self._window_of(track.masks[nearest]) or whole

    def _window_of(self, mask: NDArray[np.bool_], previous: Window | None = None) -> Window | None:
        if not self._options.follow_with_windows:
            return Window.whole(*mask.shape)
        return self._options.window_rule.around(mask, previous)

    def _as_result(self, grounded: GroundedFrame, revision: int) -> FrameResult:
        return FrameResult(
            grounded.frame, grounded.mask, grounded.presence, grounded.predicted_iou, Provenance.PREDICTED, revision
        )

    # Pixels ----------------------------------------------------------------------------------------------------------

    def _encode(self, frames: Frames, frame: int, window: Window) -> ImageFeatures:
        pixels = self._normalised(self._tensor(frames[frame]), self._model.config.segmenter_config.image_size, window)
        features: ImageFeatures = self._model.segmenter.encode(pixels)
        return features

    def _tensor(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 to (1, 3, H, W) float, 0…1."""
        tensor_HW3 = torch.from_numpy(np.ascontiguousarray(image)).to(self._torch_device)
        return tensor_HW3.permute(2, 0, 1)[None].float() / 255

    def _normalised(self, image_13HW: Tensor, size: int, window: Window | None = None) -> Tensor:
        window = window or Window.whole(*image_13HW.shape[-2:])
        # Mid-grey beyond the frame, as in the training scenes with border bars.
        return self._processor.normalise(cut(image_13HW, window, size, fill=0.46))


def load_segmenter(
    model: str | Path = "compact", device: str = "auto", options: PredictorOptions | None = None
) -> Predictor:
    """Wake torch and load a model, ready to follow.

    Parameters
    ----------
    model
        ``"compact"`` for the bundled model, or a folder written by ``save_pretrained`` or ``napari-virst convert``.
    device
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    options
        Choices at inference; by default windows follow the object where the memory readout is ``"affinity"``.

    Raises
    ------
    CheckpointError
        When the folder does not hold a model, or a damaged one.
    DeviceError
        When the device is absent.
    """
    where = pick_device(device)
    virst, processor, name = load_model(model)
    if options is None:
        options = PredictorOptions(follow_with_windows=virst.config.segmenter_config.memory_readout == "affinity")
    return Predictor(virst.to(where), processor, name, options)
