"""A segmenter on torch: grounds a query, then follows it along the video, one frame at a time."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_virst.engine import adapting
from napari_virst.engine.cache import CacheLimits, FeatureCache, weights_hash
from napari_virst.engine.convergence import Convergence
from napari_virst.engine.encoding import VideoEncoder
from napari_virst.engine.explaining import explain
from napari_virst.engine.following import AnchorEntries, FollowedObject, Follower
from napari_virst.engine.grounding import GroundedFrame, Grounder
from napari_virst.engine.loading import load_model, pick_device
from napari_virst.engine.options import PredictorOptions, settle
from napari_virst.engine.pointers import PointerBook
from napari_virst.engine.sweeping import Pursuit, sweep_all
from napari_virst.errors import MaskError, QueryError, SegmentationError, VirstError
from napari_virst.model.anchors import Leg, plan_legs, spread_anchors
from napari_virst.model.backbone import ConvBackbone
from napari_virst.records import FrameResult, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from napari_virst.engine.cache import CacheReport
    from napari_virst.engine.loading import DtypeName
    from napari_virst.engine.preflight import Quantization
    from napari_virst.engine.protocol import Frames
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel
    from napari_virst.records import Job, Learned

__all__ = ["GroundedFrame", "Predictor", "PredictorOptions", "load_segmenter"]

logger = logging.getLogger(__name__)

ENCODING = 2
"""Counts the changes of code after which the same weights give other last digits: it names what lies on disk."""

MIN_CORRECTIONS = 2
"""Below that, no correction can be looked at from another."""


class Predictor:
    """Follows queries along a video with a :class:`VirstModel`.

    Memory is bounded whatever the length of the video: what is remembered of objects is, and what is kept of frames for
    the next query or correction stays within the cache's budgets.

    Parameters
    ----------
    model, processor
        Weights and what prepares their input. Weights of convolutions may be laid out anew in memory.
    name
        What to call the model.
    options
        See :class:`PredictorOptions`.
    """

    def __init__(
        self, model: VirstModel, processor: VirstProcessor, name: str, options: PredictorOptions | None = None
    ) -> None:
        self._model = model.eval()
        if isinstance(model.segmenter.vision_encoder.backbone, ConvBackbone):
            # Its maps are channels last; weights that are not were turned around at every call, a sixth of its time.
            model.segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._processor = processor
        self._name = name
        self._options = options or PredictorOptions()
        self._settings = settle(self._options, model.config)
        self._grounder = Grounder(self._model, processor, self._settings, self._options)
        weight = next(model.parameters())
        limits = self._options.cache or CacheLimits.from_environment()
        self._cache = FeatureCache(limits, weight.device, weight.dtype, self._hash)
        self._entries = AnchorEntries()
        self._pointers = PointerBook()
        self._adapters = adapting.Adapters()

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
        return tuple(self._processor.unknown_words(text)) if text.strip() else ()

    def run(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Iterator[FrameResult]:
        """Compute the frames of ``job.span``; see :meth:`napari_virst.engine.protocol.Segmenter.run`."""
        for _, result in self.run_many(frames, (job,), should_stop):
            yield result

    def run_many(
        self, frames: Frames, jobs: Sequence[Job], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[int, FrameResult]]:
        """Compute several jobs together; see :meth:`napari_virst.engine.protocol.BatchSegmenter.run_many`."""
        for job in jobs:
            _check(job, frames.shape[1:3])
        try:
            yield from self._run_many(frames, jobs, should_stop)
        except VirstError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            spans = ", ".join(dict.fromkeys(str(job.span) for job in jobs))
            raise SegmentationError(f"The model failed on {spans}: {error}") from error
        finally:
            self._cache.save_counters()

    def learn(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Learned | None:
        """Learn from corrections; see :meth:`napari_virst.engine.protocol.LearningSegmenter.learn`."""
        _check(job, frames.shape[1:3])
        try:
            known = self._adapt(self._follower(self._encoder(frames)), frames, job, should_stop)
        except VirstError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise SegmentationError(f"The model failed to learn from corrections: {error}") from error
        return None if known is None else known[1]

    def _adapt(
        self, follower: Follower, frames: Frames, job: Job, should_stop: Callable[[], bool]
    ) -> tuple[nn.Module | None, Learned] | None:
        rule = self._options.learning
        chosen = adapting.choose_lessons(job.anchors, rule.max_corrections)
        if len(chosen) < MIN_CORRECTIONS:
            return None

        def learn() -> tuple[nn.Module | None, Learned] | None:
            """Learn from the corrections, where no adapter of them is kept; None when told to stop."""
            lessons = []
            for anchor in chosen:
                lesson = follower.lesson(job, anchor, should_stop)
                if lesson is None:
                    return None
                lessons.append(lesson)
            features, masks = zip(*lessons, strict=True)
            return adapting.learn(self._model.segmenter, adapting.Lessons.of(features, masks), rule, should_stop)

        key = adapting.corrections_key(f"{frames.fingerprint} {frames.shape}", job.anchors)
        return self._adapters.fetch(key, learn)

    def cache_report(self) -> CacheReport:
        """Return what is kept of videos, and how often it was of use."""
        return self._cache.report()

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
        return VideoEncoder(self._model, self._processor, self._settings, frames, self._cache)

    def _follower(self, video: VideoEncoder) -> Follower:
        return Follower(self._model, self._settings, self._options, video, self._entries, self._pointers)

    def _hash(self) -> str:
        parts = [self._model.segmenter.vision_encoder, self._model.segmenter.mask_decoder]
        language = [self._model.video_tower, self._model.projector]
        return weights_hash(parts + language, self._model.config.segmenter_config.image_size, ENCODING)

    def _run_many(
        self, frames: Frames, jobs: Sequence[Job], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[int, FrameResult]]:
        video = self._encoder(frames)
        follower = self._follower(video)
        pursuits: list[Pursuit] = []
        for index, job in enumerate(jobs):
            grounded = self._grounder.ground(video, job.query.text, should_stop) if job.query.text else ()
            if (job.query.text and not grounded) or should_stop():
                return
            chosen = self._choose_anchors(grounded, job)
            if not chosen and self._has_nothing_to_follow(grounded, job):
                yield from ((index, result) for result in self._nothing(frames, job, grounded, should_stop))
                continue
            thing = follower.object_of(job, self._passing(grounded, job))
            if not follower.add_user_anchors(thing, should_stop):
                return
            learned_before = self._adapters.find(job.adapter)
            adapted = self._adapt(follower, frames, job, should_stop) if job.learn else learned_before
            thing.decoder = adapted[0] if adapted is not None else None
            if should_stop():
                return
            for anchor in self._add_anchors(follower, thing, chosen):
                if anchor.frame in job.span:
                    yield index, _anchor_result(anchor, thing)
            pursuits.append(self._pursuit(index, thing, video.fingerprint))
        yield from sweep_all(follower, video, pursuits, should_stop)

    def _pursuit(self, index: int, thing: FollowedObject, video: str) -> Pursuit:
        job, options = thing.job, self._options
        users = {anchor.frame for anchor in job.anchors} - thing.passing
        skip = thing.passing.union(thing.memory.anchor_frames)
        convergence, known = None, job.known_mask
        if known is not None and any(_holds(known, *demoted) for demoted in thing.demoted.items()):
            known = (
                None  # what is held around it stems from it, however well the anchors agree with what is beside them
            )
        # An adapter changes what is said of any frame, so agreement near an anchor says nothing of the rest.
        may_converge = thing.decoder is None and not self._settings.is_reference
        if known is not None and users and options.convergence_frames and may_converge:
            convergence = Convergence(
                known,
                options.convergence_frames,
                options.convergence_iou,
                partial(self._pointers.find, video),
                options.convergence_cosine,
            )
        return Pursuit(index, thing, self._legs(job, users or {*thing.memory.anchor_frames}), skip, convergence)

    def _legs(self, job: Job, origins: set[int]) -> tuple[Leg, ...]:
        if self._settings.is_reference:
            # Forward from frame 0 whatever is asked for: what a frame reads depends on all frames before it.
            return (Leg(tuple(range(job.span.stop)), 1),)
        absent = {anchor.frame for anchor in job.anchors if anchor.is_absent}
        meet = self._options.directions == "both"
        return plan_legs(job.span, origins, job.focus_frame, absent=absent, meet=meet)

    def _passing(self, grounded: tuple[GroundedFrame, ...], job: Job) -> frozenset[int]:
        """User anchors that do not condition: none, unless corrections are to act as in SAM 2's default."""
        if self._options.correction_memory == "conditioning" or not job.anchors:
            return frozenset()
        conditioning = {g.frame for g in self._choose_anchors(grounded, replace(job, anchors=()))}
        return frozenset(a.frame for a in job.anchors) - (conditioning or {job.anchors[0].frame})

    def _choose_anchors(self, grounded: tuple[GroundedFrame, ...], job: Job) -> tuple[GroundedFrame, ...]:
        """Choose model anchors among the grounded frames: all of them as published, else where the object is."""
        users = {anchor.frame for anchor in job.anchors}
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
        self, follower: Follower, thing: FollowedObject, chosen: tuple[GroundedFrame, ...]
    ) -> list[GroundedFrame]:
        """Remember the chosen anchors that the user's evidence does not contradict."""
        options = self._options
        if not thing.memory.anchor_frames or self._settings.is_reference:
            agreeing = list(chosen)
        else:
            thing.agreements = {g.frame: follower.agreement(thing, g) for g in chosen}
            arbitrates = options.arbitrate and options.correction_memory == "conditioning"
            below = {f for f, agreement in thing.agreements.items() if agreement < options.agreement_iou}
            demoted = below - thing.job.pinned_anchors if arbitrates else set()
            thing.demoted = {g.frame: g.mask for g in chosen if g.frame in demoted}
            agreeing = [g for g in chosen if g.frame not in thing.demoted]
        for grounded in agreeing:
            follower.add_model_anchor(thing, grounded)
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


def _check(job: Job, shape: tuple[int, int]) -> None:
    if not job.query.text and not job.anchors:
        raise QueryError(
            "A track must have words or a mask to follow; got neither; type a query, or paint the object on one frame."
        )
    for anchor in job.anchors:
        if anchor.mask.shape != shape:
            raise MaskError(
                f"A mask must have the shape of the video's frames, {shape}; got {anchor.mask.shape} on frame "
                f"{anchor.frame}; paint it on this video, or resize it."
            )


def _holds(known_mask: Callable[[int], NDArray[np.bool_] | None], frame: int, mask: NDArray[np.bool_]) -> bool:
    held = known_mask(frame)
    return held is not None and np.array_equal(held, mask)


def _anchor_result(anchor: GroundedFrame, thing: FollowedObject) -> FrameResult:
    agreement = thing.agreements.get(anchor.frame, math.nan)
    return FrameResult(
        anchor.frame,
        anchor.mask,
        anchor.presence,
        anchor.predicted_iou,
        Provenance.PREDICTED,
        thing.job.revision,
        agreement,
    )


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
