"""A segmenter on torch: grounds a query, then follows it along the video, one frame at a time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.engine.encoding import VideoEncoder
from napari_virst.engine.explaining import explain
from napari_virst.engine.following import Follower
from napari_virst.engine.grounding import GroundedFrame, Grounder
from napari_virst.engine.loading import load_model, pick_device
from napari_virst.engine.options import PredictorOptions, settle
from napari_virst.errors import QueryError, SegmentationError, VirstError
from napari_virst.model.anchors import Leg, plan_legs, spread_anchors
from napari_virst.records import FrameResult, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    from napari_virst.engine.loading import DtypeName
    from napari_virst.engine.preflight import Quantization
    from napari_virst.engine.protocol import Frames
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel
    from napari_virst.records import Job

__all__ = ["GroundedFrame", "Predictor", "PredictorOptions", "load_segmenter"]

logger = logging.getLogger(__name__)


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
        self._settings = settle(self._options, model.config)
        self._grounder = Grounder(self._model, processor, self._settings, self._options)

    @property
    def name(self) -> str:
        """What to call the model."""
        return self._name

    @property
    def device(self) -> str:
        """Where it runs."""
        device: torch.device = next(self._model.parameters()).device
        return str(device)

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
        return self._grounder.ground(self._encoder(frames), text, should_stop)

    def explain(self, frames: Frames, text: str, should_stop: Callable[[], bool] = lambda: False) -> str:
        """Return the language model's answer, in words, to a question about the video; empty when told to stop.

        Raises
        ------
        QueryError
            When the question is empty, or the model has no words to answer with (the bundled one).
        CheckpointError
            When the model was converted without its vocabulary head.
        SegmentationError
            When the model fails.
        """
        sample = self._grounder.sample(frames.shape[0])
        try:
            return explain(self._model, self._processor, self._encoder(frames), sample, text, should_stop)
        except VirstError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise SegmentationError(f"The model failed to answer: {error}") from error

    def _encoder(self, frames: Frames) -> VideoEncoder:
        return VideoEncoder(self._model, self._processor, self._settings, frames)

    def _run(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Iterator[FrameResult]:
        users = {anchor.frame for anchor in job.anchors}
        video = self._encoder(frames)
        grounded = self._grounder.ground(video, job.query.text, should_stop) if job.query.text else ()
        if should_stop():
            return
        follower = Follower(self._model, self._settings, self._options, video)
        chosen = self._choose_anchors(grounded, users, job)
        if not chosen and self._has_nothing_to_follow(grounded, job):
            yield from self._nothing(frames, job, grounded, should_stop)
            return
        follower.start(job.anchors)
        for anchor in self._add_anchors(follower, chosen, users):
            if anchor.frame in job.span:
                yield FrameResult(
                    anchor.frame,
                    anchor.mask,
                    anchor.presence,
                    anchor.predicted_iou,
                    Provenance.PREDICTED,
                    job.revision,
                )
        skip = set(follower.anchor_frames)
        for leg in self._legs(job, users or skip):
            yield from follower.follow(leg, skip, job.span, job.revision, should_stop)

    def _legs(self, job: Job, origins: set[int]) -> tuple[Leg, ...]:
        if self._settings.is_reference:
            # Forward from frame 0 whatever is asked for: what a frame reads depends on all frames before it.
            return (Leg(tuple(range(job.span.stop)), 1),)
        return plan_legs(job.span, origins, job.focus_frame)

    def _choose_anchors(
        self, grounded: tuple[GroundedFrame, ...], users: set[int], job: Job
    ) -> tuple[GroundedFrame, ...]:
        """Choose model anchors among the grounded frames: all of them as published, else where the object is."""
        taken = users | job.excluded_anchors
        if self._settings.is_reference:
            return tuple(g for g in grounded if g.frame not in taken)
        positions = spread_anchors(len(grounded), self._settings.num_anchors) if grounded else ()
        present = [g for g in grounded if self._is_present(g)]
        chosen = [g for g in (grounded[i] for i in positions) if g in present] or present[:1]
        free = [g for g in chosen if g.frame not in taken]
        if not free and not users:  # every one was excluded: any other frame that shows the object
            free = [g for g in present if g.frame not in taken][:1]
        return tuple(free)

    def _is_present(self, grounded: GroundedFrame) -> bool:
        return grounded.presence > self._options.presence_threshold and bool(grounded.mask.any())

    def _has_nothing_to_follow(self, grounded: tuple[GroundedFrame, ...], job: Job) -> bool:
        """Whether, without a model anchor, no evidence of the object is left."""
        if not job.anchors:
            return True
        return all(anchor.is_absent for anchor in job.anchors) and not any(map(self._is_present, grounded))

    def _add_anchors(
        self, follower: Follower, chosen: tuple[GroundedFrame, ...], users: set[int]
    ) -> list[GroundedFrame]:
        """Remember the chosen anchors that the user's evidence does not contradict."""
        check = bool(users) and not self._settings.is_reference
        agreeing = [g for g in chosen if not check or follower.agrees(g)]
        for grounded in agreeing:
            follower.add_model_anchor(grounded)
        return agreeing

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


def load_segmenter(
    model: str | Path = "compact",
    device: str = "auto",
    options: PredictorOptions | None = None,
    *,
    dtype: DtypeName = "auto",
    quantization: Quantization | None = None,
    offload: bool = False,
) -> Predictor:
    """Wake torch and load a model, ready to follow.

    Parameters
    ----------
    model
        ``"compact"`` for the bundled model, a folder written by ``save_pretrained`` or ``napari-virst convert``, or
        owner/name on Hugging Face.
    device
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    options
        Choices at inference; by default the preset that the model's configuration names.
    dtype, quantization, offload
        How a large model is made to fit; see :func:`napari_virst.engine.loading.load_model`.

    Raises
    ------
    CheckpointError
        When the folder does not hold a model, or a damaged one.
    DeviceError
        When the device is absent, or the model does not fit on it.
    """
    where = pick_device(device)
    virst, processor, name = load_model(model, device=where, dtype=dtype, quantization=quantization, offload=offload)
    return Predictor(virst, processor, name, options)
